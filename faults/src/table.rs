//! The table in `docs/faults.md`.

use std::time::Duration;

use sluice_e2e::{Context, Result};

use crate::faults::{FAULTS, Fault};
use crate::run::Outcome;

/// Between these the document's table is, and is replaced.
const BEGIN: &str = "<!-- `make faults` writes what follows -->";
const END: &str = "<!-- `make faults` wrote what precedes -->";

const HEAD: &[&str] = &[
    "fault",
    "mode",
    "sent",
    "2xx",
    "503",
    "504",
    "other",
    "lost",
    "the sidecar tells",
    "duplicates",
    "stored though failed",
    "unanswered",
    "order broken",
    "s without 2xx",
    "recovered after",
    "p50 / p99 / longest",
    "sidecar MB",
];

/// The outcomes as a table.
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = row(HEAD.iter().map(|cell| (*cell).to_owned()));
    text += &row(HEAD.iter().map(|_| "---".to_owned()));
    for outcome in outcomes {
        text += &line(outcome);
    }
    text
}

/// One of its lines.
pub fn line(outcome: &Outcome) -> String {
    row(cells(outcome))
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

fn cells(outcome: &Outcome) -> Vec<String> {
    let (counts, seen) = (&outcome.counts, &outcome.seen);
    let others: Vec<String> = counts
        .others
        .iter()
        .map(|(status, count)| format!("{count} × {status}"))
        .chain((counts.poison_refused > 0).then(|| format!("{} × 413", counts.poison_refused)))
        .collect();
    let told = match (outcome.lost.surely, outcome.lost.perhaps) {
        (0, 0) => "0".to_owned(),
        (surely, 0) => surely.to_string(),
        (surely, perhaps) => format!("{surely} to {}", surely + perhaps),
    };
    let place = if outcome.broken.is_empty() { "" } else { " **✗**" };
    vec![
        format!("{}{place}", outcome.fault),
        outcome.mode.to_owned(),
        counts.sent.to_string(),
        counts.success.to_string(),
        counts.refused.to_string(),
        counts.unknown.to_string(),
        if others.is_empty() {
            "0".to_owned()
        } else {
            others.join(", ")
        },
        counts.lost.to_string(),
        told,
        counts.duplicates.to_string(),
        counts.stored_though_failed.to_string(),
        counts.unanswered.to_string(),
        counts.order_broken.to_string(),
        seen.silent_seconds.to_string(),
        seconds(seen.recovered_after),
        format!(
            "{} / {} / {}",
            seconds(seen.p50),
            seconds(seen.p99),
            seconds(seen.longest)
        ),
        outcome.peak.map_or_else(String::new, |mb| mb.to_string()),
    ]
}

fn seconds(time: Duration) -> String {
    let ms = time.as_millis();
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// What each fault is, as a table.
fn legend(faults: &[Fault]) -> String {
    let mut text = row(["fault", "what happens"].map(str::to_owned));
    text += &row(["---", "---"].map(str::to_owned));
    for fault in faults {
        text += &row([fault.name.to_owned(), fault.what.to_owned()]);
    }
    text
}

/// Replaces the tables of the document.
///
/// # Errors
/// When the document has no place for them.
pub fn write(document: &str, outcomes: &[Outcome]) -> Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .context("the document has no place for the table")?;
    let (_, after) = rest
        .split_once(END)
        .context("the document has no end of the table")?;
    let broken: String = outcomes
        .iter()
        .flat_map(|outcome| {
            let line = move |what: &String| format!("- {}, {}: {what}\n", outcome.fault, outcome.mode);
            outcome.broken.iter().map(line)
        })
        .collect();
    let broken = if broken.is_empty() {
        "Nothing was broken.\n".to_owned()
    } else {
        broken
    };
    Ok(format!(
        "{before}{BEGIN}\n\n{}\n{}\n### Not kept\n\n{broken}\n{END}{after}",
        legend(FAULTS),
        render(outcomes)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = format!("before\n{BEGIN}\nstale rows\n{END}\nafter\n");
        let written = write(&document, &[]).unwrap();
        assert!(written.starts_with("before\n") && written.ends_with("\nafter\n"));
        assert!(!written.contains("stale rows") && written.contains("broker-stop"));
        assert_eq!(write(&written, &[]).unwrap(), written);
        assert!(write("nothing", &[]).is_err());
    }
}

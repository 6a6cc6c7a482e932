//! The table in `docs/faults.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_e2e::{Context, Result};

use crate::faults::{FAULTS, Fault};
use crate::mode::MODES;
use crate::run::Outcome;
use crate::told::Told;

/// Replaces what the document has between the marks of `name`.
///
/// # Errors
/// When it has no such marks.
pub fn replace(document: &str, name: &str, text: &str) -> Result<String> {
    let (before, _, after) = parts(document, name)?;
    Ok(format!("{before}\n\n{text}\n{after}"))
}

/// A document up to and with the first mark of `name`, what is between the two, and the rest from the second on.
fn parts<'a>(document: &'a str, name: &str) -> Result<(&'a str, &'a str, &'a str)> {
    let (begin, end) = (
        format!("<!-- {name}: generated -->"),
        format!("<!-- {name}: end -->"),
    );
    let first = document.find(&begin).with_context(|| format!("no {begin}"))? + begin.len();
    let (before, rest) = document.split_at(first);
    let second = rest.find(&end).with_context(|| format!("no {end}"))?;
    let (between, after) = rest.split_at(second);
    Ok((before, between, after))
}

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
    "not kept",
];

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
    let told = told(&outcome.told);
    vec![
        outcome.fault.to_owned(),
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
        outcome.peak.map_or_else(|| "–".to_owned(), |mb| mb.to_string()),
        outcome.broken.join("; "),
    ]
}

/// What the sidecar tells, as far as there is something to tell.
fn told(told: &Told) -> String {
    let lost = match (told.lost, told.perhaps_lost) {
        (surely, 0) => surely.to_string(),
        (surely, perhaps) => format!("{surely} to {}", surely + perhaps),
    };
    let parts = [
        (told.lost + told.perhaps_lost, lost),
        (told.leader_lost, told.leader_lost.to_string()),
        (told.dead_letters, format!("{} dead letters", told.dead_letters)),
        (
            told.perhaps_twice,
            format!("{} perhaps twice", told.perhaps_twice),
        ),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(_, text)| text).collect();
    if parts.is_empty() {
        return "0".to_owned();
    }
    parts.join(", ")
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

/// The fault and the mode of a row.
fn named(row: &str) -> (&str, &str) {
    let mut cells = row.split('|').map(str::trim).skip(1);
    (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
}

/// Where a row is, if there is such a fault that is run in such a mode.
fn place((fault, mode): (&str, &str)) -> Option<(usize, usize)> {
    let fault = FAULTS.iter().position(|known| known.name == fault)?;
    let mode = MODES.iter().position(|known| known.name == mode)?;
    let meet = FAULTS.get(fault)?.meets(MODES.get(mode)?);
    meet.then_some((fault, mode))
}

/// Whether the document has a row for the fault in the mode.
///
/// # Errors
/// When the document has no place for the table.
pub fn has(document: &str, fault: &str, mode: &str) -> Result<bool> {
    let mut rows = parts(document, "faults")?.1.lines().map(named);
    Ok(rows.any(|row| row == (fault, mode)))
}

/// The document with the outcomes in its table: a row for each, in the place of an older one. Rows of other faults
/// stay, unless there is no such fault any more.
///
/// # Errors
/// When the document has no place for the table.
pub fn update(document: &str, outcomes: &[Outcome]) -> Result<String> {
    let mut rows = BTreeMap::new();
    for old in parts(document, "faults")?.1.lines() {
        rows.extend(place(named(old)).map(|place| (place, format!("{old}\n"))));
    }
    for new in outcomes {
        rows.extend(place((new.fault, new.mode)).map(|place| (place, line(new))));
    }
    let mut text = legend(&FAULTS) + "\n";
    text += &row(HEAD.iter().map(|cell| (*cell).to_owned()));
    text += &row(HEAD.iter().map(|_| "---".to_owned()));
    text.extend(rows.into_values());
    replace(document, "faults", &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Counts, Seen};

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "before\n<!-- a: generated -->\nstale\n<!-- a: end -->\nafter\n";
        let written = replace(document, "a", "new\n").unwrap();
        assert_eq!(
            written,
            "before\n<!-- a: generated -->\n\nnew\n\n<!-- a: end -->\nafter\n"
        );
        assert_eq!(replace(&written, "a", "new\n").unwrap(), written);
        assert!(replace(document, "b", "").is_err());
    }

    #[test]
    fn a_row_replaces_its_older_one_and_leaves_the_others() {
        let outcome = Outcome {
            fault: "broker-kill",
            mode: "acked",
            counts: Counts::default(),
            seen: Seen::default(),
            told: Told::default(),
            peak: None,
            broken: vec!["a promise".to_owned()],
        };
        let old = "| broker-kill | acked | 7 |\n| broker-kill | buffered | 8 |\n| no-fault | acked | 9 |\n";
        let document = replace("<!-- faults: generated --><!-- faults: end -->", "faults", old).unwrap();
        let updated = update(&document, &[outcome]).unwrap();
        assert!(updated.contains("a promise") && updated.contains("| broker-kill | buffered | 8 |"));
        assert!(!updated.contains("| 7 |") && !updated.contains("no-fault"));
        assert!(has(&updated, "broker-kill", "buffered").unwrap());
        assert!(!has(&updated, "broker-kill", "spooled").unwrap());
        assert_eq!(update(&updated, &[]).unwrap(), updated);
    }

    #[test]
    fn the_document_has_a_place_for_each() {
        let document = include_str!("../../docs/faults.md");
        update(document, &[]).unwrap();
        replace(document, "soak", "").unwrap();
    }
}

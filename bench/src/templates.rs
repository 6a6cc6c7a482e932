//! Payload templates: what it costs to make a record's value by expressions, and to compile them.
//!
//! The sidecar's engine alone, in this process: a record in, a record out, one after the other.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value as Json, json};
use sluice::metrics::TemplateMetrics;
use sluice::templates::{Definition, Settings, Templates};
use sluice_e2e::{Context, Result, ensure};
use sluice_proto::v1::{Record, Template};

use crate::options::Options;
use crate::stats::median;

/// How many bytes the body has, about.
const BODY: usize = 1024;
/// How many expressions a template has.
const EXPRESSIONS: usize = 10;
/// How long a record may take; only one that hangs does.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured: nothing to choose.
#[derive(Debug, Args)]
pub(crate) struct TemplatesBench {}

/// Measures it, and prints what came out.
///
/// # Errors
/// A template does not give what it must.
pub(crate) fn run(_: &TemplatesBench, options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (rounds, window) = match options.quick {
        true => (3, Duration::from_millis(100)),
        false => (options.rounds, Duration::from_secs_f64(options.seconds)),
    };
    let body = body();
    println!(
        "\nA body of {} bytes, templates of {EXPRESSIONS} expressions, medians of {rounds} rounds of {window:?}:\n\n\
         | template | us a record | us to compile |\n|---|---|---|",
        body.len()
    );
    for (name, definition) in definitions() {
        let text = definition.to_string();
        let begun = Instant::now();
        Definition::compile(&text).map_err(sluice_e2e::Error::msg)?;
        let compiled = begun.elapsed();
        let record = record(&text, &body);
        let mut costs = Vec::new();
        for _ in 0..rounds {
            costs.push(runtime.block_on(cost(&record, window))?);
        }
        let cost = median(costs.iter().copied()).context("no rounds")?;
        println!("| {name} | {cost:.1} | {:.0} |", compiled.as_secs_f64() * 1e6);
    }
    Ok(())
}

/// A JSON object of so many bytes, as many members as there are expressions.
fn body() -> String {
    let value = "x".repeat(BODY / EXPRESSIONS - 8);
    let members = (0..EXPRESSIONS).map(|n| (format!("f{n}"), json!(value)));
    Json::Object(members.collect::<Map<_, _>>()).to_string()
}

/// Each template by what it does. No expression is there twice: the sidecar would compile it once.
fn definitions() -> Vec<(&'static str, Json)> {
    let members = |text: &dyn Fn(usize) -> String| {
        let all = (0..EXPRESSIONS).map(|n| (format!("m{n}"), json!(text(n))));
        json!({ "payload": all.collect::<Map<_, _>>() })
    };
    vec![
        ("ten paths", members(&|n| format!("{{{{ .inputs.f{n} }}}}"))),
        (
            "ten paths through a function",
            members(&|n| format!("{{{{ .inputs.f{n} | ascii_upcase }}}}")),
        ),
        (
            "ten paths in text",
            members(&|n| format!("f{n}={{{{ .inputs[\"f{n}\"] }}}}.")),
        ),
        (
            "nine paths beside the inputs, spread",
            json!({ "payload": { "{{ spreadValue() }}": "{{ .inputs }}", "of": (1..EXPRESSIONS).map(|n| format!("{{{{ .inputs | .f{n} }}}}")).collect::<Vec<_>>() } }),
        ),
    ]
}

fn record(definition: &str, body: &str) -> Record {
    Record {
        template: Some(Template {
            definition: definition.to_owned(),
            inputs: Some(body.as_bytes().to_vec().into()),
            method: "POST".into(),
            path: "/orders".into(),
            topics: vec!["orders".to_owned()],
            ..Template::default()
        }),
        ..Record::default()
    }
}

/// Microseconds a record, over `window`.
async fn cost(record: &Record, window: Duration) -> Result<f64> {
    let templates = Templates::new(Settings::default(), TemplateMetrics::default());
    let until = Instant::now() + PATIENCE;
    let render = async || {
        let made = templates.render(record.clone(), until).await;
        let made = made.map_err(|failure| sluice_e2e::Error::msg(failure.message))?;
        let value = made.record.value.context("no value was made")?;
        ensure!(value.len() > BODY / 2, "a value of {} bytes", value.len());
        Ok::<_, sluice_e2e::Error>(())
    };
    for _ in 0..100 {
        render().await?;
    }
    let begun = Instant::now();
    let mut records = 0_u32;
    while begun.elapsed() < window {
        render().await?;
        records += 1;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_what_its_name_says() {
        assert!(
            (BODY - 200..=BODY + 100).contains(&body().len()),
            "{}",
            body().len()
        );
        for (name, definition) in definitions() {
            let text = definition.to_string();
            assert_eq!(text.matches("{{ .inputs").count(), EXPRESSIONS, "{name}");
            Definition::compile(&text).unwrap();
        }
    }
}

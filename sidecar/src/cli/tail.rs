//! `sluice tail`

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::{Environment, Failure, complain, format, target};
use crate::config::check_topic;
use crate::kafka::consumer::{Next, Reader, Selection};

/// How long one wait for a record is.
const WAIT: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topic
    topic: String,
    /// One partition only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Start with the first record that is there, not with the next one
    #[arg(long)]
    from_beginning: bool,
    /// Stop when no record has come for this long
    #[arg(long, value_name = "N")]
    timeout_ms: Option<u64>,
    /// Print each record as a JSON object
    #[arg(long)]
    json: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    #[command(flatten)]
    target: target::Arguments,
}

/// Prints records until it has enough, or for ever.
pub(super) fn run(arguments: &Arguments, environment: Environment) -> Result<(), Failure> {
    check_topic(&arguments.topic).map_err(Failure::Other)?;
    let connection = arguments.target.resolve(environment)?.for_reading()?;
    let selection = Selection {
        topic: arguments.topic.clone(),
        partition: arguments.partition,
        from_beginning: arguments.from_beginning,
    };
    let mut reader = Reader::open(connection, selection)?;
    if !arguments.from_beginning {
        let partitions = reader.partitions().len();
        let plural = if partitions == 1 { "" } else { "s" };
        complain(&format!(
            "sluice: waiting for records in {partitions} partition{plural} of {}",
            arguments.topic
        ));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let timeout = arguments.timeout_ms.map(Duration::from_millis);
    let mut last = Instant::now();
    let mut left = arguments.max;
    let mut trouble = String::new();
    loop {
        let quiet = timeout.map(|timeout| timeout.saturating_sub(last.elapsed()));
        if quiet == Some(Duration::ZERO) {
            return Ok(out.flush()?);
        }
        // What is at hand is printed in one go.
        let next = match reader.next(Duration::ZERO)? {
            Next::Nothing => {
                out.flush()?;
                reader.next(quiet.unwrap_or(WAIT).min(WAIT))?
            }
            other => other,
        };
        match next {
            Next::Record(record) => {
                let text = if arguments.json {
                    format::json(&record)
                } else {
                    format::line(&record)
                };
                writeln!(out, "{text}")?;
                last = Instant::now();
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    return Ok(out.flush()?);
                }
            }
            // librdkafka repeats itself while a broker is down.
            Next::Trouble(now) if now != trouble => {
                complain(&format!("sluice: {now}"));
                trouble = now;
            }
            Next::Trouble(_) | Next::Nothing => {}
        }
    }
}

//! `sluice send`

use std::io::{Read, Write};

use clap::Args;

use super::{Environment, Failure, block_on, target};
use crate::config::check_topic;
use crate::kafka::sender::{self, Record};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topic
    topic: String,
    /// The value [default: all of standard input]
    #[arg(conflicts_with = "tombstone")]
    value: Option<String>,
    /// The key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A record header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The partition [default: as the key says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Write a record without a value, which deletes its key from a compacted topic
    #[arg(long)]
    tombstone: bool,
    #[command(flatten)]
    target: target::Arguments,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Writes the record and prints where it is: `orders 0@17`.
pub(super) fn run(arguments: Arguments, environment: Environment) -> Result<(), Failure> {
    check_topic(&arguments.topic).map_err(Failure::Other)?;
    let connection = arguments.target.resolve(environment)?.for_writing()?;
    let value = match arguments.value {
        _ if arguments.tombstone => None,
        Some(value) => Some(value.into_bytes()),
        None => {
            let mut value = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut value);
            read.map_err(|error| Failure::Other(format!("cannot read standard input: {error}")))?;
            Some(value)
        }
    };
    let record = Record {
        topic: arguments.topic,
        partition: arguments.partition,
        key: arguments.key.map(String::into_bytes),
        headers: arguments.headers,
        value,
    };
    let topic = record.topic.clone();
    let (partition, offset) = block_on(sender::send(&connection, record))??;
    writeln!(std::io::stdout(), "{topic} {partition}@{offset}")?;
    Ok(())
}

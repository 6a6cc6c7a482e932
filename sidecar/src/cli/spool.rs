//! `sluice spool`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Environment, Failure, admin, block_on, target};
use crate::database::Trouble;
use crate::spool::desk::{AT_ONCE, Closed, Desk, Order};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The sidecar's configuration
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "sluice.yaml",
        global = true
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits for Kafka, topic by topic, and the dead letters
    Ls {
        /// Each record that waits, too
        #[arg(long)]
        records: bool,
    },
    /// Print one dead letter, or record that waits, as JSON
    Show {
        /// Its number
        id: u64,
    },
    /// Deliver dead letters after all, behind what waits
    Replay(Picked),
    /// Forget dead letters
    Drop {
        #[command(flatten)]
        picked: Picked,
        /// Forget records that wait for Kafka, instead of dead letters: they are never delivered
        #[arg(long, conflicts_with = "all")]
        waiting: bool,
    },
}

#[derive(Debug, Args)]
struct Picked {
    /// Their numbers
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<u64>,
    /// Every one that there is
    #[arg(long)]
    all: bool,
}

impl Picked {
    fn numbers(self) -> Option<Vec<u64>> {
        (!self.all).then_some(self.ids)
    }
}

/// Opens the spool, or asks the sidecar that has it open.
pub(super) fn run(arguments: Arguments, environment: Environment) -> Result<(), Failure> {
    let config = target::load(&arguments.config, environment)?.config;
    let file = arguments.config.display();
    let Some(settings) = &config.spool else {
        let line = format!("{file}: spool: is not there: it has the directory");
        return Err(Failure::Config(vec![line]));
    };
    let closed = match Closed::open(&settings.directory) {
        Ok(closed) => closed,
        Err(error) if matches!(error.trouble, Trouble::InUse(_)) => {
            let ask = |order: &Order| block_on(admin::spool(&config.listeners.admin, order))?;
            return carry_out(arguments.command, &ask);
        }
        Err(error) => return Err(Failure::Other(error.to_string())),
    };
    let closed = closed.ok_or_else(|| none(&settings.directory))?;
    carry_out(arguments.command, &|order| {
        closed.carry_out(order).map_err(Failure::Other)
    })
}

fn none(directory: &Path) -> Failure {
    Failure::Other(format!("there is no spool in {}", directory.display()))
}

type Ask<'a> = &'a dyn Fn(&Order) -> Result<Value, Failure>;

fn carry_out(command: Command, ask: Ask<'_>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Ls { records } => {
            list(&mut out, ask)?;
            if records {
                waiting(&mut out, ask)?;
            }
        }
        Command::Show { id } => writeln!(out, "{}", ask(&Order::Show(id))?)?,
        Command::Replay(picked) => {
            let told = ask(&Order::Replay(picked.numbers()))?;
            writeln!(out, "replayed {}", number(&told, "replayed"))?;
        }
        Command::Drop {
            picked,
            waiting: true,
        } => discard(&mut out, &picked.ids, ask)?,
        Command::Drop { picked, .. } => {
            let told = ask(&Order::Drop(picked.numbers()))?;
            writeln!(out, "dropped {}", number(&told, "dropped"))?;
        }
    }
    Ok(())
}

fn list(out: &mut impl Write, ask: Ask<'_>) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let told = ask(&Order::List { after })?;
        if after == 0 {
            for lane in rows(&told, "lanes") {
                if let Some(why) = lane.get("unreadable").and_then(Value::as_str) {
                    writeln!(out, "unreadable lane {}: {why}", number(lane, "lane"))?;
                    continue;
                }
                writeln!(
                    out,
                    "{} {} {} records={} bytes={} oldest={}",
                    text(lane, "cluster"),
                    text(lane, "producer"),
                    text(lane, "topic"),
                    number(lane, "records"),
                    number(lane, "bytes"),
                    time(lane, "oldest_ms"),
                )?;
            }
        }
        let letters = rows(&told, "dead_letters");
        for letter in letters {
            writeln!(
                out,
                "dead {} {} {} {} spooled={} given-up={} {}: {}",
                number(letter, "id"),
                text(letter, "cluster"),
                text(letter, "producer"),
                text(letter, "topic"),
                time(letter, "spooled_ms"),
                time(letter, "given_up_ms"),
                text(letter, "code"),
                text(letter, "reason"),
            )?;
        }
        match letters.last() {
            Some(last) if letters.len() >= AT_ONCE => after = number(last, "id"),
            _ => return Ok(()),
        }
    }
}

/// Lists the records that wait.
fn waiting(out: &mut impl Write, ask: Ask<'_>) -> Result<(), Failure> {
    let (mut lane, mut after) = (0, 0);
    loop {
        let told = ask(&Order::Waiting { lane, after })?;
        let records = rows(&told, "records");
        for record in records {
            let bytes = number(record, "bytes");
            writeln!(out, "waiting {} bytes={bytes}", one(record))?;
        }
        let Some(last) = records.last() else {
            return Ok(());
        };
        (lane, after) = (number(last, "lane"), number(last, "id"));
    }
}

/// Forgets records that wait.
fn discard(out: &mut impl Write, ids: &[u64], ask: Ask<'_>) -> Result<(), Failure> {
    let mut under_way = Vec::new();
    let mut dropped = 0;
    for ids in ids.chunks(AT_ONCE) {
        let told = ask(&Order::Discard(ids.to_vec()))?;
        for record in rows(&told, "dropped") {
            writeln!(out, "dropped {}", one(record))?;
            dropped += 1;
        }
        under_way.extend(rows(&told, "under_way").iter().map(Value::to_string));
    }
    writeln!(out, "dropped {dropped}")?;
    if under_way.is_empty() {
        return Ok(());
    }
    let ids = under_way.join(", ");
    Err(Failure::Other(format!(
        "not dropped, since they are on their way to Kafka: {ids}"
    )))
}

/// Which record it is, and when it was spooled.
fn one(record: &Value) -> String {
    format!(
        "{} {} {} {} spooled={}",
        number(record, "id"),
        text(record, "cluster"),
        text(record, "producer"),
        text(record, "topic"),
        time(record, "spooled_ms"),
    )
}

fn rows<'a>(told: &'a Value, name: &str) -> &'a [Value] {
    let rows = told.get(name).and_then(Value::as_array);
    rows.map(Vec::as_slice).unwrap_or_default()
}

fn number(told: &Value, name: &str) -> u64 {
    told.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn text<'a>(told: &'a Value, name: &str) -> &'a str {
    told.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// UTC; `-` if it is not known.
fn time(told: &Value, name: &str) -> String {
    let ms = told.get(name).and_then(Value::as_u64);
    let time = ms.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    time.map_or_else(
        || "-".to_owned(),
        |time| humantime::format_rfc3339_millis(time).to_string(),
    )
}

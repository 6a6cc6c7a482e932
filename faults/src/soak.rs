//! All modes at once for long, with brokers and sidecar restarted at random.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_e2e::rig::Rig;
use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::{Context, Result};
use tokio::time::{Instant, sleep};

use crate::compare::{Counts, Meanwhile, compare, percentile};
use crate::evidence;
use crate::faults::Keeps;
use crate::ledger::Entry;
use crate::load::{Load, Plan};
use crate::mode::Mode;
use crate::run::judge;
use crate::told::{Counters, LOOK, Told};
use crate::world::{Ground, Shape, kept_in, memory, settled};

/// Starting, ending and reading back.
const AROUND: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);
/// Requests a second, in each mode.
const RATE: u32 = 50;
/// How many kilobytes the spool may take more than twice what it did: as much as an outage of a broker leaves in it.
const SPOOL_KB: u64 = 4096;
/// How many accepted records a sidecar that is killed may take with it.
const UNTOLD: usize = 200;
/// How many spooled records that it had just delivered are there twice then.
const UNTOLD_TWICE: usize = 50;

/// What came of it.
#[derive(Debug)]
pub struct Soaked {
    /// For docs/faults.md.
    pub text: String,
    /// What was promised and not kept.
    pub broken: Vec<String>,
}

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub struct Plans {
    /// How long.
    pub minutes: u32,
    /// What decides when something is restarted, and what; the time, where there is none.
    pub seed: Option<u64>,
    /// The seconds from one restart to the next, at most.
    pub pause: u64,
}

impl Plans {
    /// So many minutes as `make soak` has them.
    pub fn new(minutes: u32) -> Self {
        Self {
            minutes,
            seed: None,
            pause: 25,
        }
    }
}

/// Soaks in these modes. What was not kept, if anything, is told record by record in files beside the logs, and all of them
/// stay.
///
/// # Errors
/// When it could not be done.
pub fn soak(plans: Plans, modes: &[Mode]) -> Result<Soaked> {
    let limit = MINUTE * plans.minutes + AROUND;
    scenario_within(limit, "faults-soak", async |s| run(s, plans, modes).await)
}

/// Numbers that nobody expects: xorshift, since nothing depends on how good they are.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// What was done, and the sidecar's memory and the kilobytes that its spool takes on the disk, at their times.
#[derive(Debug, Default)]
struct Events {
    broker: usize,
    drained: usize,
    killed: usize,
    memory: Vec<(Duration, u64)>,
    spool: Vec<(Duration, u64)>,
    log: Vec<evidence::Event>,
}

impl Events {
    fn note(&mut self, what: String) {
        self.log.push((SystemTime::now(), what));
    }
}

/// What librdkafka is asked to tell about idempotence; it is in the sidecar's log where `RUST_LOG` lets it through.
const SETTINGS: &[(&str, &str)] = &[("clusters/main/properties", r#"{"debug": "eos"}"#)];

async fn run(s: &Scenario, plans: Plans, modes: &[Mode]) -> Result<Soaked> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    // No number comes out of zero.
    let seed = plans.seed.unwrap_or(now) | 1;
    println!("seed {seed}");
    let minutes = plans.minutes;
    let mut ground = Ground::start(s, Shape::Three).await?;
    let mut rig = ground.gateway(s, modes, SETTINGS).await?;
    let counters = Counters::watch(rig.sidecar.admin());
    let plan = Plan {
        rate: RATE,
        ..Plan::default()
    };
    let spool = kept_in(s, modes).join("spool");
    let begin = Instant::now();
    let mut loads: Vec<Load> = modes
        .iter()
        .map(|mode| Load::start(rig.envoy.h1(), &mode.path(), plan.clone()))
        .collect();
    let mut events = Events::default();
    let mut chance = Chance(seed);
    let until = begin + MINUTE * minutes;
    while Instant::now() < until {
        let shortest = plans.pause / 5;
        let pause = Duration::from_secs(shortest + chance.below(plans.pause - shortest));
        let pause = begin.elapsed() + pause;
        while begin.elapsed() < pause && Instant::now() < until {
            let pid = rig.sidecar.pid().context("no sidecar")?;
            events
                .memory
                .extend(memory(pid, "VmRSS:").map(|mb| (begin.elapsed(), mb)));
            events.spool.push((begin.elapsed(), kilobytes(&spool)));
            sleep(Duration::from_secs(1)).await;
        }
        disturb(&mut ground, &mut rig, &mut chance, &mut events).await?;
    }
    // Whatever was last is over.
    sleep(Duration::from_secs(10)).await;
    let mut ledgers = Vec::new();
    for load in &mut loads {
        ledgers.push(load.finish().await?);
    }
    settled(&rig).await?;
    rig.envoy.healthy()?;
    sleep(LOOK * 3).await;
    let told = counters.told();
    let mut all = Vec::new();
    for ((mode, ledger), load) in modes.iter().zip(ledgers).zip(&loads) {
        let topic = mode.topic(s);
        let records = ground.kafka.records(&topic).await?;
        let counts = compare(&ledger, &records, &Meanwhile::default());
        if !promised(mode, &counts, told, &events).is_empty() {
            let batches = ground.kafka.batches(&topic)?;
            let run = evidence::Run {
                began: load.began(),
                ledger: &ledger,
                records: &records,
                batches: &batches,
                counts: &counts,
                events: &events.log,
            };
            run.keep(s, mode.name)?;
        }
        all.push((*mode, counts, ledger));
    }
    Ok(report(minutes, &all, told, &events))
}

/// What the files in a directory take.
fn kilobytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.sum::<u64>() / 1024
}

/// Restarts something, one way or the other.
async fn disturb(ground: &mut Ground, rig: &mut Rig, chance: &mut Chance, events: &mut Events) -> Result<()> {
    match chance.below(6) {
        0 => {
            events.note("the sidecar is told to end".to_owned());
            rig.sidecar.stop(Duration::from_secs(30)).await?;
            rig.sidecar.restart().await?;
            events.note("the sidecar is there again".to_owned());
            events.drained += 1;
        }
        1 => {
            events.note("the sidecar is killed".to_owned());
            rig.sidecar.kill()?;
            sleep(Duration::from_millis(chance.below(2000))).await;
            rig.sidecar.restart().await?;
            events.note("the sidecar is there again".to_owned());
            events.killed += 1;
        }
        way => {
            // Broker 1 is the controller too.
            let id = usize::try_from(1 + chance.below(3))?;
            let node = ground.kafka.node(id)?;
            if way % 2 == 0 {
                events.note(format!("broker {id} is killed"));
                node.kill()?;
            } else {
                events.note(format!("broker {id} is told to end"));
                node.stop().await?;
            }
            sleep(Duration::from_millis(chance.below(8000))).await;
            node.restart().await?;
            events.note(format!("broker {id} is there again"));
            events.broker += 1;
        }
    }
    Ok(())
}

/// What was promised in a mode and not kept.
fn promised(mode: &Mode, counts: &Counts, told: Told, events: &Events) -> Vec<String> {
    let keeps = Keeps {
        recovers_within: Duration::MAX,
        answers: &[],
        untold: UNTOLD * events.killed,
        untold_twice: UNTOLD_TWICE * events.killed,
        ends: false,
        felt: false,
        modes: &[],
        sheds: None,
    };
    judge(counts, &Default::default(), told, mode, &keeps)
}

fn report(minutes: u32, all: &[(Mode, Counts, Vec<Entry>)], told: Told, events: &Events) -> Soaked {
    let mut broken = Vec::new();
    let mut text = format!(
        "{minutes} minutes: {} restarts of a broker, {} drains and {} kills of the sidecar.\n\n\
         | mode | sent | 2xx | 503 | 504 | lost | duplicates | stored though failed | unanswered | order broken |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        events.broker, events.drained, events.killed
    );
    for (mode, counts, _) in all {
        let found = promised(mode, counts, told, events);
        broken.extend(found.iter().map(|what| format!("{}: {what}", mode.name)));
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            mode.name,
            counts.sent,
            counts.success,
            counts.refused,
            counts.unknown,
            counts.lost,
            counts.duplicates,
            counts.stored_though_failed,
            counts.unanswered,
            counts.order_broken
        );
    }
    text += &format!(
        "\nThe sidecar tells {} to {} of the buffered ones lost, {} of those with acks=1; {} dead letters, {} attempts for \
         spooled ones after one that may have been stored.\n\n",
        told.lost,
        told.lost + told.perhaps_lost,
        told.leader_lost,
        told.dead_letters,
        told.perhaps_twice
    );
    text += "| minute | sidecar MB | spool KB |";
    all.iter()
        .for_each(|(mode, ..)| text += &format!(" {} p50 / p99 ms |", mode.name));
    text += &format!("\n| --- | --- | --- |{}\n", " --- |".repeat(all.len()));
    let mut medians: Vec<Vec<Duration>> = vec![Vec::new(); all.len()];
    let (mut memories, mut spools) = (Vec::new(), Vec::new());
    for minute in 0..minutes {
        let during = |at: Duration| at.as_secs() / 60 == u64::from(minute);
        let most = |of: &[(Duration, u64)]| {
            let then = of.iter().filter(|(at, _)| during(*at));
            then.map(|(_, size)| *size).max().unwrap_or_default()
        };
        let (mb, kb) = (most(&events.memory), most(&events.spool));
        memories.push(mb);
        spools.push(kb);
        text += &format!("| {minute} | {mb} | {kb} |");
        for ((_, _, ledger), medians) in all.iter().zip(&mut medians) {
            let due = ledger
                .iter()
                .filter(|entry| entry.is_success() && during(entry.due));
            let mut times: Vec<Duration> = due.map(Entry::took).collect();
            times.sort_unstable();
            let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
            medians.push(p50);
            text += &format!(" {} / {} |", p50.as_millis(), p99.as_millis());
        }
        text += "\n";
    }
    broken.extend(grown("MB", &memories, |first, last| last > first + first / 2));
    broken.extend(grown("spool KB", &spools, |first, last| {
        last > first * 2 + SPOOL_KB
    }));
    for ((mode, ..), medians) in all.iter().zip(&medians) {
        let what = format!("{} p50", mode.name);
        broken.extend(grown(&what, medians, |first, last| last > first * 2));
    }
    text += "\n";
    if broken.is_empty() {
        text += "No promise was broken; memory, spool and latency did not grow.\n";
    }
    broken
        .iter()
        .for_each(|what| text += &format!("- **✗** {what}\n"));
    for example in all.iter().flat_map(|(_, counts, _)| &counts.examples) {
        println!("    {example}");
    }
    Soaked { text, broken }
}

/// Whether something is larger in the last third of the minutes than it may be for what it was in the first; by the
/// middle one of each, for a single minute in which much was restarted says nothing.
fn grown<T: Ord + Copy + std::fmt::Debug>(
    what: &str,
    minutes: &[T],
    too_much: impl Fn(T, T) -> bool,
) -> Option<String> {
    let third = minutes.len() / 3;
    let middle = |part: Option<&[T]>| {
        let mut part = part?.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied()
    };
    let (first, last) = (
        middle(minutes.get(..third))?,
        middle(minutes.get(minutes.len() - third..))?,
    );
    too_much(first, last).then(|| format!("{what} grew from {first:?} to {last:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_and_a_single_minute_is_not_growth() {
        let much = |first: u64, last: u64| last > first * 2;
        assert_eq!(grown("x", &[5, 5, 5, 9, 9, 9, 10, 10, 90], much), None);
        assert!(grown("x", &[5, 5, 5, 9, 9, 9, 11, 11, 5], much).is_some());
        assert_eq!(grown("x", &[1, 100], much), None);
    }
}

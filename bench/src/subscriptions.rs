//! Subscriptions: how many records a second reach a handler, how soon, what a failing key does to the others and what many keys
//! in flight take; next to a Restate server with the same records and the same handler.
//!
//! A topic of [`PARTITIONS`] partitions for each measurement in Apache Kafka. Every record must have come to the handler when a
//! measurement ends, and in its key's order where there is one, or it fails.

mod caller;
mod handler;
mod record;
mod sizes;

use std::time::{Duration, Instant};

use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::{Result, ensure};

use self::caller::{Caller, Job, Kind, Place};
use self::handler::{Handler, Tally, rate};
use self::record::Writer;
pub(crate) use self::sizes::SubscriptionsBench;
use self::sizes::{Sizes, What};
use crate::cpu::{CpuClock, allowed_cores, memory};
use crate::options::Options;
use crate::read::limits;
use crate::read::stamp::Clock;
use crate::rig::subdirectory;
use crate::{run, table};

/// How many partitions a topic has.
const PARTITIONS: i32 = 12;
/// How many keys records have, in turn.
const KEYS: u64 = 1000;
/// How many may be in flight where that is not what is measured.
const IN_FLIGHT: u32 = 64;
/// How long all records of a measurement may take, once they are written.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Runs it against Apache Kafka, on the cores that there are, and prints what came out.
///
/// # Errors
/// A part is missing or does not work, the machine does not let so much be open, or a record did not come, or out of its order.
pub(crate) fn run(bench: &SubscriptionsBench, options: &Options) -> Result<()> {
    let sizes = bench.sizes(options.quick);
    if bench.wants(What::Memory) {
        limits::make_room(usize::try_from(sizes.in_flight)?)?;
    }
    let kinds: &[Kind] = if bench.alone {
        &[Kind::Sluice]
    } else {
        caller::restate_server()?;
        &[Kind::Sluice, Kind::Restate]
    };
    let programs = run::programs(options)?;
    let cpus = allowed_cores()?;
    let (dir, runtime) = run::workplace()?;
    let outcome = runtime.block_on(async {
        let clock = Clock::new();
        let setup = Setup {
            cpus: cpus.clone(),
            jvm: Vec::new(),
            ..Setup::default()
        };
        let kafka = Kafka::start(&subdirectory(dir.path(), "kafka")?, &setup).await?;
        let handler = Handler::start(clock)?;
        let place = Place {
            dir: dir.path(),
            sidecar: programs.sidecar,
            cpus,
            bootstrap: kafka.bootstrap(),
            handler: handler.port,
        };
        let bench_run = Run {
            kafka,
            handler,
            place,
            clock,
            sizes,
            kinds,
        };
        bench_run.all(bench).await
    });
    if outcome.is_err() {
        eprintln!("logs are kept in {}", dir.keep().display());
    }
    outcome
}

struct Run<'a> {
    kafka: Kafka,
    handler: Handler,
    place: Place<'a>,
    clock: Clock,
    sizes: Sizes,
    kinds: &'a [Kind],
}

impl Run<'_> {
    async fn all(&self, bench: &SubscriptionsBench) -> Result<()> {
        if bench.wants(What::Throughput) {
            self.throughput().await?;
        }
        if bench.wants(What::Latency) {
            self.latency().await?;
        }
        if bench.wants(What::Failing) {
            self.failing().await?;
        }
        if bench.wants(What::Memory) {
            self.memory().await?;
        }
        Ok(())
    }

    /// A topic that is filled before somebody reads it.
    async fn filled(&self, topic: &str, records: u64, keys: u64) -> Result<()> {
        self.kafka.create_topic(topic, PARTITIONS).await?;
        let (bootstrap, clock, name) = (self.place.bootstrap.clone(), self.clock, topic.to_owned());
        tokio::task::spawn_blocking(move || record::fill(&bootstrap, &name, records, keys, clock)).await?
    }

    /// Waits for all of a run's records, and looks at their order.
    async fn came(&self, caller: &mut Caller, records: u64, keyed: bool) -> Result<Tally> {
        let came = self.handler.has(records, PATIENCE).await;
        caller.running()?;
        came?;
        let tally = self.handler.so_far();
        ensure!(
            !keyed || tally.late == 0,
            "{} records came after a later one of their key",
            tally.late
        );
        Ok(tally)
    }

    async fn throughput(&self) -> Result<()> {
        let mut rows = Vec::new();
        for (in_flight, part) in [(1, 40), (16, 2), (256, 1)] {
            let records = self.sizes.records / part;
            let topic = format!("throughput-{in_flight}");
            self.filled(&topic, records, KEYS).await?;
            for keyed in [true, false] {
                for kind in self.kinds {
                    self.handler.begin(KEYS)?;
                    let order = if keyed { "key" } else { "none" };
                    let name = format!("{}-{order}-{in_flight}", kind.name());
                    let job = Job {
                        topic: &topic,
                        keyed,
                        in_flight,
                    };
                    let mut caller = Caller::start(*kind, &name, &self.place, job).await?;
                    let pid = caller.pid()?;
                    let tally = self.came(&mut caller, records, keyed).await?;
                    let used = CpuClock::of(pid)?.read()?.as_secs_f64();
                    rows.push(vec![
                        kind.title().to_owned(),
                        order.to_owned(),
                        in_flight.to_string(),
                        records.to_string(),
                        format!("{:.0}", rate(&tally)?),
                        format!("{:.0}", used * 1e6 / records as f64),
                        format!("{:.0}", memory(pid)?.peak as f64 / 1e6),
                        tally.again.to_string(),
                    ]);
                }
            }
        }
        let head = [
            "",
            "order",
            "in flight",
            "records",
            "records/s",
            "CPU µs each",
            "peak MB",
            "twice",
        ];
        println!("\nAs fast as it goes, to a handler that answers at once:\n");
        println!("{}", table::render(&head, &rows));
        Ok(())
    }

    /// A caller that has delivered a first second's records, and a writer from then on.
    async fn steady(&self, kind: Kind, topic: &str, keyed: bool, time: Duration) -> Result<(Caller, Writer)> {
        self.kafka.create_topic(topic, PARTITIONS).await?;
        self.handler.begin(KEYS)?;
        let job = Job {
            topic,
            keyed,
            in_flight: IN_FLIGHT,
        };
        let mut caller = Caller::start(kind, topic, &self.place, job).await?;
        let pace = |time| (self.sizes.every, time);
        // Whoever is new has no connections yet, and looks for partitions.
        let warm = Duration::from_secs(1);
        let (bootstrap, clock) = (&self.place.bootstrap, self.clock);
        let first = Writer::start(bootstrap, topic, KEYS, pace(warm), clock)?.finish()?;
        self.came(&mut caller, first, keyed).await?;
        self.handler.begin(KEYS)?;
        let writer = Writer::start(bootstrap, topic, KEYS, pace(time), clock)?;
        Ok((caller, writer))
    }

    async fn latency(&self) -> Result<()> {
        let mut rows = Vec::new();
        for keyed in [true, false] {
            for kind in self.kinds {
                let order = if keyed { "key" } else { "none" };
                let topic = format!("latency-{order}-{}", kind.name());
                let (mut caller, writer) = self.steady(*kind, &topic, keyed, self.sizes.duration).await?;
                let cpu = CpuClock::of(caller.pid()?)?;
                let before = cpu.read()?;
                let records = tokio::task::spawn_blocking(|| writer.finish()).await??;
                let tally = self.came(&mut caller, records, keyed).await?;
                let used = cpu.read()?.saturating_sub(before).as_secs_f64();
                rows.push(vec![
                    kind.title().to_owned(),
                    order.to_owned(),
                    records.to_string(),
                    format!("{:.2}", tally.millis(50.0)),
                    format!("{:.2}", tally.millis(99.0)),
                    format!("{:.0}", used * 1e6 / records as f64),
                    tally.again.to_string(),
                ]);
            }
        }
        let head = ["", "order", "records", "p50 ms", "p99 ms", "CPU µs each", "twice"];
        let rate = 1.0 / self.sizes.every.as_secs_f64();
        println!("\nFrom written to delivered, at {rate:.0} records/s, {IN_FLIGHT} in flight:\n");
        println!("{}", table::render(&head, &rows));
        Ok(())
    }

    /// One key in a hundred fails in the middle third.
    async fn failing(&self) -> Result<()> {
        let third = self.sizes.duration;
        let mut rows = Vec::new();
        for kind in self.kinds {
            let topic = format!("failing-{}", kind.name());
            let (mut caller, writer) = self.steady(*kind, &topic, true, third * 3).await?;
            let cell = |tally: &Tally| format!("{:.2}", tally.millis(99.0));
            let mut row = vec![kind.title().to_owned()];
            for failing in [false, true, false] {
                self.handler.fail(failing);
                tokio::time::sleep(third).await;
                row.push(cell(&self.handler.so_far()));
            }
            let healed = Instant::now();
            let records = tokio::task::spawn_blocking(|| writer.finish()).await??;
            let tally = self.came(&mut caller, records, true).await?;
            ensure!(tally.refused > 0, "no record of a failing key was refused");
            row.extend([
                tally.refused.to_string(),
                format!("{:.1}", healed.elapsed().as_secs_f64()),
                tally.again.to_string(),
            ]);
            rows.push(row);
        }
        let head = [
            "p99 of the other keys, ms",
            "before",
            "while 1 % fail",
            "after",
            "refused",
            "s after the last",
            "twice",
        ];
        println!("\nOne key in a hundred is answered 503 for {third:?}, ordered by key:\n");
        println!("{}", table::render(&head, &rows));
        Ok(())
    }

    async fn memory(&self) -> Result<()> {
        let in_flight = self.sizes.in_flight;
        let count = usize::try_from(in_flight)?;
        self.kafka.create_topic("empty", PARTITIONS).await?;
        self.filled("memory", u64::from(in_flight), u64::from(in_flight))
            .await?;
        let mut rows = Vec::new();
        for kind in self.kinds {
            let job = |topic| Job {
                topic,
                keyed: true,
                in_flight,
            };
            let name = |what| format!("{}-{what}", kind.name());
            let idle = Caller::start(*kind, &name("idle"), &self.place, job("empty")).await?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            let empty = memory(idle.pid()?)?.resident;
            drop(idle);
            self.handler.begin(u64::from(in_flight))?;
            self.handler.hold(true);
            let mut caller = Caller::start(*kind, &name("full"), &self.place, job("memory")).await?;
            let held = self.handler.holds(count, Duration::from_secs(300)).await;
            caller.running()?;
            held?;
            let full = memory(caller.pid()?)?.resident;
            self.handler.hold(false);
            let tally = self.came(&mut caller, u64::from(in_flight), true).await?;
            let each = full.saturating_sub(empty) as f64 / f64::from(in_flight);
            rows.push(vec![
                kind.title().to_owned(),
                format!("{:.0}", empty as f64 / 1e6),
                format!("{:.0}", full as f64 / 1e6),
                format!("{:.1}", each / 1e3),
                tally.again.to_string(),
            ]);
        }
        let head = ["", "idle MB", "MB", "KB each", "twice"];
        println!("\n{in_flight} keys in flight, none of them answered yet:\n");
        println!("{}", table::render(&head, &rows));
        Ok(())
    }
}

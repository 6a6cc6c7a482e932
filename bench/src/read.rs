//! Reading: what a client that listens costs, how many there can be, and what a page takes.
//!
//! A topic of [`PARTITIONS`] partitions in Apache Kafka, one sidecar that reads it for everybody, and, for comparison, a
//! small service with a Kafka consumer for each client. No Envoy: it adds the same to each.

mod crowd;
pub(crate) mod each;
mod frames;
pub(crate) mod limits;
mod messages;
mod pool;
mod report;
mod sizes;
mod sockets;
pub(crate) mod stamp;
mod writer;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::process::{Launch, Process};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, wait};

use self::crowd::{Crowd, Protocol};
use self::report::{Line, Report, Usage};
pub(crate) use self::sizes::ReadBench;
use self::sizes::{Sizes, What};
use self::stamp::Clock;
use self::writer::Writer;
use crate::cpu::{CpuClock, allowed_cores, memory};
use crate::load::Load;
use crate::options::Options;
use crate::rig::{Broker, Programs, listens, local, subdirectory};
use crate::stats::percentile;
use crate::{alone, http, run};

const TOPIC: &str = "read";
/// How many partitions the topic has.
const PARTITIONS: i32 = 12;
/// How long after the last record was written it may come.
const GRACE: Duration = Duration::from_secs(20);
/// The 99th percentile beyond which a service is at its end.
const END: Duration = Duration::from_secs(1);
/// A page of records near the end, and one in the past.
const PAGE: usize = 10;
/// Who asks for pages at once.
const ASKING: usize = 16;
/// A page of records that filters look at: many, so that they are what it costs.
const FILTERED: usize = 500;
/// What a page is asked for with, percent-encoded, and what that is; every record of the topic passes.
const FILTERS: [(&str, &str); 5] = [
    ("no filter", ""),
    ("where=$.note!=x", "&where=%24.note!%3Dx"),
    ("jq=.note != \"x\"", "&jq=.note%20!%3D%20%22x%22"),
    (
        "jq={sent, size: (.note | length)}",
        "&jq=%7Bsent%2C%20size%3A%20(.note%20%7C%20length)%7D",
    ),
    (
        "jq=.sent | test(\"[0-9]{3}\")",
        "&jq=.sent%20%7C%20test(%22%5B0-9%5D%7B3%7D%22)",
    ),
];

/// What is read from, and how.
struct Place<'a> {
    dir: &'a Path,
    programs: Programs,
    cpus: Vec<usize>,
    bootstrap: String,
    clock: Clock,
    sizes: Sizes,
}

/// Runs it, and prints what came out.
///
/// # Errors
/// A part is missing or does not work, the machine does not let so much be open, or a client was not sent what it should be.
pub(crate) fn run(read: &ReadBench, options: &Options) -> Result<()> {
    let sizes = read.sizes(options.quick)?;
    let h2 = |streams: usize| streams.div_ceil(sizes.per_connection);
    let mut connections = h2(sizes.most).max(h2(sizes.streams)).max(sizes.consumers);
    if read.wants(What::Sockets) {
        connections = connections.max(sizes.sockets);
    }
    if read.wants(What::Http1) {
        connections = connections.max(sizes.clients);
    }
    limits::make_room(connections)?;
    let programs = run::programs(options)?;
    let (dir, runtime) = run::workplace()?;
    let outcome = runtime.block_on(async {
        let kafka = subdirectory(dir.path(), "kafka")?;
        let cpus = allowed_cores()?;
        let broker = Broker::kafka_with(&kafka, &cpus, TOPIC, PARTITIONS).await?;
        let place = Place {
            dir: dir.path(),
            programs,
            cpus,
            bootstrap: broker.bootstrap(),
            clock: Clock::new(),
            sizes,
        };
        place.measure(read, options).await
    });
    if outcome.is_err() {
        eprintln!("logs are kept in {}", dir.keep().display());
    }
    outcome
}

impl Place<'_> {
    async fn measure(&self, read: &ReadBench, options: &Options) -> Result<()> {
        let sizes = &self.sizes;
        let h2 = Protocol::Http2(sizes.per_connection);
        let mut report = Report::default();
        if read.wants(What::Http1) {
            report.push(
                self.steady("sidecar, HTTP/1.1", "http1", Protocol::Http1, sizes.clients)
                    .await?,
            );
        }
        if read.wants(What::Http2) {
            report.push(self.steady("sidecar, HTTP/2", "http2", h2, sizes.streams).await?);
        }
        if read.wants(What::Each) {
            let clients = sizes.consumers;
            report.push(
                self.steady("sidecar, HTTP/1.1", "few", Protocol::Http1, clients)
                    .await?,
            );
            let (mut service, address) = self.service("each").await?;
            report.push(self.stream(
                "a consumer per client",
                service.pid(),
                address,
                Protocol::Http1,
                clients,
            )?);
            service.running()?;
        }
        report.print("A record a second to everybody");
        if read.wants(What::Sockets) {
            self.sockets().await?;
        }
        if read.wants(What::FanOut) {
            self.fan_out().await?;
        }
        if [What::Pages, What::Filters, What::History]
            .into_iter()
            .any(|what| read.wants(what))
        {
            writer::fill(&self.bootstrap, sizes.history, self.clock)?;
        }
        let pace = options.pace();
        if read.wants(What::Pages) {
            self.pages(pace.window).await?;
        }
        if read.wants(What::Filters) {
            self.filters(pace.window).await?;
        }
        if read.wants(What::History) {
            let each = sizes.history / u64::from(PARTITIONS.unsigned_abs());
            pool::compare(&self.bootstrap, each, pace.rounds, pace.window).await?;
        }
        if read.wants(What::End) {
            self.end(h2).await?;
        }
        Ok(())
    }

    /// A sidecar that lets the topic be read, and where.
    async fn sidecar(&self, name: &str) -> Result<(Sidecar, SocketAddr)> {
        let address = local()?;
        let settings = json!({
            "clusters": {"bench": {"bootstrap_servers": [self.bootstrap], "allowed_topics": [TOPIC]}},
            "reads": [{"topics": [TOPIC], "anonymous": true, "publish": true}],
            "listeners": {"data": {"address": address.to_string(), "max_connections": 65_536}},
        });
        let dir = subdirectory(self.dir, name)?;
        let sidecar = Sidecar::start_with(&dir, &settings, self.programs.sidecar.clone(), &self.cpus).await?;
        // A topic that is new has no leaders for a moment.
        let client = Client::h1(address.port());
        wait::until("the topic can be read", Duration::from_secs(60), async || {
            client.get(&format!("/topics/{TOPIC}")).await?.expect(200)?;
            Ok(())
        })
        .await?;
        Ok((sidecar, address))
    }

    /// The service with a consumer per client, and where.
    async fn service(&self, name: &str) -> Result<(Process, SocketAddr)> {
        let address = local()?;
        let mut command = Command::new(&self.programs.bench);
        command.args([
            "each",
            "--listen",
            &address.to_string(),
            "--brokers",
            &self.bootstrap,
        ]);
        let launch = Launch {
            command,
            log: self.dir.join(format!("{name}.log")),
            cpus: self.cpus.clone(),
        };
        let service = Process::start(name, launch)?;
        listens(name, address).await?;
        Ok((service, address))
    }

    async fn steady(&self, what: &str, name: &str, protocol: Protocol, clients: usize) -> Result<Line> {
        let (sidecar, address) = self.sidecar(name).await?;
        self.stream(what, alone::pid(&sidecar)?, address, protocol, clients)
    }

    /// `clients` streams of process `pid`, a record a second each; of WebSockets what [`Self::said`] has them send.
    fn stream(
        &self,
        what: &str,
        pid: u32,
        address: SocketAddr,
        protocol: Protocol,
        clients: usize,
    ) -> Result<Line> {
        let sockets = protocol == Protocol::Socket;
        let path = format!("/topics/{TOPIC}/{}", if sockets { "ws" } else { "stream" });
        let sent = |crowd: &mut Crowd, time| {
            if sockets {
                self.said(crowd, time)
            } else {
                self.sent(crowd, time)
            }
        };
        let mut crowd = Crowd::new(self.clock)?;
        // What the first clients cost is not theirs: connections to Kafka, threads, arenas.
        let first = clients.div_ceil(10).min(match protocol {
            Protocol::Http1 | Protocol::Socket => 10,
            Protocol::Http2(each) => each,
        });
        crowd.open(address, &path, protocol, first)?;
        sent(&mut crowd, Duration::from_secs(3))?;
        let empty = memory(pid)?.resident;
        crowd.open(address, &path, protocol, clients - first)?;
        sent(&mut crowd, Duration::from_secs(2))?;
        let cpu = CpuClock::of(pid)?;
        let before = cpu.read()?;
        let tally = sent(&mut crowd, self.sizes.duration)?;
        let usage = Usage {
            cpu: cpu.read()?.saturating_sub(before),
            memory: memory(pid)?.resident.saturating_sub(empty) / u64::try_from(clients - first)?.max(1),
        };
        Ok(if sockets {
            Line::both_ways(what, clients, &tally, usage)
        } else {
            Line::new(what, clients, &tally, usage)
        })
    }

    /// Sends everybody a record a second for `time`, and has them all come.
    fn sent(&self, crowd: &mut Crowd, time: Duration) -> Result<crowd::Tally> {
        crowd.tally()?;
        let writer = Writer::start(&self.bootstrap, Duration::from_secs(1), self.clock)?;
        crowd.read(time, |tally| tally.ended > 0)?;
        let written = writer.stop()?;
        Self::all_came(crowd, written, 0)
    }

    /// Has `written` records come to everybody, and those who sent `stored` of them told so.
    fn all_came(crowd: &mut Crowd, written: u64, stored: u64) -> Result<crowd::Tally> {
        let expected = written * u64::try_from(crowd.len())?;
        let whole = crowd.read(GRACE, |tally| {
            tally.delivered >= expected && tally.answers.len() >= stored || tally.ended > 0
        })?;
        let (least, most) = crowd.spread();
        let tally = crowd.tally()?;
        let told = tally.answers.len();
        ensure!(
            whole && tally.ended == 0 && least == most && told == stored,
            "of {written} records some client had {least} and some {most}; of {stored} it was told that {told} are stored; \
             {} streams ended",
            tally.ended
        );
        Ok(tally)
    }

    /// As many records as go to 100 clients.
    async fn fan_out(&self) -> Result<()> {
        const CLIENTS: usize = 100;
        let (sidecar, address) = self.sidecar("fan-out").await?;
        let mut crowd = Crowd::new(self.clock)?;
        let path = format!("/topics/{TOPIC}/stream");
        crowd.open(address, &path, Protocol::Http1, CLIENTS)?;
        self.sent(&mut crowd, Duration::from_secs(3))?;
        let cpu = CpuClock::of(alone::pid(&sidecar)?)?;
        let (before, begun) = (cpu.read()?, self.clock.now());
        let (bootstrap, clock, records) = (self.bootstrap.clone(), self.clock, self.sizes.flood);
        let writing = std::thread::spawn(move || writer::fill(&bootstrap, records, clock));
        let expected = records * u64::try_from(CLIENTS)?;
        let whole = crowd.read(Duration::from_secs(600), |tally| tally.delivered >= expected)?;
        let took = Duration::from_micros(self.clock.now().saturating_sub(begun)).as_secs_f64();
        let used = cpu.read()?.saturating_sub(before).as_secs_f64();
        writing
            .join()
            .map_err(|_| sluice_e2e::anyhow!("the writer failed"))??;
        let (least, most) = crowd.spread();
        ensure!(
            whole && u64::from(least) == records && least == most,
            "of {records} records some client had {least} and some {most}"
        );
        println!(
            "\nFan-out: {records} records to {CLIENTS} clients in {took:.1} s: {:.0} deliveries/s, {:.2} µs of the \
             sidecar's CPU each",
            expected as f64 / took,
            used * 1e6 / expected as f64
        );
        Ok(())
    }

    /// Pages over HTTP.
    async fn pages(&self, window: Duration) -> Result<()> {
        let (sidecar, address) = self.sidecar("pages").await?;
        let (mut service, other) = self.service("each-pages").await?;
        // Somebody listens, so that what is near the end is followed.
        let mut crowd = Crowd::new(self.clock)?;
        crowd.open(address, &format!("/topics/{TOPIC}/stream"), Protocol::Http1, 1)?;
        writer::fill(&self.bootstrap, 12 * 100, self.clock)?;
        crowd.read(GRACE, |tally| tally.delivered >= 12 * 100)?;
        let topic = Client::h1(address.port())
            .get(&format!("/topics/{TOPIC}"))
            .await?;
        let topic = topic.json()?;
        let end = topic.pointer("/partitions/0/latest").and_then(Value::as_u64);
        let end = end.context("the topic has no end")?;
        let at = |offset: u64| {
            format!("/topics/{TOPIC}/records?partition=0&limit={PAGE}&from={TOPIC}@0%23{offset}")
        };
        let plain = |offset: u64| format!("/topics/{TOPIC}/records?partition=0&limit={PAGE}&offset={offset}");
        println!("\nPages of {PAGE} records over HTTP/1.1, {ASKING} connections:\n");
        // The last hundred are those that somebody listened to.
        let (near, past) = (end.saturating_sub(50), end / 3);
        for (what, pid, address, path) in [
            ("sidecar, near the end", alone::pid(&sidecar)?, address, at(near)),
            ("sidecar, in the past", alone::pid(&sidecar)?, address, at(past)),
            ("a consumer per request", service.pid(), other, plain(past)),
        ] {
            let mut load = Load::connect(address, http::get(&path), ASKING)?;
            load.run(window / 4)?;
            let cpu = CpuClock::of(pid)?;
            let before = cpu.read()?;
            let outcome = load.run(window)?;
            let used = cpu.read()?.saturating_sub(before).as_secs_f64();
            ensure!(
                outcome.statuses.keys().eq([&200]),
                "{what} answers {:?}",
                outcome.statuses
            );
            let count = outcome.latencies.len() as f64;
            println!(
                "{what}: {:.0} pages/s, p50 {:.2} ms, p99 {:.2} ms, {:.0} µs of its CPU each",
                count / outcome.elapsed.as_secs_f64(),
                percentile(&outcome.latencies, 50.0).as_secs_f64() * 1e3,
                percentile(&outcome.latencies, 99.0).as_secs_f64() * 1e3,
                used * 1e6 / count
            );
        }
        service.running()
    }

    /// Pages of many records, with filters that all of them pass.
    async fn filters(&self, window: Duration) -> Result<()> {
        let (sidecar, address) = self.sidecar("filters").await?;
        println!("\nPages of {FILTERED} records from the past over HTTP/1.1, one client:\n");
        let cpu = CpuClock::of(alone::pid(&sidecar)?)?;
        for (what, filter) in FILTERS {
            let path = format!("/topics/{TOPIC}/records?partition=0&limit={FILTERED}&from=earliest{filter}");
            let client = Client::h1(address.port());
            let ask = async |time: Duration| {
                let (begun, mut pages) = (Instant::now(), 0_usize);
                while begun.elapsed() < time {
                    let page = client.get(&path).await?.expect(200)?.json()?;
                    let items = page.pointer("/items").and_then(Value::as_array);
                    ensure!(
                        items.is_some_and(|items| items.len() == FILTERED),
                        "{what}: not all of them pass"
                    );
                    pages += 1;
                }
                Ok((pages * FILTERED, begun.elapsed()))
            };
            ask(window / 4).await?;
            let before = cpu.read()?;
            let (records, took) = ask(window).await?;
            let used = cpu.read()?.saturating_sub(before).as_secs_f64();
            let records = records as f64;
            println!(
                "{what}: {:.0} records/s, {:.2} µs of the sidecar's CPU each",
                records / took.as_secs_f64(),
                used * 1e6 / records
            );
        }
        Ok(())
    }

    /// More and more streams, a record a second each.
    async fn end(&self, protocol: Protocol) -> Result<()> {
        let (sidecar, address) = self.sidecar("end").await?;
        let pid = alone::pid(&sidecar)?;
        let path = format!("/topics/{TOPIC}/stream");
        let mut crowd = Crowd::new(self.clock)?;
        let mut report = Report::default();
        let mut reached = false;
        while !reached && crowd.len() < self.sizes.most {
            crowd.open(address, &path, protocol, self.sizes.step)?;
            self.sent(&mut crowd, Duration::from_secs(2))?;
            let cpu = CpuClock::of(pid)?;
            let before = cpu.read()?;
            let tally = self.sent(&mut crowd, self.sizes.duration.min(Duration::from_secs(20)))?;
            let usage = Usage {
                cpu: cpu.read()?.saturating_sub(before),
                memory: memory(pid)?.resident / u64::try_from(crowd.len())?,
            };
            let line = Line::new("sidecar, HTTP/2", crowd.len(), &tally, usage);
            reached = line.p99() > END;
            report.push(line);
        }
        report.print("Where the end is");
        println!(
            "{}",
            if reached {
                format!(
                    "the end: beyond {} streams the 99th percentile is over {END:?}",
                    crowd.len() - self.sizes.step
                )
            } else {
                format!("no end up to {} streams", crowd.len())
            }
        );
        Ok(())
    }
}

//! A stream that is broken off and taken up again while brokers change leaders and the sidecar is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, anyhow, ensure};

use super::{Curl, PATIENCE, rig};

const PARTITIONS: i32 = 3;

/// Writes numbers, in order within a partition, until it is told to stop.
struct Numbers {
    over: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Result<usize>>,
}

impl Numbers {
    fn start(bootstrap: &str, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        // Idempotent: what is sent again while a leader changes is written once.
        config
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("message.timeout.ms", "120000");
        let producer: BaseProducer = config.create()?;
        let (over, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (told, count, topic) = (Arc::clone(&over), Arc::clone(&written), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let mut n = 0;
            while !told.load(Ordering::Relaxed) {
                let value = n.to_string();
                let record = BaseRecord::<str, str>::to(&topic)
                    .partition(i32::try_from(n)? % PARTITIONS)
                    .payload(&value);
                producer.send(record).map_err(|(error, _)| anyhow!("{error}"))?;
                n += 1;
                count.store(n, Ordering::Relaxed);
                producer.poll(Duration::from_millis(5));
            }
            producer.flush(PATIENCE * 2)?;
            Ok(n)
        });
        Ok(Self {
            over,
            written,
            thread,
        })
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<usize> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer failed"))?
    }
}

/// Numbers from 0 to below `bound`, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, bound: u64) -> u64 {
        // Knuth's multiplier for 64 bits; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Everything that came, by partition.
type Seen = BTreeMap<i64, Vec<(i64, usize)>>;

fn note(item: &Value, seen: &mut Seen) -> Result<()> {
    let number = |name: &str| item.get(name).and_then(Value::as_i64);
    let partition = number("partition").context("no partition")?;
    let offset = number("offset").context("no offset")?;
    let value = number("value").context("no number")?;
    seen.entry(partition)
        .or_default()
        .push((offset, usize::try_from(value)?));
    Ok(())
}

fn count(seen: &Seen) -> usize {
    seen.values().map(Vec::len).sum()
}

/// Reads for `pieces` connections, each broken off after a number of events that the dice say, and on until `done`.
async fn read(
    url: &str,
    id: &mut String,
    seen: &mut Seen,
    dice: &mut Dice,
    mut done: impl FnMut(&Seen) -> bool,
) -> Result<usize> {
    let mut connections = 0;
    let until = tokio::time::Instant::now() + PATIENCE * 2;
    while !done(seen) {
        ensure!(
            tokio::time::Instant::now() < until,
            "{} records came over {connections} connections, and no more",
            count(seen)
        );
        connections += 1;
        let mut stream = Curl::start(url, (!id.is_empty()).then_some(id.as_str()))?;
        for _ in 0..=dice.throw(60) {
            if done(seen) {
                break;
            }
            match stream.event().await {
                Ok((event, data)) if event == "message" => note(&serde_json::from_str(&data)?, seen)?,
                Ok((event, _)) if event == "caught-up" => {}
                Ok((event, data)) => return Err(anyhow!("{event}: {data}")),
                // Nobody is there just now, or not any more: as a browser does, a moment later again.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    break;
                }
            }
        }
        *id = stream.hang_up().await?;
    }
    Ok(connections)
}

#[test]
fn a_stream_that_breaks_off_at_random_misses_nothing_and_repeats_nothing() -> Result<()> {
    scenario("reading-resumes", async |s| {
        let setup = Setup {
            nodes: 3,
            ..Setup::default()
        }
        .property("min.insync.replicas", "2");
        let mut kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_replicated(&topic, PARTITIONS, 3).await?;
        let mut rig = rig(s, &kafka, &topic).await?;
        let url = format!(
            "http://127.0.0.1:{}/topics/{topic}/stream?from=earliest",
            rig.envoy.port()
        );
        let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        println!("seed {seed}");
        let (mut dice, mut id, mut seen) = (Dice(seed), String::new(), Seen::new());
        let numbers = Numbers::start(&kafka.bootstrap(), &topic)?;
        // So many more than there are now.
        let more = |seen: &Seen, by: usize| {
            let target = count(seen) + by;
            move |seen: &Seen| count(seen) >= target
        };
        let first = more(&seen, 300);
        let mut connections = read(&url, &mut id, &mut seen, &mut dice, first).await?;
        // Two of the three partitions' leaders go, one after the other, hard and in good order.
        kafka.node(2)?.kill()?;
        let target = more(&seen, 300);
        connections += read(&url, &mut id, &mut seen, &mut dice, target).await?;
        kafka.node(2)?.restart().await?;
        kafka.node(3)?.stop().await?;
        let target = more(&seen, 300);
        connections += read(&url, &mut id, &mut seen, &mut dice, target).await?;
        kafka.node(3)?.restart().await?;
        // Another sidecar, while clients come back.
        rig.sidecar.kill()?;
        let (restarted, read_on) = tokio::join!(rig.sidecar.restart(), async {
            let target = more(&seen, 300);
            read(&url, &mut id, &mut seen, &mut dice, target).await
        });
        restarted?;
        connections += read_on?;
        ensure!(
            connections > 20,
            "{connections} connections are too few to mean anything"
        );
        let behind = numbers.written();
        let written = numbers.stop()?;
        ensure!(written >= behind && written > 1000);
        connections += read(&url, &mut id, &mut seen, &mut dice, |seen| count(seen) >= written).await?;
        println!("{written} records over {connections} connections");
        for (partition, records) in &seen {
            ensure!(
                records.is_sorted_by(|a, b| a.0 < b.0),
                "seed {seed}: partition {partition} was not read in order, or twice"
            );
        }
        let mut values: Vec<usize> = seen.values().flatten().map(|(_, value)| *value).collect();
        values.sort_unstable();
        ensure!(
            values == (0..written).collect::<Vec<_>>(),
            "seed {seed}: {} came of {written}",
            values.len()
        );
        rig.envoy.healthy()
    })
}

//! Reading by offset: the sidecar's pool of librdkafka clients next to rskafka, on the same records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use sluice::config;
use sluice::kafka::reader::{Limits, Reader};
use sluice_e2e::{Context, Result, anyhow, ensure};

use super::{PARTITIONS, TOPIC};
use crate::stats::percentile;
use crate::table;

/// A page's records, and how many bytes of batches hold them: a record takes some 330.
const PAGES: [(usize, i32); 2] = [(10, 8 * 1024), (500, 256 * 1024)];
/// Who reads at once.
const READERS: [usize; 2] = [1, 4];

/// One that reads pages.
enum Way {
    Pool(Reader, Arc<str>),
    Rskafka(Vec<Arc<PartitionClient>>),
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Pool(..) => "the sidecar's pool",
            Self::Rskafka(_) => "rskafka",
        }
    }

    async fn page(&self, partition: i32, offset: i64, records: usize, bytes: i32) -> Result<usize> {
        match self {
            Self::Pool(reader, topic) => {
                let limits = Limits {
                    records,
                    bytes: 1 << 20,
                };
                Ok(reader.read(topic, partition, offset, limits).await?.records.len())
            }
            Self::Rskafka(clients) => {
                let client = clients
                    .get(usize::try_from(partition)?)
                    .context("no such partition")?;
                let (mut next, mut found) = (offset, 0);
                while found < records {
                    let (batch, end) = client.fetch_records(next, 1..bytes, 500).await?;
                    found += batch.iter().filter(|record| record.offset >= next).count();
                    next = batch.last().context("nothing there")?.offset + 1;
                    if next >= end {
                        break;
                    }
                }
                Ok(found.min(records))
            }
        }
    }
}

/// Reads pages for `window` in each way, each page size and number of readers, `rounds` times in turn; prints a table.
/// Every partition has `each` records.
///
/// # Errors
/// A page is not whole.
pub(crate) async fn compare(bootstrap: &str, each: u64, rounds: u32, window: Duration) -> Result<()> {
    let ways = [pool(bootstrap)?, rskafka(bootstrap).await?];
    let mut rows = Vec::new();
    for (records, bytes) in PAGES {
        for readers in READERS {
            let mut medians = Vec::new();
            for way in &ways {
                // Connections, and what clients learn of the topic.
                measure(way, each, (records, bytes), readers, window / 4).await?;
            }
            let mut found: Vec<Vec<Pages>> = ways.iter().map(|_| Vec::new()).collect();
            for _ in 0..rounds {
                for (way, found) in ways.iter().zip(&mut found) {
                    found.push(measure(way, each, (records, bytes), readers, window).await?);
                }
            }
            for (way, mut found) in ways.iter().zip(found) {
                found.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
                let median = found.get(found.len() / 2).context("no rounds")?;
                medians.push(median.per_second);
                rows.push(vec![
                    format!("{records} records, {readers} at once: {}", way.name()),
                    format!("{:.0}", median.per_second),
                    format!("{:.2}", median.p50.as_secs_f64() * 1e3),
                    format!("{:.2}", median.p99.as_secs_f64() * 1e3),
                ]);
            }
            if let [pool, rskafka] = medians.as_slice() {
                rows.push(vec![
                    "  rskafka over the pool".to_owned(),
                    format!("{:.2} ×", rskafka / pool),
                ]);
            }
        }
    }
    println!("\nPages by offset, no HTTP:\n");
    print!("{}", table::render(&["", "pages/s", "p50 ms", "p99 ms"], &rows));
    Ok(())
}

struct Pages {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

async fn measure(
    way: &Way,
    each: u64,
    (records, bytes): (usize, i32),
    readers: usize,
    window: Duration,
) -> Result<Pages> {
    let (begun, asked) = (Instant::now(), AtomicU64::new(0));
    let reading = (0..readers).map(|_| async {
        let mut latencies = Vec::new();
        while begun.elapsed() < window {
            // A fixed walk that comes by everywhere: the golden ratio's.
            let n = asked.fetch_add(1, Ordering::Relaxed);
            let place = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let partition = i32::try_from(place % u64::from(PARTITIONS.unsigned_abs()))?;
            let offset = i64::try_from((place >> 8) % each.saturating_sub(records as u64).max(1))?;
            let start = Instant::now();
            let found = way.page(partition, offset, records, bytes).await?;
            latencies.push(start.elapsed());
            ensure!(
                found == records,
                "{} gave {found} records of {records}",
                way.name()
            );
        }
        Ok::<_, sluice_e2e::Error>(latencies)
    });
    let mut latencies = futures_util::future::try_join_all(reading).await?.concat();
    let elapsed = begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Pages {
        per_second: latencies.len() as f64 / elapsed,
        p50: percentile(&latencies, 50.0),
        p99: percentile(&latencies, 99.0),
    })
}

fn pool(bootstrap: &str) -> Result<Way> {
    let yaml = format!("clusters: {{bench: {{bootstrap_servers: [\"{bootstrap}\"]}}}}\n");
    let loaded = config::load(&yaml, std::iter::empty()).map_err(|problems| anyhow!("{problems:?}"))?;
    let cluster = loaded.config.clusters.get("bench").context("no cluster")?;
    let reader = Reader::new(cluster, READERS.into_iter().max().unwrap_or(1), Gauge::default());
    Ok(Way::Pool(reader, TOPIC.into()))
}

async fn rskafka(bootstrap: &str) -> Result<Way> {
    let client = ClientBuilder::new(vec![bootstrap.to_owned()]).build().await?;
    let mut clients = Vec::new();
    for partition in 0..PARTITIONS {
        let one = client.partition_client(TOPIC, partition, UnknownTopicHandling::Error);
        clients.push(Arc::new(one.await?));
    }
    Ok(Way::Rskafka(clients))
}

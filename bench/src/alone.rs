//! The sidecar without Envoy: a gRPC client on its stream listener.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, bail, ensure, parts};
use sluice_proto::v1::records_client::RecordsClient;
use sluice_proto::v1::{Delivery, ErrorClass, ProduceReply, ProduceRequest, Record, topic_fate};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::cpu::{CpuClock, Memory, memory};
use crate::envoy::TOPIC;

/// How many records a message holds.
pub(crate) const BATCH: u64 = 100;

/// How many keys the spooled ones have.
pub(crate) const KEYS: u64 = 10_000;

/// How many records may be without a fate in a throughput run.
const WINDOW: u64 = 10_000;

/// What a throughput run gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throughput {
    pub(crate) per_second: f64,
    /// The sidecar's CPU per record, in µs.
    pub(crate) sidecar: f64,
}

/// Sends `records` records, acked or spooled, in batches of [`BATCH`], at most [`WINDOW`] of them without a fate.
///
/// # Errors
/// A record is not stored (spooled: accepted), or the stream ends.
pub(crate) async fn throughput(
    sidecar: &Sidecar,
    value: &[u8],
    records: u64,
    delivery: Delivery,
) -> Result<Throughput> {
    let clock = CpuClock::of(pid(sidecar)?)?;
    let (sender, mut replies) = open(sidecar.stream()).await?;
    let free = Semaphore::new(usize::try_from(WINDOW / BATCH)?);
    let (start, before) = (Instant::now(), clock.read()?);
    let sending = async {
        let template = template(value, delivery);
        for first in (0..records).step_by(usize::try_from(BATCH)?) {
            free.acquire().await?.forget();
            sender
                .send(batch(&template, first))
                .await
                .context("the stream ended")?;
        }
        Ok(())
    };
    let receiving = async {
        let mut known = 0;
        while known < records {
            let reply = replies.message().await?.context("the stream ended")?;
            for fate in reply.fates {
                let topic = fate.topics.into_iter().next().and_then(|topic| topic.result);
                let right = match topic {
                    Some(topic_fate::Result::Stored(_)) => delivery == Delivery::Acked,
                    Some(topic_fate::Result::Accepted(_)) => delivery == Delivery::Spooled,
                    _ => false,
                };
                if !right {
                    bail!("record {} was not stored: {topic:?}", fate.id);
                }
                known += 1;
                if known % BATCH == 0 {
                    free.add_permits(1);
                }
            }
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    let elapsed = start.elapsed().as_secs_f64();
    let used = clock.read()?.saturating_sub(before).as_secs_f64();
    Ok(Throughput {
        per_second: records as f64 / elapsed,
        sidecar: used * 1e6 / records as f64,
    })
}

/// What an overload did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overload {
    pub(crate) memory: Memory,
    /// How many records were refused because the buffer was full.
    pub(crate) refused: u64,
}

/// Sends records for `time`, never waiting for fates, to a sidecar whose broker does not answer.
///
/// # Errors
/// The stream ends, or the buffer was never full, so that this was no overload.
pub(crate) async fn overload(sidecar: &Sidecar, value: &[u8], time: Duration) -> Result<Overload> {
    let (sender, mut replies) = open(sidecar.stream()).await?;
    let end = tokio::time::Instant::now() + time;
    let sending = async {
        let template = template(value, Delivery::Buffered);
        let mut first = 0;
        while let Ok(sent) = tokio::time::timeout_at(end, sender.send(batch(&template, first))).await {
            sent.context("the stream ended")?;
            first += BATCH;
        }
        Ok::<_, sluice_e2e::Error>(())
    };
    let mut refused = 0;
    let receiving = async {
        while let Ok(reply) = tokio::time::timeout_at(end, replies.message()).await {
            refused += count_refused(&reply?.context("the stream ended")?);
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    ensure!(refused > 0, "the buffer was never full within {time:?}");
    Ok(Overload {
        memory: memory(pid(sidecar)?)?,
        refused,
    })
}

fn count_refused(reply: &ProduceReply) -> u64 {
    let full = |result: &Option<topic_fate::Result>| {
        let failure = match result {
            Some(topic_fate::Result::Failure(failure)) => failure,
            _ => return false,
        };
        failure.class() == ErrorClass::BufferFull
    };
    let topics = reply.fates.iter().flat_map(|fate| &fate.topics);
    topics.filter(|topic| full(&topic.result)).count() as u64
}

/// A sidecar's process id.
///
/// # Errors
/// It has ended.
pub(crate) fn pid(sidecar: &Sidecar) -> Result<u32> {
    sidecar.pid().context("the sidecar has ended")
}

/// Opens a `Produce` call.
async fn open(socket: &Path) -> Result<(mpsc::Sender<ProduceRequest>, tonic::Streaming<ProduceReply>)> {
    let socket = parts::root().join(socket);
    let channel = Endpoint::from_shared(format!("unix:{}", socket.display()))?
        .connect()
        .await?;
    let (sender, requests) = mpsc::channel(4);
    let mut client = RecordsClient::new(channel).max_decoding_message_size(16 << 20);
    let replies = client.produce(ReceiverStream::new(requests)).await?.into_inner();
    Ok((sender, replies))
}

fn template(value: &[u8], delivery: Delivery) -> Record {
    Record {
        topics: vec![TOPIC.to_owned()],
        delivery: delivery.into(),
        value: Some(Bytes::copy_from_slice(value)),
        ..Record::default()
    }
}

/// [`BATCH`] records with ids from `first` on; spooled ones with a key of [`KEYS`] each.
fn batch(template: &Record, first: u64) -> ProduceRequest {
    let records = (first..first + BATCH)
        .map(|id| Record {
            id,
            key: (template.delivery() == Delivery::Spooled).then(|| (id % KEYS).to_string().into()),
            ..template.clone()
        })
        .collect();
    ProduceRequest { records }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_proto::v1::{Accepted, Failure, Fate, TopicFate};

    #[test]
    fn a_batch_has_ids_of_its_own() {
        let request = batch(&template(b"v", Delivery::Acked), 200);
        let ids: Vec<u64> = request.records.iter().map(|record| record.id).collect();
        assert_eq!(ids, (200..300).collect::<Vec<u64>>());
    }

    #[test]
    fn only_a_full_buffer_counts_as_refused() {
        let fate = |result| Fate {
            id: 1,
            topics: vec![TopicFate { result: Some(result) }],
            replayed: false,
            answer: None,
        };
        let failure = |class: ErrorClass| {
            topic_fate::Result::Failure(Failure {
                class: class.into(),
                message: String::new(),
            })
        };
        let reply = ProduceReply {
            fates: vec![
                fate(topic_fate::Result::Accepted(Accepted {})),
                fate(failure(ErrorClass::BufferFull)),
                fate(failure(ErrorClass::OutcomeUnknown)),
            ],
            drain: false,
        };
        assert_eq!(count_refused(&reply), 1);
    }
}

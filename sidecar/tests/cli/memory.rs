//! The memory of a sidecar whose producer is full, in a process of its own.

use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use sluice_proto::v1::records_client::RecordsClient;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ErrorClass, ProduceReply, ProduceRequest, Record};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::command::Kafka;
use crate::serve::{ports, serve};

/// How long anything may take; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// What docs/overload.md says a record takes besides its bytes.
const PER_RECORD: usize = 600;
/// And the sidecar without any. The tests' build is larger than the one that ships.
const EMPTY: usize = 60 << 20;
/// What is on its way when the bounds are reached, and what the allocator keeps.
const MARGIN: usize = 12 << 20;

/// A line of `/proc/<pid>/status`, in bytes.
pub(crate) fn memory(pid: u32, field: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kb: usize = line.split_whitespace().next().unwrap().parse().unwrap();
    kb * 1024
}

/// How many records were stored, and how many refused for want of room, of those whose fates come until there are so many.
async fn fates(replies: &mut Streaming<ProduceReply>, count: usize) -> (usize, usize) {
    let (mut stored, mut full) = (0, 0);
    while stored + full < count {
        let reply = tokio::time::timeout(PATIENCE, replies.message()).await;
        let reply = reply.expect("no fate").unwrap().expect("the call ended");
        for fate in reply.fates.iter().flat_map(|fate| &fate.topics) {
            match &fate.result {
                Some(Fated::Stored(_)) => stored += 1,
                Some(Fated::Failure(failure)) if failure.class == ErrorClass::BufferFull as i32 => full += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    (stored, full)
}

/// Fills a producer that is held to `bounds` with as many records of `size` bytes as it takes, while no broker answers.
async fn fill(bounds: &str, size: usize, fit: usize) {
    let mock: MockCluster<'static, _> = MockCluster::new(1).unwrap();
    mock.create_topic("orders", 3, 1).unwrap();
    let [stream, data, admin] = ports();
    let config = format!(
        "listeners:\n  stream: {{address: 127.0.0.1:{stream}}}\n  data: {{address: 127.0.0.1:{data}}}\n\
         clusters: {{main: {{bootstrap_servers: \"{}\", allowed_topics: [orders]}}}}\n\
         answer_timeout: 10m\nproducers: {{default: {{max_queueing_time: 0, {bounds}}}}}\n",
        mock.bootstrap_servers()
    );
    let (_kafka, running) = serve(Kafka::start("").await, &config, admin, &[]).await;
    let mut client = RecordsClient::connect(format!("http://127.0.0.1:{stream}"))
        .await
        .unwrap();
    let (requests, receiver) = mpsc::channel(4);
    let mut replies = client
        .produce(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    let record = |id: usize| Record {
        id: id as u64,
        topics: vec!["orders".to_owned()],
        value: Some(vec![b'x'; size].into()),
        ..Record::default()
    };
    let send = async |ids: std::ops::Range<usize>| {
        let records = ids.map(record).collect();
        requests.send(ProduceRequest { records }).await.unwrap();
    };
    send(0..10).await;
    assert_eq!(fates(&mut replies, 10).await, (10, 0));
    let empty = memory(running.pid(), "VmRSS:");
    mock.broker_round_trip_time(1, Duration::from_secs(600)).unwrap();
    // A tenth more than there is room for.
    let (all, at_once) = (fit + fit / 10, 1000.min((1 << 20) / size));
    let mut next = 10;
    while next < 10 + all {
        let end = (next + at_once).min(10 + all);
        send(next..end).await;
        next = end;
    }
    assert_eq!(fates(&mut replies, fit / 10).await, (0, fit / 10));
    // The client library takes them by and by.
    let (mut most, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        let now = memory(running.pid(), "VmHWM:");
        if now > most {
            (most, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (grew, may) = (most - empty, fit * (size + PER_RECORD) + MARGIN);
    println!("{empty} bytes, {grew} more with {fit} records of {size} bytes, {may} at most");
    assert!(empty <= EMPTY, "{empty} bytes with nothing in it");
    assert!(
        grew <= may,
        "{grew} bytes for {fit} records of {size} bytes, {may} at most"
    );
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_records_as_it_takes_have_their_memory() {
    fill(
        "producer_async_buffering_limits_messages_in_memory: 100000",
        10,
        100_000,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_bytes_as_it_takes_have_their_memory() {
    fill(
        "producer_async_buffering_limits_bytes_in_memory: 67108864",
        16_384,
        4096,
    )
    .await;
}

//! Clients that stop reading while megabytes come, of a sidecar in a process of its own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use socket2::{SockRef, Socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::command::Kafka;
use crate::memory::memory;
use crate::serve::{get, ports, serve};

/// How long anything may take; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;
/// Of each partition: three times what a tail keeps, and less than the mock cluster does (5 MiB).
const RECORDS: usize = 400;
const SIZE: usize = 8 << 10;
/// Who stops reading.
const SLOW: usize = 40;
/// What the sidecar takes from Kafka for a client that takes nothing: 128 KiB that wait on a connection of HTTP/1.1, a piece of
/// 64 KiB, what the kernel holds of so small a connection, and room.
const EACH: usize = 384 << 10;
/// What all of them share: the tails' newest records and what is fetched for them (1 MiB each of a partition), and as much for those
/// that catch up, of a build without optimisation.
const SHARED: usize = 40 << 20;

/// How a client listens.
#[derive(Debug, Clone, Copy)]
enum Way {
    Events,
    Socket,
}

/// One that listens.
struct Client {
    /// The connection's.
    socket: Socket,
    from: Source,
}

/// Where what it is sent comes from.
enum Source {
    Events(Incoming, Vec<u8>),
    Socket(Box<WebSocketStream<TcpStream>>),
}

impl Client {
    /// One that has been told that it has seen what was there, over a connection of small packets and with small buffers: what is not
    /// read stays with the sidecar.
    async fn open(way: Way, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        SockRef::from(&socket).set_tcp_mss(1400).unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        let own = SockRef::from(&stream).try_clone().unwrap();
        let from = match way {
            Way::Events => {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
                tokio::spawn(connection);
                let request = hyper::Request::get("/topics/t/stream")
                    .header("host", "x")
                    .body(Empty::<Bytes>::new())
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                Source::Events(response.into_body(), Vec::new())
            }
            Way::Socket => {
                // It is not given up for taking nothing while the test runs.
                let url = "ws://x/topics/t/ws?heartbeatIntervalInMs=300000";
                let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
                Source::Socket(Box::new(socket))
            }
        };
        let mut client = Self { socket: own, from };
        assert_eq!(client.next().await.0, "caught-up");
        client
    }

    /// The next event's name, and what it says.
    async fn next(&mut self) -> (String, Value) {
        tokio::time::timeout(PATIENCE, self.said())
            .await
            .expect("nothing comes")
    }

    async fn said(&mut self) -> (String, Value) {
        loop {
            match &mut self.from {
                Source::Events(body, unread) => {
                    if let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
                        let block: Vec<u8> = unread.drain(..end + 2).collect();
                        if let Some(event) = event(&String::from_utf8(block).unwrap()) {
                            return event;
                        }
                        continue;
                    }
                    let frame = body.frame().await.expect("the stream ended").unwrap();
                    unread.extend(frame.into_data().unwrap());
                }
                Source::Socket(socket) => match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let said: Value = serde_json::from_str(&text).unwrap();
                        return (said.get("type").unwrap().as_str().unwrap().to_owned(), said);
                    }
                    Some(Ok(Message::Ping(_))) => {}
                    other => panic!("{other:?}"),
                },
            }
        }
    }

    /// It has as much room as others from here on.
    fn recovers(&self) {
        self.socket.set_recv_buffer_size(1 << 20).unwrap();
    }

    /// Takes all records, each of which comes once and in its partition's order, and nothing else.
    async fn takes_all(&mut self) {
        let mut next = [0; PARTITIONS as usize];
        while next.iter().sum::<u64>() < (RECORDS * next.len()) as u64 {
            let (name, record) = self.next().await;
            // Whoever was behind is told when it is no longer.
            if name == "caught-up" {
                continue;
            }
            assert_eq!(name, "message", "{record}");
            let number = |field| record.get(field).and_then(Value::as_u64).unwrap();
            let expected = next
                .get_mut(usize::try_from(number("partition")).unwrap())
                .unwrap();
            assert_eq!(number("offset"), *expected, "partition {}", number("partition"));
            let value = record.get("value").and_then(Value::as_str).unwrap();
            assert_eq!(
                (value.len(), value.starts_with(&format!("{expected} "))),
                (SIZE, true)
            );
            *expected += 1;
        }
    }
}

/// An event's name and data; none for what is no event.
fn event(block: &str) -> Option<(String, Value)> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let data = serde_json::from_str(field("data")?).unwrap();
    Some((field("event")?.to_owned(), data))
}

fn write(servers: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("linger.ms", "5")
        .create()
        .unwrap();
    for n in 0..RECORDS {
        let value = format!("{n} {:x<1$}", "", SIZE - n.to_string().len() - 1);
        for partition in 0..PARTITIONS {
            let record = BaseRecord::<(), str>::to("t")
                .partition(partition)
                .payload(&value);
            producer.send(record).unwrap();
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
}

/// The bytes of records that readers were given.
async fn given(admin: u16) -> usize {
    let metrics = get(admin, "/metrics").await;
    let mut samples = metrics.lines();
    let bytes = samples.find_map(|line| line.strip_prefix("sluice_read_bytes_total "));
    bytes.unwrap().parse().unwrap()
}

/// Some stop reading and others do not, while more is written than tails and buffers hold.
async fn stall(way: Way) {
    let mock: MockCluster<'static, _> = MockCluster::new(1).unwrap();
    mock.create_topic("t", PARTITIONS, 1).unwrap();
    let [data, admin] = ports();
    // The mock wakes nobody who waits for a record.
    let config = format!(
        "listeners:\n  stream: {{path: stream.sock}}\n  data: {{address: 127.0.0.1:{data}}}\n\
         clusters: {{main: {{bootstrap_servers: \"{}\", properties: {{fetch.wait.max.ms: 10}}}}}}\n\
         reads: [{{topics: [t], anonymous: true, max_wait: 0}}]\n",
        mock.bootstrap_servers()
    );
    let (_kafka, running) = serve(Kafka::start("").await, &config, admin, &[]).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(Client::open(way, data).await);
    }
    let mut attentive = [
        Client::open(Way::Events, data).await,
        Client::open(Way::Socket, data).await,
    ];
    attentive.iter().for_each(Client::recovers);
    let empty = memory(running.pid(), "VmRSS:");
    let servers = mock.bootstrap_servers();
    let written = tokio::task::spawn_blocking(move || write(&servers));
    futures_util::future::join_all(attentive.iter_mut().map(Client::takes_all)).await;
    written.await.unwrap();
    let all = RECORDS * SIZE * usize::try_from(PARTITIONS).unwrap();
    let taken = (given(admin).await - attentive.len() * all) / SLOW;
    let grew = memory(running.pid(), "VmHWM:").saturating_sub(empty);
    println!("{way:?}: {taken} bytes taken for each, {grew} bytes more in memory");
    assert!(taken > 0, "nobody was sent anything");
    assert!(
        taken <= EACH,
        "{taken} bytes of {all} were taken for each that takes nothing"
    );
    assert!(
        grew <= SHARED + SLOW * EACH,
        "{grew} bytes more for {SLOW} that take nothing"
    );
    // They catch up from Kafka: there are 1 MiB of each partition in memory.
    for client in slow.iter_mut().take(2) {
        client.recovers();
        client.takes_all().await;
    }
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_that_nobody_reads_take_no_memory_and_hold_up_nobody() {
    stall(Way::Events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_that_nobody_reads_take_no_memory_and_hold_up_nobody() {
    stall(Way::Socket).await;
}

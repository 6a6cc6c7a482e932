//! WebSockets: through real Envoy, over HTTP/1.1 and HTTP/2, from and to real Kafka. The client is not of the library that the
//! sidecar is made with.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sluice_e2e::client::{Body, full};
use sluice_e2e::envoy::{produce, reads, sockets};
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Context, Result, bail, ensure, wait};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

const PATIENCE: Duration = Duration::from_secs(60);

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A socket through Envoy.
struct Socket(WebSocketStream<Box<dyn Io>>);

impl Socket {
    async fn h1(port: u16, path: &str) -> Result<Self> {
        let stream: Box<dyn Io> = Box::new(TcpStream::connect(("127.0.0.1", port)).await?);
        let client = ClientBuilder::new().uri(&format!("ws://127.0.0.1:{port}{path}"))?;
        let (socket, response) = client.connect_on(stream).await?;
        ensure!(response.status() == 101, "{}", response.status());
        Ok(Self(socket))
    }

    /// By extended CONNECT (RFC 8441).
    async fn h2(port: u16, path: &str) -> Result<Self> {
        let stream = TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await?);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        // Until it has answered something it has not said that it can.
        let uri = |path: &str| format!("http://127.0.0.1:{port}{path}");
        let plain = Request::get(uri("/topics")).body(full(""))?;
        sender.send_request(plain).await?;
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(uri(path))
            .header("sec-websocket-version", "13")
            .body(full(""))?;
        let websocket = hyper::ext::Protocol::from_static("websocket");
        request.extensions_mut().insert(websocket);
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "{}", response.status());
        let upgraded = TokioIo::new(hyper::upgrade::on(response).await?);
        let stream: Box<dyn Io> = Box::new(upgraded);
        Ok(Self(ClientBuilder::new().take_over(stream)))
    }

    async fn say(&mut self, message: &Value) -> Result<()> {
        self.0.send(Message::text(message.to_string())).await?;
        Ok(())
    }

    /// The next message's JSON; the code and reason of the end as an error.
    async fn next(&mut self) -> Result<Value> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            let message = message
                .context("nothing comes")?
                .context("the connection ended")??;
            if let Some((code, reason)) = message.as_close() {
                bail!("closed with {}: {reason}", u16::from(code));
            }
            if let Some(text) = message.as_text() {
                return Ok(serde_json::from_str(text)?);
            }
            ensure!(!message.is_binary(), "a binary message");
        }
    }

    async fn until(&mut self, kind: &str) -> Result<Value> {
        loop {
            let next = self.next().await?;
            if next.get("type").is_some_and(|found| found == kind) {
                return Ok(next);
            }
        }
    }
}

async fn rig(s: &Scenario, kafka: &Kafka, topic: &str) -> Result<Rig> {
    let routes = vec![
        sockets()?,
        reads()?,
        produce("/", json!({"topic": topic, "value": "body"})),
    ];
    let entry = json!({"topics": [topic], "anonymous": true, "publish": true, "encodeMessageId": false});
    let parts = Parts::new(&kafka.bootstrap(), routes).sidecar("reads", json!([entry]));
    Rig::start(s, parts).await
}

#[test]
fn records_go_both_ways_through_envoy() -> Result<()> {
    scenario("sockets-both-ways", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 2).await?;
        let mut rig = rig(s, kafka, &topic).await?;
        let port = rig.envoy.port();
        let path = format!("/topics/{topic}/ws?from=earliest");
        let mut offsets = Vec::new();
        for (round, mut socket) in [Socket::h1(port, &path).await?, Socket::h2(port, &path).await?]
            .into_iter()
            .enumerate()
        {
            for (id, message) in [
                json!({"key": {"base64": "AP8="}, "value": "one", "partition": 1, "timestamp": 1_700_000_000_000_i64}),
                json!({"json": {"n": 2}, "partition": 1, "headers": [{"name": "h", "value": "v"}]}),
            ]
            .into_iter()
            .enumerate()
            {
                let mut message = message;
                message["type"] = "publish".into();
                message["id"] = id.into();
                socket.say(&message).await?;
                let answer = socket.until("published").await?;
                // Which partition the POST goes to is Kafka's client's to say: the offset is compared with the records' below.
                let offset = answer["offset"].as_i64().with_context(|| answer.to_string())?;
                offsets.push(offset);
                let expected = json!({
                    "type": "published", "id": id, "topic": topic, "status": 200, "partition": 1, "offset": offset
                });
                ensure!(answer == expected, "{answer}");
            }
            // What a POST through the filter wrote comes out, and what the socket itself wrote.
            rig.envoy
                .h1()
                .post("/", "text/plain", format!("posted-{round}"))
                .await?
                .expect(200)?;
            let mut again = Socket::h1(port, &path).await?;
            let mut values = Vec::new();
            while values.len() < 3 * (round + 1) {
                values.push(again.until("message").await?["value"].to_string());
            }
            values.sort();
            ensure!(values.contains(&format!("\"posted-{round}\"")), "{values:?}");
            let bad = json!({"type": "publish", "id": "bad", "value": "x", "topic": "other"});
            socket.say(&bad).await?;
            let error = socket.until("error").await?;
            ensure!(
                error["code"] == "topic_not_allowed" && error["status"] == 403,
                "{error}"
            );
        }
        // As another client than the one that wrote them sees them.
        let records = kafka.records(&topic).await?;
        let written: Vec<_> = records.iter().filter(|record| record.partition == 1).collect();
        let written: Vec<_> = written
            .into_iter()
            .filter(|record| !record.text().is_ok_and(|text| text.starts_with("posted")))
            .collect();
        let found: Vec<_> = written.iter().map(|record| record.offset).collect();
        ensure!(written.len() == 4 && found == offsets, "{offsets:?}: {records:?}");
        for pair in written.chunks(2) {
            let [one, two] = pair else { bail!("{pair:?}") };
            ensure!(
                one.key.as_deref() == Some(&[0, 255][..]) && one.text()? == "one",
                "{one:?}"
            );
            ensure!(one.timestamp_ms == 1_700_000_000_000, "{one:?}");
            ensure!(
                two.key.is_none() && two.text()? == "{\"n\":2}" && two.header("h") == Some("v"),
                "{two:?}"
            );
        }
        // A page of another site is refused, also through Envoy.
        let upgrade = Request::get(format!("http://127.0.0.1:{port}{path}"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("origin", "https://elsewhere.example");
        let refused = rig.envoy.h1().send(upgrade.body(full(""))?).await?;
        refused.expect_error(403, "origin_not_allowed")?;
        rig.envoy.healthy()
    })
}

/// Clients come back at random while records are written, and a sidecar goes away in between: each record comes once.
#[test]
fn nothing_is_missed_and_nothing_comes_twice_on_sockets() -> Result<()> {
    scenario("sockets-resume", async |s| {
        const RECORDS: usize = 200;
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let mut rig = rig(s, kafka, &topic).await?;
        let port = rig.envoy.port();
        let mut writer = Socket::h1(port, &format!("/topics/{topic}/ws?paused=true")).await?;
        let readers: Vec<_> = (1..4_usize)
            .map(|reader| tokio::spawn(read_all(port, topic.clone(), reader, RECORDS)))
            .collect();
        let mut places = BTreeMap::new();
        let mut unsure = 0;
        for n in 0..RECORDS {
            if n == RECORDS / 2 {
                // It says where the client was, and why it goes.
                let idle = async {
                    let closing = writer.until("closing").await?;
                    ensure!(
                        closing["cursor"].as_str().is_some_and(|c| c.starts_with(&topic)),
                        "{closing}"
                    );
                    let Err(end) = writer.next().await else {
                        bail!("something after the end")
                    };
                    ensure!(end.to_string().starts_with("closed with 1001"), "{end}");
                    Ok(())
                };
                let (told, stopped) = tokio::join!(idle, rig.sidecar.stop(PATIENCE));
                told?;
                ensure!(stopped?.success(), "{}", rig.sidecar.log()?);
                rig.sidecar.restart().await?;
                writer = comes_back(port, &format!("/topics/{topic}/ws?paused=true")).await?;
            }
            writer
                .say(&json!({"type": "publish", "id": n, "value": n.to_string()}))
                .await?;
            let answer = writer.next().await?;
            if answer["type"] == "published" {
                let place = (answer["partition"].as_i64(), answer["offset"].as_i64());
                ensure!(places.insert(place, n).is_none(), "{answer}: a place twice");
            } else {
                unsure += 1;
            }
        }
        ensure!(unsure == 0, "{unsure} were not written");
        for reader in readers {
            let seen = reader.await??;
            ensure!(seen == (0..RECORDS).collect::<Vec<_>>(), "{seen:?}");
        }
        for record in kafka.wait_for_records(&topic, RECORDS).await? {
            let place = (Some(record.partition.into()), Some(record.offset));
            let n = places
                .get(&place)
                .with_context(|| format!("nobody was told of {record:?}"))?;
            ensure!(record.text()? == n.to_string(), "{record:?}");
        }
        rig.envoy.healthy()
    })
}

/// Reads all records, on connection after connection: some it closes itself, some end with their sidecar.
async fn read_all(port: u16, topic: String, reader: usize, records: usize) -> Result<Vec<usize>> {
    let mut seen = Vec::new();
    let mut last = String::new();
    while seen.len() < records {
        let path = format!("/topics/{topic}/ws?from=earliest&max_in_flight=9&cursor={last}");
        let mut socket = comes_back(port, &path).await?;
        let upto = records.min(seen.len() + 17 * reader);
        while seen.len() < upto {
            let Ok(message) = socket.next().await else { break };
            if let Some(cursor) = message.get("cursor").and_then(Value::as_str) {
                last = cursor.replace('#', "%23");
            }
            if message.get("type").is_some_and(|kind| kind == "message") {
                // The value is JSON: a number.
                let value = message
                    .get("value")
                    .and_then(Value::as_u64)
                    .with_context(|| message.to_string())?;
                seen.push(usize::try_from(value)?);
                // Its sidecar may be gone by now; what comes next says so.
                drop(
                    socket
                        .say(&json!({"type": "ack", "cursor": message.get("id")}))
                        .await,
                );
            }
        }
    }
    seen.sort_unstable();
    Ok(seen)
}

/// A socket, as soon as there is a sidecar again.
async fn comes_back(port: u16, path: &str) -> Result<Socket> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Socket::h1(port, path).await {
            Ok(socket) => return Ok(socket),
            Err(error) if tokio::time::Instant::now() > until => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A group's reader says how fast, goes elsewhere and acknowledges; what it has acknowledged does not come again, to whoever reads on.
#[test]
fn a_reader_of_a_group_acknowledges_on_its_socket() -> Result<()> {
    scenario("sockets-group", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let routes = vec![
            sockets()?,
            reads()?,
            produce("/", json!({"topic": topic, "value": "body"})),
        ];
        let entry = json!({
            "topics": [topic], "anonymous": true, "encodeMessageId": false, "groups": ["app-*"],
            "qos": "at-least-once", "auto_offset_reset": "earliest"
        });
        let parts = Parts::new(&kafka.bootstrap(), routes).sidecar("reads", json!([entry]));
        let mut rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        for n in 0..6 {
            client
                .post("/", "text/plain", format!("v{n}"))
                .await?
                .expect(200)?;
        }
        let port = rig.envoy.port();
        let group = format!("app-{topic}");
        let path = format!("/topics/{topic}/ws?group={group}&max_in_flight=4");
        let mut socket = Socket::h1(port, &path).await?;
        let assigned = socket.until("assigned").await?;
        ensure!(assigned["partitions"][0]["position"] == 0, "{assigned}");
        let next = async |socket: &mut Socket, offset: i64| -> Result<()> {
            let message = socket.until("message").await?;
            ensure!(
                message["offset"] == offset && message["value"] == format!("v{offset}"),
                "{message}"
            );
            Ok(())
        };
        for offset in 0..4 {
            next(&mut socket, offset).await?;
        }
        socket.say(&json!({"type": "pause"})).await?;
        socket.until("ok").await?;
        socket
            .say(&json!({"type": "ack", "cursor": format!("{topic}@0#1")}))
            .await?;
        socket.say(&json!({"type": "resume"})).await?;
        socket.until("ok").await?;
        next(&mut socket, 4).await?;
        next(&mut socket, 5).await?;
        socket.say(&json!({"type": "seek", "from": "earliest"})).await?;
        socket.until("ok").await?;
        next(&mut socket, 0).await?;
        socket
            .say(&json!({"type": "ack", "cursor": format!("{topic}@0#2")}))
            .await?;
        let lag = format!("/topics/{topic}?group={group}");
        wait::until("it is committed", PATIENCE, async || {
            let page = client.get(&lag).await?.expect(200)?.json()?;
            ensure!(page["partitions"][0]["committed"] == 3, "{page}");
            Ok(())
        })
        .await?;
        drop(socket);
        // By another sidecar's member, once the first has left.
        rig.sidecar.stop(PATIENCE).await?;
        rig.sidecar.restart().await?;
        let mut socket = comes_back(port, &path).await?;
        let assigned = socket.until("assigned").await?;
        ensure!(assigned["partitions"][0]["position"] == 3, "{assigned}");
        for offset in 3..6 {
            next(&mut socket, offset).await?;
        }
        rig.envoy.healthy()
    })
}

//! The sidecar's REST face and its producer profiles, on a real Kafka.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::client::{Client, full};
use sluice_e2e::envoy::{Config, Envoy, by_call, produce};
use sluice_e2e::scenario::scenario;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, kafka, parts};

fn settings(bootstrap: &str, producers: Value) -> Value {
    json!({
        "clusters": {
            "main": {"bootstrap_servers": bootstrap, "allowed_topics": ["rest-*"]},
            "spare": {"bootstrap_servers": bootstrap, "allowed_topics": ["rest-spare-*"]},
        },
        "default_cluster": "main",
        "producers": producers,
    })
}

#[test]
fn one_record_with_everything() -> Result<()> {
    scenario("rest-one", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let sidecar = Sidecar::start(s.dir(), &settings(&kafka.bootstrap(), json!({}))).await?;
        let rest = sidecar.rest();
        let path = format!("/topics/{topic}/records");
        let request = rest
            .request(Method::POST, &path)
            .header("content-type", "application/json")
            .header("x-kafka-key", "k1")
            .header("x-kafka-partition", "2")
            .header("x-kafka-timestamp", "1700000000123")
            .header("x-kafka-header-a", "1")
            .header("x-kafka-header-a", "2")
            .header("x-kafka-header-base64-b", "AP8=");
        let reply = rest.send(request.body(full("{ \"as\": \"sent\" }"))?).await?;
        ensure!(reply.expect(200)?.json()? == json!({"message": "message sent"}));
        ensure!(reply.header("x-kafka-partition") == "2" && reply.header("x-kafka-offset") == "0");
        let record = kafka.only_record(&topic).await?;
        ensure!(record.text()? == "{ \"as\": \"sent\" }" && record.key.as_deref() == Some(b"k1"));
        ensure!(
            record.partition == 2 && record.timestamp_ms == 1_700_000_000_123,
            "{record:?}"
        );
        ensure!(
            record.headers.get("b").map(Vec::as_slice) == Some(&b"\x00\xff"[..]),
            "{record:?}"
        );
        let line = kafka.console_consume(&topic, 1).await?;
        ensure!(
            line[0].starts_with("a:1,a:2,b:"),
            "repeated headers in order: {line:?}"
        );

        let tombstone = rest
            .request(Method::POST, &path)
            .header("x-kafka-tombstone", "true")
            .body(full(""))?;
        rest.send(tombstone).await?.expect(200)?;
        ensure!(
            kafka
                .records(&topic)
                .await?
                .iter()
                .any(|record| record.value.is_none())
        );
        rest.post("/topics/elsewhere/records", "", "x")
            .await?
            .expect_error(403, "topic_not_allowed")?;
        let spare = format!("{path}?cluster_name=spare");
        rest.post(&spare, "", "x")
            .await?
            .expect_error(403, "topic_not_allowed")?;
        rest.post(&format!("{path}?cluster_name=none"), "", "x")
            .await?
            .expect_error(500, "route_misconfigured")?;
        Ok(())
    })
}

#[test]
fn many_records_each_with_its_result() -> Result<()> {
    scenario("rest-many", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 2).await?;
        let sidecar = Sidecar::start(s.dir(), &settings(&kafka.bootstrap(), json!({}))).await?;
        let path = format!("/topics/{topic}/records");
        let lines: String = (0..100)
            .map(|i| format!("{{\"key\": \"k{}\", \"json\": {{\"n\":{i}}}}}\n", i % 7))
            .collect();
        let reply = sidecar.rest().post(&path, "application/x-ndjson", lines).await?;
        let results = reply.expect(200)?.json()?;
        let results = results["results"].as_array().cloned().unwrap_or_default();
        let records = kafka.records(&topic).await?;
        ensure!(results.len() == 100 && records.len() == 100);
        for (i, result) in results.iter().enumerate() {
            let here = |record: &&kafka::Record| {
                result["partition"] == json!(record.partition) && result["offset"] == json!(record.offset)
            };
            let text = records
                .iter()
                .find(here)
                .map(|record| record.text().map(str::to_owned))
                .transpose()?;
            ensure!(
                text.as_deref() == Some(&format!("{{\"n\":{i}}}")),
                "result {i}: {result} is {text:?}"
            );
        }

        // One of them cannot be stored: there is no such partition.
        let array = json!([{"value": "a"}, {"value": "b", "partition": 9}, {"value": null, "key": {"base64": "AP8="}}]);
        let reply = sidecar
            .rest()
            .post(&path, "application/vnd.sluice.records+json", array.to_string())
            .await?;
        let results = reply.expect_error(502, "partly_stored")?.json()?;
        let statuses: Vec<_> = (0..3).map(|i| results["results"][i]["status"].as_u64()).collect();
        ensure!(statuses == [Some(200), Some(404), Some(200)], "{results}");
        let records = kafka.records(&topic).await?;
        ensure!(records.len() == 102);
        ensure!(
            records
                .iter()
                .any(|r| r.value.is_none() && r.key.as_deref() == Some(&b"\x00\xff"[..]))
        );
        Ok(())
    })
}

/// A POST of a file by curl, which shares no code with the sidecar; gives the HTTP version, the status and the body.
async fn curl(args: &[&str], url: &str, content_type: &str, body: &Path) -> Result<(String, String, Value)> {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(args)
        .args(["--write-out", "\n%{http_version} %{response_code}"])
        .args(["--header", &format!("content-type: {content_type}")])
        .args(["--data-binary", &format!("@{}", body.display()), url])
        // Where sockets' paths begin.
        .current_dir(parts::root())
        .kill_on_drop(true)
        .output()
        .await
        .context("start curl: is it installed?")?;
    let text = String::from_utf8(output.stdout)?;
    let (body, end) = text.rsplit_once('\n').unwrap_or_default();
    let (version, status) = end.split_once(' ').unwrap_or_default();
    let json = serde_json::from_str(body)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((version.to_owned(), status.to_owned(), json))
}

/// Without TLS and without an upgrade: HTTP/2 from the first byte on.
#[test]
fn http2_with_prior_knowledge() -> Result<()> {
    scenario("rest-h2", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let sidecar = Sidecar::start(s.dir(), &settings(&kafka.bootstrap(), json!({}))).await?;
        let path = format!("/topics/{topic}/records");
        let url = format!("http://127.0.0.1:{}{path}", sidecar.data());
        let file = s.dir().join("body");
        let h2 = ["--http2-prior-knowledge"];

        std::fs::write(&file, "one")?;
        let keyed = [&h2[..], &["--header", "x-kafka-key: k"]].concat();
        let (version, status, json) = curl(&keyed, &url, "text/plain", &file).await?;
        ensure!(
            version == "2" && status == "200" && json == json!({"message": "message sent"}),
            "{version} {status} {json}"
        );
        let record = kafka.only_record(&topic).await?;
        ensure!(
            record.text()? == "one" && record.key.as_deref() == Some(b"k"),
            "{record:?}"
        );

        // 3 MB, several times the window that a stream begins with.
        let value = "x".repeat(30_000);
        let lines: String = (0..100)
            .map(|i| format!("{{\"value\": \"{i} {value}\"}}\n"))
            .collect();
        std::fs::write(&file, lines)?;
        let (version, status, json) = curl(&h2, &url, "application/x-ndjson", &file).await?;
        let results: Vec<_> = (1..=100)
            .map(|offset| json!({"topic": topic, "status": 200, "partition": 0, "offset": offset}))
            .collect();
        ensure!(
            version == "2" && status == "200" && json["results"] == json!(results),
            "{version} {status} {json}"
        );
        let records = kafka.records(&topic).await?;
        ensure!(records.len() == 101, "{}", records.len());
        for (i, record) in records.iter().skip(1).enumerate() {
            ensure!(record.text()? == format!("{i} {value}"), "line {i}");
        }

        // Many at once on one connection, one of them refused: an answer each, and the right one.
        let http = Client::h2(sidecar.data());
        let missing = format!("/topics/{}/records", s.topic("missing"));
        let refused = http.post(&missing, "", "x");
        let posts: Vec<_> = (0..50)
            .map(|i| {
                let (http, path) = (http.clone(), path.clone());
                tokio::spawn(async move { http.post(&path, "", format!("at once {i}")).await })
            })
            .collect();
        refused.await?.expect_error(404, "unknown_topic")?;
        let mut offsets = Vec::new();
        for post in posts {
            let reply = post.await??;
            offsets.push(reply.expect(200)?.header("x-kafka-offset").parse::<usize>()?);
        }
        let records = kafka.records(&topic).await?;
        for (i, offset) in offsets.into_iter().enumerate() {
            ensure!(
                records[offset].text()? == format!("at once {i}"),
                "{i} at {offset}"
            );
        }
        ensure!(records.len() == 151, "{}", records.len());
        Ok(())
    })
}

#[test]
fn over_a_unix_socket() -> Result<()> {
    scenario("rest-unix", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let socket = s.dir().strip_prefix(parts::root())?.join("data.sock");
        let mut settings = settings(&kafka.bootstrap(), json!({}));
        settings["listeners"] = json!({"data": {"path": socket, "mode": "0600"}});
        let mut sidecar = Sidecar::start(s.dir(), &settings).await?;
        let found = parts::root().join(&socket);
        let mode = std::fs::metadata(&found)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "{mode:o}");

        let url = format!("http://sluice/topics/{topic}/records");
        let file = s.dir().join("body");
        let over = socket.display().to_string();
        for (version, option) in [("1.1", "--http1.1"), ("2", "--http2-prior-knowledge")] {
            std::fs::write(&file, version)?;
            let args = [option, "--unix-socket", &over];
            let (spoken, status, json) = curl(&args, &url, "text/plain", &file).await?;
            ensure!(
                spoken == version && status == "200" && json == json!({"message": "message sent"}),
                "{spoken} {status} {json}"
            );
        }

        let mut config = Config::new(sidecar.stream(), sidecar.data());
        config.data_socket = Some(socket);
        config.routes = vec![produce("/", by_call(json!({"topic": topic, "value": "body"})))];
        let mut envoy = Envoy::start(s.dir(), &config).await?;
        let reply = envoy.h1().post("/", "", "by Envoy's call").await?;
        ensure!(
            reply.expect(200)?.header("x-kafka-offset") == "2",
            "{:?}",
            reply.headers
        );

        let records = kafka.records(&topic).await?;
        let values: Vec<_> = records.iter().filter_map(|record| record.text().ok()).collect();
        ensure!(values == ["1.1", "2", "by Envoy's call"], "{values:?}");
        envoy.healthy()?;
        sidecar.stop(Duration::from_secs(30)).await?;
        ensure!(!found.exists(), "the socket is left behind");
        Ok(())
    })
}

#[test]
fn profiles_compress_and_ask_for_the_acks_they_say() -> Result<()> {
    scenario("rest-profiles", async |s| {
        let kafka = kafka::shared().await?;
        let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
        let mut producers =
            json!({"nobody": {"producer_request_acks": 0}, "leader": {"producer_request_acks": 1}});
        for codec in codecs {
            producers[codec] = json!({"compression": codec});
        }
        let sidecar = Sidecar::start(s.dir(), &settings(&kafka.bootstrap(), producers)).await?;
        let value = "compressible ".repeat(1000);
        for codec in codecs {
            let topic = s.topic(codec);
            kafka.create_topic(&topic, 1).await?;
            let path = format!("/topics/{topic}/records?producer={codec}");
            sidecar.rest().post(&path, "", value.clone()).await?.expect(200)?;
            // rskafka asks in a version of the protocol that has no zstd.
            let read = if codec == "zstd" {
                kafka.console_consume(&topic, 1).await?[0].ends_with(&format!("\t{value}"))
            } else {
                kafka.only_record(&topic).await?.text()? == value
            };
            ensure!(read, "{codec}");
            let (stored, with) = kafka.log_of(&topic)?;
            ensure!(
                with == codec && (stored > 13_000) == (codec == "none"),
                "{codec}: {stored} bytes on disk, by {with}"
            );
        }
        let topic = s.topic("acks");
        kafka.create_topic(&topic, 1).await?;
        let post = async |profile: &str| {
            sidecar
                .rest()
                .post(&format!("/topics/{topic}/records?producer={profile}"), "", "x")
                .await
        };
        ensure!(post("leader").await?.expect(200)?.header("x-kafka-offset") == "0");
        ensure!(
            post("nobody")
                .await?
                .expect(202)?
                .header("x-kafka-offset")
                .is_empty()
        );
        kafka.wait_for_records(&topic, 2).await?;
        Ok(())
    })
}

//! The shipped `envoy.yaml`, as it is, and Kong's quick start in our words.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use sluice_e2e::client::full;
use sluice_e2e::envoy::Envoy;
use sluice_e2e::kafka::Kafka;
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, kafka, parts, ports, wait};

use crate::cli;

/// The shipped Envoy configuration, with nothing changed but ports and the socket.
async fn shipped(s: &Scenario, kafka: &Kafka, topics: &[&str]) -> Result<(Sidecar, Envoy)> {
    let settings =
        json!({"clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": topics}}});
    let sidecar = Sidecar::start(s.dir(), &settings).await?;
    let (port, admin) = (ports::pick()?, ports::pick()?);
    let text = std::fs::read_to_string(parts::root().join("envoy.yaml"))?;
    let text = text
        .replace("port_value: 10000 ", &format!("port_value: {port} "))
        .replace("port_value: 9901 ", &format!("port_value: {admin} "))
        .replace("port_value: 9071 ", &format!("port_value: {} ", sidecar.data()))
        .replace("target/run/stream.sock", &sidecar.stream().display().to_string());
    let path = s.dir().join("envoy.yaml");
    std::fs::write(&path, text)?;
    let envoy = Envoy::start_file(s.dir(), &path, port, admin).await?;
    Ok((sidecar, envoy))
}

async fn create_if_missing(kafka: &Kafka, topic: &str) -> Result<()> {
    if kafka.topics().await?.iter().any(|known| known == topic) {
        return Ok(());
    }
    kafka.create_topic(topic, 1).await
}

#[test]
fn kongs_quick_start() -> Result<()> {
    scenario("kong-quick-start", async |s| {
        let kafka = kafka::shared().await?;
        let (_sidecar, envoy) = shipped(s, kafka, &["kong-upstream"]).await?;
        let http = envoy.h1();
        let post = async || {
            let request = http
                .request(Method::POST, "/")
                .header("host", "kafka-upstream.dev")
                .header("content-type", "application/x-www-form-urlencoded");
            http.send(request.body(full("foo=bar"))?).await
        };
        // The step that is easily forgotten.
        post().await?.expect_error(404, "unknown_topic")?;
        let sluice = async |args: &[&str]| cli::sluice(&kafka.bootstrap(), args).await?.succeeded();
        sluice(&["topics", "create", "kong-upstream", "--partitions", "1"]).await?;
        // The sidecar believes for a moment what it has just heard of the topic.
        let reply = wait::until("the new topic is known", Duration::from_secs(20), async || {
            let reply = post().await?;
            reply.expect(200).map(|_| ())?;
            Ok(reply)
        })
        .await?;
        ensure!(reply.json()? == json!({"message": "message sent"}));
        let printed = sluice(&[
            "tail",
            "kong-upstream",
            "--from-beginning",
            "--timeout-ms",
            "3000",
        ])
        .await?;
        ensure!(printed.contains("foo=bar"), "{printed}");
        let record = kafka.only_record("kong-upstream").await?;
        ensure!(
            record.json()? == json!({"body": "foo=bar", "body_args": {"foo": "bar"}}),
            "{}",
            record.text()?
        );
        Ok(())
    })
}

#[test]
fn every_shipped_route_does_what_its_comment_says() -> Result<()> {
    scenario("kong-shipped-routes", async |s| {
        let kafka = kafka::shared().await?;
        let topics = ["orders", "readings", "logins", "clicks"];
        for topic in topics {
            create_if_missing(kafka, topic).await?;
        }
        let (_sidecar, envoy) = shipped(s, kafka, &topics).await?;
        let http = envoy.h1();
        http.post("/orders?x=1", "application/json", r#"{"id":1}"#)
            .await?
            .expect(200)?;
        http.post("/calls", "application/json", r#"{"id":2}"#)
            .await?
            .expect(200)?;
        let orders = kafka.wait_for_records("orders", 2).await?;
        let first = orders[0].json()?;
        ensure!(
            first["method"] == "POST" && first["uri"] == "/orders?x=1" && first["headers"].is_object(),
            "{first}"
        );
        ensure!(
            orders[1].json()? == json!({"body": r#"{"id":2}"#, "body_args": {"id": 2}}),
            "{}",
            orders[1].text()?
        );

        http.post("/devices/d7/readings", "application/octet-stream", "raw")
            .await?
            .expect(200)?;
        http.send(http.request(Method::DELETE, "/devices/d7").body(full(""))?)
            .await?
            .expect(200)?;
        let readings = kafka.wait_for_records("readings", 2).await?;
        ensure!(
            readings.iter().all(|record| record.key.as_deref() == Some(b"d7")),
            "{readings:?}"
        );
        ensure!(
            readings[0].text()? == "raw" && readings[1].value.is_none(),
            "{readings:?}"
        );

        http.post("/logins", "application/json", r#"{"user":{"id":"u1"}}"#)
            .await?
            .expect(200)?;
        ensure!(kafka.only_record("logins").await?.key.as_deref() == Some(&b"u1"[..]));
        http.post("/clicks", "", "c").await?.expect(202)?;
        ensure!(kafka.wait_for_records("clicks", 1).await?[0].text()? == "c");
        ensure!(http.get("/elsewhere").await?.expect(404)?.text() == "no route\n");
        Ok(())
    })
}

#[test]
fn options_is_answered_by_envoy() -> Result<()> {
    scenario("kong-cors", async |s| {
        let kafka = kafka::shared().await?;
        create_if_missing(kafka, "clicks").await?;
        let before = kafka.records("clicks").await?.len();
        let (_sidecar, envoy) = shipped(s, kafka, &["clicks", "orders"]).await?;
        let http = envoy.h1();
        let preflight = |path: &str, origin: &str| {
            let request = http
                .request(Method::OPTIONS, path)
                .header("origin", origin)
                .header("access-control-request-method", "POST");
            request.body(full(""))
        };
        let local = "http://localhost:3000";
        let reply = http.send(preflight("/clicks", local)?).await?;
        ensure!(
            reply.expect(200)?.header("access-control-allow-origin") == local,
            "{:?}",
            reply.headers
        );
        let reply = http.send(preflight("/clicks", "http://evil.example")?).await?;
        ensure!(
            reply.header("access-control-allow-origin").is_empty(),
            "{:?}",
            reply.headers
        );
        let plain = http
            .send(http.request(Method::OPTIONS, "/orders").body(full(""))?)
            .await?;
        ensure!(plain.expect(204)?.header("allow").contains("POST"));

        let post = http
            .request(Method::POST, "/clicks")
            .header("origin", local)
            .body(full("c"))?;
        let reply = http.send(post).await?;
        ensure!(
            reply.expect(202)?.header("access-control-allow-origin") == local,
            "{:?}",
            reply.headers
        );
        let after = kafka.wait_for_records("clicks", before + 1).await?;
        ensure!(after.len() == before + 1, "OPTIONS wrote a record");
        Ok(())
    })
}

#[test]
fn produce_options_makes_options_a_record() -> Result<()> {
    scenario("kong-produce-options", async |s| {
        use sluice_e2e::envoy::produce;
        use sluice_e2e::rig::{Parts, Rig};
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "forward_method": true, "produce_options": true});
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])).await?;
        let http = rig.envoy.h1();
        http.send(http.request(Method::OPTIONS, "/").body(full(""))?)
            .await?
            .expect(200)?;
        let value = kafka.only_record(&topic).await?.json()?;
        ensure!(value.get("method").context("no method")? == "OPTIONS");
        Ok(())
    })
}

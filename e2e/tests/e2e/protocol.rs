//! The corners of HTTP.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method};
use serde_json::json;
use sluice_e2e::client::full;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::raw::Raw;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Result, ensure};

async fn raw_values(s: &Scenario, kafka: &Kafka) -> Result<(String, Rig)> {
    let topic = s.topic("t");
    kafka.create_topic(&topic, 1).await?;
    let routes = vec![produce("/", json!({"topic": topic, "value": "body"}))];
    Ok((
        topic,
        Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?,
    ))
}

#[test]
fn expect_100_continue() -> Result<()> {
    scenario("protocol-expect", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, rig) = raw_values(s, kafka).await?;
        let mut raw = Raw::connect(rig.envoy.port()).await?;
        raw.write("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
            .await?;
        ensure!(raw.answer().await?.status == 100);
        raw.write("hello").await?;
        ensure!(raw.answer().await?.status == 200);
        ensure!(kafka.only_record(&topic).await?.text()? == "hello");
        Ok(())
    })
}

#[test]
fn chunked_bodies_trailers_and_pipelined_requests() -> Result<()> {
    scenario("protocol-chunked", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, rig) = raw_values(s, kafka).await?;
        let mut raw = Raw::connect(rig.envoy.port()).await?;
        let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        for part in [
            head,
            "3\r\nabc\r\n",
            "2\r\n",
            "de\r\n",
            "0\r\n",
            "x-trailer: 1\r\n",
            "\r\n",
        ] {
            raw.write(part).await?;
        }
        ensure!(raw.answer().await?.status == 200);
        // Two at once on the same connection.
        let next = |n: u8| format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{n}");
        raw.write(next(1) + &next(2)).await?;
        for _ in 0..2 {
            ensure!(raw.answer().await?.status == 200);
        }

        let http = rig.envoy.h2();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "1".parse()?);
        let body = Full::<Bytes>::from("with trailers")
            .with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
        let request = http.request(Method::POST, "/").body(body.boxed())?;
        http.send(request).await?.expect(200)?;

        let records = kafka.records(&topic).await?;
        let values: Vec<_> = records.iter().filter_map(|record| record.text().ok()).collect();
        ensure!(values == ["abcde", "1", "2", "with trailers"], "{values:?}");
        Ok(())
    })
}

#[test]
fn a_client_that_only_listens_any_more_gets_its_answer() -> Result<()> {
    scenario("protocol-half-closed", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, rig) = raw_values(s, kafka).await?;
        let mut raw = Raw::connect(rig.envoy.port()).await?;
        raw.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
            .await?;
        // Envoy may take this for a client that is gone; the record is then stored or not, but never twice.
        raw.half_close().await?;
        let answered = raw.answer().await.is_ok_and(|answer| answer.status == 200);
        let records = kafka.records(&topic).await?;
        ensure!(
            records.len() <= 1 && (!answered || records.len() == 1),
            "{answered} {records:?}"
        );
        rig.envoy.h1().post("/", "", "next").await?.expect(200)?;
        Ok(())
    })
}

#[test]
fn a_request_that_is_cut_off_writes_nothing() -> Result<()> {
    scenario("protocol-cut-off", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, mut rig) = raw_values(s, kafka).await?;
        for length in [
            "content-length: 10\r\n\r\nhalf",
            "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ] {
            let mut raw = Raw::connect(rig.envoy.port()).await?;
            raw.write(format!("POST / HTTP/1.1\r\nhost: x\r\n{length}"))
                .await?;
            raw.reset()?;
        }
        rig.envoy.h1().post("/", "", "whole").await?.expect(200)?;
        ensure!(kafka.only_record(&topic).await?.text()? == "whole");
        rig.envoy.healthy()
    })
}

#[test]
fn every_method_and_non_utf8_headers() -> Result<()> {
    scenario("protocol-methods", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "forward_method": true, "forward_headers": true});
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])).await?;
        for client in [rig.envoy.h1(), rig.envoy.h2()] {
            for method in ["GET", "PUT", "PATCH", "DELETE", "POST"] {
                let request = client
                    .request(method.parse()?, "/")
                    .header("x-raw", &b"\xff\xfe"[..]);
                client.send(request.body(full(""))?).await?.expect(200)?;
            }
        }
        let records = kafka.records(&topic).await?;
        ensure!(records.len() == 10);
        for record in &records {
            let value = record.json()?;
            ensure!(value["headers"]["x-raw"] == json!({"base64": "//4="}), "{value}");
        }
        Ok(())
    })
}

#[test]
fn target_and_headers_are_recorded_as_envoy_hands_them_on() -> Result<()> {
    scenario("protocol-as-sent", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "forward_uri": true, "forward_headers": true});
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])).await?;
        let target = "//a/../b/%2e%2E/c%2fd?x=1&x=+2%zz&&flag&=gone";
        let mut raw = Raw::connect(rig.envoy.port()).await?;
        let headers = "host: Example.com:8080\r\nX-Many: 1\r\naccept: a/b\r\nx-many: 2\r\naccept: c/d\r\n\
                       via: one\r\nvia: two\r\nauthorization: secret\r\ncookie: secret\r\n\
                       proxy-authorization: secret\r\nset-cookie: secret\r\ncontent-length: 0\r\n";
        raw.write(format!("POST {target} HTTP/1.1\r\n{headers}\r\n"))
            .await?;
        ensure!(raw.answer().await?.status == 200);
        let record = kafka.only_record(&topic).await?;
        let value = record.json()?;
        ensure!(value["uri"] == target, "{value}");
        ensure!(
            value["uri_args"] == json!({"x": ["1", " 2%zz"], "flag": true}),
            "{value}"
        );
        let headers = &value["headers"];
        ensure!(headers["x-many"] == json!(["1", "2"]), "{value}");
        // Envoy joins these before any filter sees them.
        ensure!(headers["accept"] == "a/b,c/d", "{value}");
        ensure!(headers["via"] == "one,two", "{value}");
        ensure!(headers["host"] == "Example.com:8080", "{value}");
        ensure!(!record.text()?.contains("secret"), "{value}");
        Ok(())
    })
}

#[test]
fn a_message_larger_than_http2_windows() -> Result<()> {
    scenario("protocol-large", async |s| {
        let kafka = Kafka::start(
            s.dir(),
            &kafka::Setup::default().property("message.max.bytes", "20000000"),
        )
        .await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let large = 16 << 20;
        let settings = json!({"topic": topic, "value": "body", "max_body_bytes": large});
        let parts = Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])
            .sidecar("max_request_bytes", json!(large + 65_536))
            .sidecar(
                "clusters/main/properties",
                json!({"message.max.bytes": 20_000_000}),
            );
        let mut rig = Rig::start(s, parts).await?;
        rig.config.buffer_limit = Some(large);
        rig.envoy.replace(&rig.config).await?;
        // Each far beyond the 64 KiB and 16 MiB that a stream's window may be; several at once on one stream.
        let body: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
        let http = rig.envoy.h1();
        let post = || http.post("/", "", body.clone());
        let (a, b, c) = tokio::join!(post(), post(), post());
        for reply in [a?, b?, c?] {
            reply.expect(200)?;
        }
        http.post("/", "", "small").await?.expect(200)?;
        let lengths: Vec<_> = kafka
            .records(&topic)
            .await?
            .iter()
            .map(|r| r.value.as_ref().map_or(0, Vec::len))
            .collect();
        ensure!(lengths == [8 << 20, 8 << 20, 8 << 20, 5], "{lengths:?}");
        Ok(())
    })
}

//! Keys, partitions and record headers.

use std::collections::BTreeMap;

use serde_json::json;
use sluice_e2e::client::full;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::Record;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, ensure, kafka};

fn partition_by_key(records: &[Record]) -> BTreeMap<Vec<u8>, i32> {
    records
        .iter()
        .map(|record| (record.key.clone().unwrap_or_default(), record.partition))
        .collect()
}

#[test]
fn a_key_goes_to_the_partition_that_java_chooses() -> Result<()> {
    scenario("keys-murmur2", async |s| {
        let kafka = kafka::shared().await?;
        let (java, ours) = (s.topic("java"), s.topic("ours"));
        for topic in [&java, &ours] {
            kafka.create_topic(topic, 12).await?;
        }
        let long = "x".repeat(300);
        let mut keys: Vec<String> = (0..40).map(|i| format!("key-{i}")).collect();
        keys.extend(["a", "ab", "abc", "abcd", "ключ", "é", &long].map(str::to_owned));
        let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        kafka.console_produce(&java, &records).await?;

        let routes = vec![produce(
            "/",
            json!({"topic": ours, "value": "body", "key": {"query": "k"}}),
        )];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        for key in &keys {
            let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            rig.envoy
                .h1()
                .post(&format!("/?k={encoded}"), "", "v")
                .await?
                .expect(200)?;
        }
        let expected = partition_by_key(&kafka.wait_for_records(&java, keys.len()).await?);
        let found = partition_by_key(&kafka.records(&ours).await?);
        ensure!(expected.len() == keys.len());
        ensure!(found == expected, "ours {found:?}\njava {expected:?}");
        Ok(())
    })
}

#[test]
fn no_key_an_empty_key_and_every_source_of_one() -> Result<()> {
    scenario("keys-sources", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let with = |key| json!({"topic": topic, "value": "body", "key": key});
        let routes = vec![
            produce(
                "/kong",
                json!({"topic": topic, "value": "body", "key_query_arg": "k"}),
            ),
            produce("/header", with(json!({"header": "X-Key"}))),
            produce("/cookie", with(json!({"cookie": "session"}))),
            produce("/path/", with(json!({"path_segment": 1}))),
            produce("/pointer", with(json!({"json_pointer": "/user/id"}))),
        ];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        let mut expected: Vec<Option<&[u8]>> = Vec::new();
        let cases: [(&str, &str, &str, Option<&[u8]>); 11] = [
            ("/kong?k=one", "", "", Some(b"one")),
            ("/kong?k=", "", "", Some(b"")),
            ("/kong?other=1", "", "", None),
            ("/kong?k=%FF%00", "", "", Some(b"\xff\x00")),
            ("/header", "x-key", "two", Some(b"two")),
            ("/header", "x-other", "two", None),
            ("/cookie", "cookie", "a=1; session=three", Some(b"three")),
            ("/path/fo%20ur/x", "", "", Some(b"fo ur")),
            ("/pointer", "content-type", "application/json", Some(b"5")),
            ("/pointer", "content-type", "application/json", Some(b"1.50")),
            ("/pointer", "content-type", "application/json", None),
        ];
        let mut bodies = [r#"{"user":{"id":"5"}}"#, r#"{"user":{"id":1.50}}"#, "{}"].into_iter();
        for (path, name, value, key) in cases {
            let mut request = http.request(hyper::Method::POST, path);
            if !name.is_empty() {
                request = request.header(name, value);
            }
            let body = if path == "/pointer" {
                bodies.next().context("a body")?
            } else {
                "x"
            };
            http.send(request.body(full(body))?).await?.expect(200)?;
            expected.push(key);
        }
        let records = kafka.records(&topic).await?;
        let found: Vec<_> = records.iter().map(|record| record.key.as_deref()).collect();
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
}

#[test]
fn the_partition_that_was_asked_for_or_404() -> Result<()> {
    scenario("keys-partition", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let asked =
            json!({"topic": topic, "value": "body", "key": {"query": "k"}, "partition": {"query": "p"}});
        let fixed = json!({"topic": topic, "value": "body", "partition": {"fixed": 3}});
        let routes = vec![produce("/asked", asked), produce("/fixed", fixed)];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        for partition in 0..4 {
            let reply = http
                .post(&format!("/asked?k=same&p={partition}"), "", "x")
                .await?;
            ensure!(reply.expect(200)?.header("x-kafka-partition") == partition.to_string());
        }
        ensure!(
            http.post("/fixed", "", "x")
                .await?
                .expect(200)?
                .header("x-kafka-partition")
                == "3"
        );
        http.post("/asked?p=4", "", "x")
            .await?
            .expect_error(404, "unknown_topic")?;
        for bad in ["-1", "x", "99999999999"] {
            http.post(&format!("/asked?p={bad}"), "", "x")
                .await?
                .expect_error(400, "invalid_request")?;
        }
        ensure!(kafka.records(&topic).await?.len() == 5);
        Ok(())
    })
}

#[test]
fn request_headers_become_record_headers() -> Result<()> {
    scenario("keys-headers", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let headers = json!({
            "include_headers": ["x-many", "x-old", "authorization"],
            "name_mappings": {"x-old": "new"},
        });
        let all = json!({"forward_all_by_default": true, "exclude_headers": ["user-agent"]});
        let routes = vec![
            produce(
                "/some",
                json!({"topic": topic, "value": "none", "headers": headers}),
            ),
            produce("/all", json!({"topic": topic, "value": "none", "headers": all})),
        ];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        for path in ["/some", "/all"] {
            let request = http
                .request(hyper::Method::POST, path)
                .header("x-many", "1")
                .header("x-many", "2")
                .header("x-old", "3")
                .header("x-else", "4")
                .header("user-agent", "test")
                .header("authorization", "Bearer secret")
                .header("cookie", "a=secret")
                .header(
                    "traceparent",
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                )
                .header("x-request-id", "11111111-2222-4333-8444-555555555555");
            http.send(request.body(full("x"))?).await?.expect(200)?;
        }
        let lines = kafka.console_consume(&topic, 2).await?;
        let [some, all] = lines.as_slice() else {
            return Err(sluice_e2e::anyhow!("{lines:?}"));
        };
        ensure!(
            some.contains("x-many:1,x-many:2"),
            "repeated and in order: {some}"
        );
        ensure!(
            some.contains("new:3") && !some.contains("x-old") && !some.contains("x-else"),
            "{some}"
        );
        ensure!(
            all.contains("x-many:1,x-many:2") && all.contains("x-else:4") && !all.contains("user-agent"),
            "{all}"
        );
        for line in [some, all] {
            ensure!(
                line.contains("traceparent:00-0af7651916cd43dd8448eb211c80319c"),
                "{line}"
            );
            ensure!(line.contains("x-request-id:"), "{line}");
            ensure!(!line.contains("cookie"), "{line}");
        }
        // Named explicitly in the first only.
        ensure!(
            some.contains("authorization:Bearer secret") && !all.contains("secret"),
            "{some}\n{all}"
        );
        ensure!(
            kafka
                .records(&topic)
                .await?
                .iter()
                .all(|record| record.value.is_none()),
            "tombstones"
        );
        Ok(())
    })
}

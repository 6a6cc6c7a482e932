//! Every kind of body, through a real Envoy.

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka};

const MULTIPART: &str = "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
                         --b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\n\
                         content-type: application/octet-stream\r\n\r\n\u{0}\u{1}\r\n--b--\r\n";

#[test]
fn the_envelope_of_every_body_type() -> Result<()> {
    scenario("bodies-types", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "json_content_types": ["application/*+json"]});
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])).await?;

        let long = "9".repeat(40);
        let exact = format!(r#"{{"n": {long}, "a":[], "o":{{}}, "a":"\ud800", "z":1.50}}"#);
        let files = json!([{"name": "f", "filename": "x.bin", "content_type": "application/octet-stream", "size": 2}]);
        let multipart =
            json!({"body": MULTIPART, "body_args": {"a": "1", "f": "\u{0}\u{1}"}, "body_files": files});
        let cases: Vec<(&str, &[u8], Value)> = vec![
            (
                "application/json",
                br#"{"a":[1,true]}"#,
                json!({"body": r#"{"a":[1,true]}"#, "body_args": {"a": [1, true]}}),
            ),
            (
                "Application/JSON; charset=utf-8",
                b"[]",
                json!({"body": "[]", "body_args": []}),
            ),
            (
                "application/problem+json",
                b"[]",
                json!({"body": "[]", "body_args": []}),
            ),
            (
                "application/x-www-form-urlencoded",
                b"a=1&a=2&b&c=x+y%21&=drop&d=%zz",
                json!({"body": "a=1&a=2&b&c=x+y%21&=drop&d=%zz", "body_args": {"a": ["1", "2"], "b": true, "c": "x y!", "d": "%zz"}}),
            ),
            ("multipart/form-data; boundary=b", MULTIPART.as_bytes(), multipart),
            (
                "text/plain; charset=utf-8",
                "grüße".as_bytes(),
                json!({"body": "grüße", "body_args": {}}),
            ),
            ("text/html", b"<p>", json!({"body": "<p>", "body_args": {}})),
            (
                "application/xml",
                b"<a/>",
                json!({"body": "<a/>", "body_args": {}}),
            ),
            ("text/xml", b"<a/>", json!({"body": "<a/>", "body_args": {}})),
            (
                "application/soap+xml",
                b"<a/>",
                json!({"body": "<a/>", "body_args": {}}),
            ),
            (
                "text/plain",
                b"\xff\x00",
                json!({"body": "/wA=", "body_args": {}, "body_base64": true}),
            ),
            (
                "application/octet-stream",
                b"\xff\x00",
                json!({"body": "/wA=", "body_args": {}, "body_base64": true}),
            ),
            (
                "image/png",
                b"",
                json!({"body": "", "body_args": {}, "body_base64": true}),
            ),
            (
                "",
                b"anything",
                json!({"body": "YW55dGhpbmc=", "body_args": {}, "body_base64": true}),
            ),
            ("", b"", json!({"body": "", "body_args": {}, "body_base64": true})),
            ("application/json", b"", json!({"body": "", "body_args": {}})),
            ("text/plain", b"", json!({"body": "", "body_args": {}})),
        ];
        let clients = [rig.envoy.h1(), rig.envoy.h2()];
        for (i, (content_type, body, _)) in cases.iter().enumerate() {
            let reply = clients[i % 2]
                .post("/", content_type, Bytes::copy_from_slice(body))
                .await?;
            reply.expect(200)?;
        }
        clients[0]
            .post("/", "application/json", exact.clone())
            .await?
            .expect(200)?;

        let records = kafka.records(&topic).await?;
        ensure!(records.len() == cases.len() + 1);
        let mut wrong = Vec::new();
        for ((content_type, body, expected), record) in cases.iter().zip(&records) {
            if record.json()? != *expected {
                wrong.push(format!(
                    "{content_type} {body:?}:\n  {}\n  {expected}",
                    record.text()?
                ));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        // Numbers, order, repeated keys and surrogates as sent: not something a JSON tree would show.
        let text = records[cases.len()].text()?;
        ensure!(text.contains(&format!(r#""body_args":{exact}"#)), "{text}");
        Ok(())
    })
}

#[test]
fn a_body_that_is_not_what_it_says_is_refused() -> Result<()> {
    scenario("bodies-broken", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let rig = Rig::start(
            s,
            Parts::new(&kafka.bootstrap(), vec![produce("/", json!({"topic": topic}))]),
        )
        .await?;
        let deep = "[".repeat(200) + &"]".repeat(200);
        let cases = [
            ("application/json", "{\"a\": 1"),
            ("application/json", "{'a': 1}"),
            ("application/json", "\"scalar\""),
            ("application/json", "{\"a\": 0x10}"),
            ("application/json", deep.as_str()),
            (
                "multipart/form-data; boundary=b",
                "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\ncut",
            ),
            ("multipart/form-data", "no boundary"),
        ];
        for (content_type, body) in cases {
            let reply = rig.envoy.h1().post("/", content_type, body.to_owned()).await?;
            let json = reply.expect_error(400, "invalid_request")?.json()?;
            ensure!(
                json["error"].as_str().is_some_and(|error| error.len() > 10),
                "what and where: {json}"
            );
        }
        ensure!(kafka.records(&topic).await?.is_empty());
        Ok(())
    })
}

#[test]
fn value_body_is_the_bytes_and_none_is_a_tombstone() -> Result<()> {
    scenario("bodies-raw", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "value_by_method": {"DELETE": "none"}});
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/", settings),
        ];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
        let mut expected = Vec::new();
        for path in ["/", "/call"] {
            http.post(path, "application/json", bytes.clone())
                .await?
                .expect(200)?;
            http.post(path, "", "").await?.expect(200)?;
            let delete = http
                .request(hyper::Method::DELETE, path)
                .body(sluice_e2e::client::full("ignored"))?;
            http.send(delete).await?.expect(200)?;
            expected.extend([Some(bytes.clone()), Some(Vec::new()), None]);
        }
        let found: Vec<_> = kafka
            .records(&topic)
            .await?
            .into_iter()
            .map(|record| record.value)
            .collect();
        ensure!(
            found == expected,
            "lengths {:?}",
            found.iter().map(|v| v.as_ref().map(Vec::len)).collect::<Vec<_>>()
        );
        Ok(())
    })
}

#[test]
fn cloudevents_in_both_modes() -> Result<()> {
    scenario("bodies-cloudevents", async |s| {
        let kafka = kafka::shared().await?;
        let (binary, structured) = (s.topic("binary"), s.topic("structured"));
        for topic in [&binary, &structured] {
            kafka.create_topic(topic, 1).await?;
        }
        let routes = vec![
            produce("/binary", json!({"topic": binary, "cloudevents": "binary"})),
            produce(
                "/structured",
                json!({"topic": structured, "cloudevents": "structured"}),
            ),
        ];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        for path in ["/binary", "/structured"] {
            let request = http
                .request(hyper::Method::POST, path)
                .header("ce-specversion", "1.0")
                .header("ce-id", "42")
                .header("ce-source", "/test")
                .header("ce-type", "made")
                .header("content-type", "application/json");
            http.send(request.body(sluice_e2e::client::full(r#"{"n": 1}"#))?)
                .await?
                .expect(200)?;
        }
        let record = kafka.only_record(&binary).await?;
        ensure!(record.text()? == r#"{"n": 1}"#);
        for (name, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", "42"),
            ("ce_source", "/test"),
            ("ce_type", "made"),
        ] {
            ensure!(record.header(name) == Some(value), "{name}: {:?}", record.headers);
        }
        ensure!(
            record.header("content-type") == Some("application/json"),
            "{:?}",
            record.headers
        );

        let record = kafka.only_record(&structured).await?;
        let event = json!({"specversion": "1.0", "id": "42", "source": "/test", "type": "made",
                           "datacontenttype": "application/json", "data": {"n": 1}});
        ensure!(record.json()? == event, "{}", record.text()?);
        let content_type = record.header("content-type").unwrap_or_default();
        ensure!(
            content_type.starts_with("application/cloudevents+json"),
            "{:?}",
            record.headers
        );
        Ok(())
    })
}

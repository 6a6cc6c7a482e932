//! Records that different clients wrote, with each of Kafka's codecs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, anyhow, ensure, franz};

use super::{Curl, PATIENCE, page, reading_rig};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A record as its writer has it.
#[derive(Debug, Clone, Default)]
struct Written {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

/// What differs and is easily mixed up, and enough alike for a codec to have work.
fn records() -> Vec<Written> {
    let text = |key: &str, value: &str| Written {
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Vec::new(),
    };
    let mut records = vec![
        text("json", "{\"a\": 1,\n \"b\": [2.50, \"ü\"]}"),
        text("", "an empty key"),
        Written {
            value: Some(b"no key".to_vec()),
            ..Written::default()
        },
        Written {
            key: Some(b"a tombstone".to_vec()),
            ..Written::default()
        },
        text("an empty value", ""),
        Written {
            key: Some(vec![0xff, 0x00, 0xfe]),
            value: Some((0..=255).collect()),
            headers: vec![("twice", b"1".to_vec()), ("twice", vec![0x80, 0x81])],
        },
    ];
    records.extend((0..200).map(|n| text(&format!("k{n}"), &format!("the same again and again {n}"))));
    records
}

/// Such an item as a record should be shown by.
fn expected(record: &Written) -> Value {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        None => (Value::Null, "null"),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => (json!(text), "string"),
            Err(_) => (json!(STANDARD.encode(bytes)), "base64"),
        },
    };
    let (key, key_format) = text(&record.key);
    let (value, value_format) = match record.value.as_deref().map(serde_json::from_slice) {
        Some(Ok(json)) => (json, "json"),
        _ => text(&record.value),
    };
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            let (value, format) = text(&Some(value.clone()));
            json!({"name": name, "value": value, "format": format})
        })
        .collect();
    json!({
        "key": key, "keyFormat": key_format, "value": value, "valueFormat": value_format, "headers": headers
    })
}

/// What an item says of these.
fn shown(item: &Value) -> Value {
    let fields = ["key", "keyFormat", "value", "valueFormat", "headers"];
    let pick = |name: &str| (name.to_owned(), item.get(name).cloned().unwrap_or_default());
    Value::Object(fields.into_iter().map(pick).collect())
}

async fn librdkafka(kafka: &Kafka, topic: &str, codec: &str, records: Vec<Written>) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.bootstrap())
        .set("compression.codec", codec)
        .set("linger.ms", "50");
    let topic = topic.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        for one in &records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &one.headers {
                let value = Some(value);
                headers = headers.insert(Header { key, value });
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(&topic).partition(0).headers(headers);
            record.key = one.key.as_deref();
            record.payload = one.value.as_deref();
            producer.send(record).map_err(|(error, _)| anyhow!("{error}"))?;
        }
        Ok(producer.flush(PATIENCE)?)
    });
    written.await?
}

async fn franz_go(kafka: &Kafka, topic: &str, codec: &str, records: &[Written]) -> Result<()> {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
    let lines = records.iter().map(|record| {
        let headers: Vec<[String; 2]> = record
            .headers
            .iter()
            .map(|(name, value)| [STANDARD.encode(name), STANDARD.encode(value)])
            .collect();
        json!({"partition": 0, "key": bytes(&record.key), "value": bytes(&record.value), "headers": headers})
            .to_string()
            + "\n"
    });
    franz::produce(&kafka.bootstrap(), topic, codec, &lines.collect::<String>()).await
}

#[test]
fn every_codec_of_librdkafka_and_of_franz_go_is_read_as_it_was_written() -> Result<()> {
    scenario("reading-codecs", async |s| {
        let kafka = kafka::shared().await?;
        let written = records();
        let expected: Vec<Value> = written.iter().map(expected).collect();
        for client in ["librdkafka", "franz"] {
            let topics: Vec<String> = CODECS
                .iter()
                .map(|codec| s.topic(&format!("{client}-{codec}")))
                .collect();
            let rig = reading_rig(s, kafka, &format!("{}*", s.topic(client))).await?;
            let reader = rig.envoy.h1();
            for (topic, codec) in topics.iter().zip(CODECS) {
                kafka.create_topic(topic, 1).await?;
                match client {
                    "franz" => franz_go(kafka, topic, codec, &written).await?,
                    _ => librdkafka(kafka, topic, codec, written.clone()).await?,
                }
                let (_, stored) = kafka.log_of(topic)?;
                ensure!(
                    stored == codec,
                    "{client} wrote {stored}, and was to write {codec}"
                );
                let page = page(
                    &reader,
                    &format!("/topics/{topic}/records?from=earliest&max_wait=10s"),
                )
                .await?;
                let items = page["items"].as_array().context("no items")?;
                let found: Vec<Value> = items.iter().map(shown).collect();
                ensure!(found == expected, "{client}, {codec}: {page}");
                let url = format!(
                    "http://127.0.0.1:{}/topics/{topic}/stream?from=earliest",
                    rig.envoy.port()
                );
                let mut stream = Curl::start(&url, None)?;
                for expected in &expected {
                    let (event, data) = stream.event().await?;
                    let item: Value = serde_json::from_str(&data)?;
                    ensure!(
                        event == "message" && shown(&item) == *expected,
                        "{client}, {codec}: {item}"
                    );
                }
                // As bytes, too.
                for (offset, record) in written.iter().enumerate() {
                    let path = format!("/topics/{topic}/partitions/0/records/{offset}");
                    if offset > 10 {
                        break;
                    }
                    let reply = reader.get(&path).await?;
                    match &record.value {
                        None => ensure!(reply.status == 204 && reply.header("x-kafka-tombstone") == "true"),
                        Some(value) => ensure!(reply.status == 200 && reply.body == value[..], "{path}"),
                    }
                }
            }
        }
        Ok(())
    })
}

#[test]
fn what_java_compressed_is_read_with_its_headers() -> Result<()> {
    scenario("reading-java", async |s| {
        let kafka = kafka::shared().await?;
        let rig = reading_rig(s, kafka, &format!("{}*", s.topic("java"))).await?;
        let client = rig.envoy.h1();
        for codec in CODECS {
            let topic = s.topic(&format!("java-{codec}"));
            kafka.create_topic(&topic, 1).await?;
            let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
            let records: Vec<(&str, &str)> = keys
                .iter()
                .map(|key| (key.as_str(), "the same again and again"))
                .collect();
            kafka
                .console_produce_with(&topic, &["--compression-codec", codec], &records)
                .await?;
            let (_, stored) = kafka.log_of(&topic)?;
            ensure!(stored == codec, "Java wrote {stored}, and was to write {codec}");
            let page = page(
                &client,
                &format!("/topics/{topic}/records?from=earliest&max_wait=10s"),
            )
            .await?;
            let items = page["items"].as_array().context("no items")?;
            let found: Vec<&str> = items.iter().filter_map(|item| item["key"].as_str()).collect();
            ensure!(found == keys, "{codec}: {page}");
            ensure!(
                items
                    .iter()
                    .all(|item| item["value"] == "the same again and again"),
                "{page}"
            );
        }
        Ok(())
    })
}

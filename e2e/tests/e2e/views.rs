//! Filters and views: through real Envoy, of a topic that Kafka compacts.

use std::time::{Duration, Instant};

use hyper::Method;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sluice_e2e::client::{Client, Reply};
use sluice_e2e::kafka;
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, anyhow, ensure};

use crate::reading::{page, rig, transactions};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long Kafka's cleaner may take to come by, on a busy machine.
const CLEANED: Duration = Duration::from_secs(180);

fn put(producer: &BaseProducer, topic: &str, key: &str, value: Option<&str>) -> Result<()> {
    let mut record = BaseRecord::<str, str>::to(topic).partition(0).key(key);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| anyhow!("{error}"))?;
    producer.flush(PATIENCE)?;
    Ok(())
}

async fn ask(client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
    let mut request = client.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(sluice_e2e::client::full(""))?).await
}

fn pairs(page: &Value) -> Vec<(String, Value)> {
    let items = page["items"].as_array().into_iter().flatten();
    items
        .map(|item| {
            let key = item["key"].as_str().unwrap_or_default();
            (key.to_owned(), item["value"].clone())
        })
        .collect()
}

#[test]
fn a_view_is_the_same_before_and_after_kafka_has_compacted_the_topic() -> Result<()> {
    scenario("views-compacted", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        let properties = [
            "cleanup.policy=compact",
            "segment.ms=100",
            "min.cleanable.dirty.ratio=0.001",
            "delete.retention.ms=0",
            "max.compaction.lag.ms=200",
        ];
        kafka.create_assigned(&topic, "1", &properties).await?;
        let mut rig = rig(s, kafka, &topic).await?;
        let client = rig.envoy.h1();
        let name = topic.clone();
        transactions(&kafka.bootstrap(), &topic, move |producer| {
            producer.begin_transaction()?;
            for key in ["a", "b", "c"] {
                put(producer, &name, key, Some("{\"n\":1}"))?;
            }
            producer.commit_transaction(PATIENCE)?;
            producer.begin_transaction()?;
            put(producer, &name, "a", Some("{\"n\":99}"))?;
            put(producer, &name, "z", Some("{\"n\":99}"))?;
            producer.abort_transaction(PATIENCE)?;
            producer.begin_transaction()?;
            put(producer, &name, "a", Some("{\"n\":2}"))?;
            put(producer, &name, "c", None)?;
            producer.commit_transaction(PATIENCE)?;
            Ok(())
        })
        .await?;
        let view = format!("/topics/{topic}/records?view=latest");
        let expected = vec![
            ("a".to_owned(), json!({ "n": 2 })),
            ("b".to_owned(), json!({ "n": 1 })),
        ];
        let first = ask(&client, &view, &[]).await?;
        first.expect(200)?;
        ensure!(pairs(&first.json()?) == expected, "{first:?}");
        let tag = first.header("etag").to_owned();
        ask(&client, &view, &[("if-none-match", &tag)])
            .await?
            .expect(304)?;
        // One more record after a while makes Kafka close the segment, so that it is compacted.
        let waiting = [("if-none-match", tag.as_str()), ("prefer", "wait=60")];
        let (changed, written) = tokio::join!(ask(&client, &view, &waiting), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let name = topic.clone();
            transactions(&kafka.bootstrap(), &topic, move |producer| {
                producer.begin_transaction()?;
                put(producer, &name, "d", Some("{\"n\":4}"))?;
                producer.commit_transaction(PATIENCE)?;
                Ok(())
            })
            .await
        });
        written?;
        let mut expected = expected;
        expected.push(("d".to_owned(), json!({ "n": 4 })));
        let changed = changed?;
        changed.expect(200)?;
        ensure!(pairs(&changed.json()?) == expected, "{changed:?}");
        let compacted = Instant::now() + CLEANED;
        while client
            .get(&format!("/topics/{topic}/partitions/0/records/0"))
            .await?
            .status
            == 200
        {
            ensure!(Instant::now() < compacted, "the topic is not compacted");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        rig.sidecar.restart().await?;
        let anew = ask(&client, &view, &[]).await?;
        anew.expect(200)?;
        ensure!(pairs(&anew.json()?) == expected, "{anew:?}");
        ensure!(
            anew.header("etag") == changed.header("etag"),
            "{anew:?} {changed:?}"
        );
        let one = page(&client, &format!("{view}&key=d&fields=key,value.n")).await?;
        ensure!(one == json!({ "key": "d", "value": { "n": 4 } }), "{one}");
        client
            .get(&format!("{view}&key=z"))
            .await?
            .expect_error(404, "no_record")?;
        // Filters go past what was compacted away.
        let records = format!("/topics/{topic}/records?from=earliest&max_wait=1s");
        let found = page(&client, &format!("{records}&jq=.n%20%3E%203")).await?;
        ensure!(pairs(&found) == [("d".to_owned(), json!({ "n": 4 }))], "{found}");
        let found = page(&client, &format!("{records}&where=$.n==2&key=a")).await?;
        ensure!(pairs(&found) == [("a".to_owned(), json!({ "n": 2 }))], "{found}");
        rig.envoy.healthy()
    })
}

//! Offsets that are not there: what retention took, what was compacted away, what was aborted.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, anyhow, bail, ensure, wait};

use super::{Curl, PATIENCE, next, page, rig, send, transactions, values};

/// Has the brokers forget what is before an offset, as retention does.
async fn forget(kafka: &Kafka, topic: &str, before: i64) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let mut at = TopicPartitionList::new();
    at.add_partition_offset(topic, 0, Offset::Offset(before))?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let done = admin.delete_records(&at, &options).await?;
    for element in done.elements() {
        element.error()?;
    }
    Ok(())
}

async fn write(kafka: &Kafka, topic: &str, records: Vec<(String, String)>) -> Result<()> {
    let (bootstrap, topic) = (kafka.bootstrap(), topic.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        let producer: BaseProducer = config.create()?;
        for (key, value) in &records {
            let record = BaseRecord::<str, str>::to(&topic)
                .partition(0)
                .key(key)
                .payload(value);
            producer.send(record).map_err(|(error, _)| anyhow!("{error}"))?;
        }
        Ok(producer.flush(PATIENCE)?)
    });
    written.await?
}

/// The next `reset` of a stream; records before it are passed over.
async fn reset(stream: &mut Curl) -> Result<Value> {
    loop {
        match stream.event().await? {
            (event, data) if event == "reset" => return Ok(serde_json::from_str(&data)?),
            (event, _) if event == "message" || event == "caught-up" => {}
            (event, data) => bail!("{event}: {data}"),
        }
    }
}

#[test]
fn retention_that_passes_a_reader_is_said() -> Result<()> {
    scenario("reading-retention", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let rig = rig(s, kafka, &topic).await?;
        let client = rig.envoy.h1();
        let url = format!("http://127.0.0.1:{}/topics/{topic}/stream", rig.envoy.port());
        // More than lies in the sockets, pipes and buffers on the way to a client that does not read, and in a ring.
        let big = "x".repeat(20_000);
        let records = (0..3000).map(|n| (String::new(), format!("{n} {big}"))).collect();
        write(kafka, &topic, records).await?;
        let mut slow = Curl::start(&format!("{url}?from=earliest"), None)?;
        let (event, _) = slow.event().await?;
        ensure!(event == "message");
        forget(kafka, &topic, 2990).await?;
        let path = format!("/topics/{topic}/records?max_wait=10s");
        let found = client.get(&format!("{path}&cursor={topic}@0%234")).await?;
        found.expect(200)?;
        let gone = json!({
            "topic": topic, "partition": 0, "requested": 5, "reason": "gone", "position": 3000
        });
        let told: Value = serde_json::from_str(found.header("x-kafka-offset-reset"))?;
        ensure!(told == json!([gone]), "{told}");
        ensure!(found.json()?["resets"] == json!([gone]));
        let resumed = Curl::start(&url, Some(&format!("{topic}@0#4")));
        ensure!(reset(&mut resumed?).await? == gone);
        // The one that had not read finds what it was sent, then that it was passed.
        let told = reset(&mut slow).await?;
        ensure!(
            told["reason"] == "gone" && told["position"] == 3000 && told["requested"].as_i64() < Some(2990),
            "{told}"
        );
        // And goes on from there.
        write(kafka, &topic, vec![(String::new(), "after".to_owned())]).await?;
        let mut last = None;
        while last.as_deref() != Some("after") {
            last = slow.next().await?;
        }
        ensure!(slow.id == format!("{topic}@0#3000"), "{}", slow.id);
        // Beyond the end.
        let found = page(
            &client,
            &format!("{path}&cursor={topic}@0%235000&max_wait=0").replace("max_wait=10s&", ""),
        )
        .await?;
        ensure!(found["resets"][0]["reason"] == "beyond", "{found}");
        Ok(())
    })
}

#[test]
fn what_was_compacted_away_is_no_end_and_no_reset() -> Result<()> {
    scenario("reading-compaction", async |s| {
        let setup = Setup::default()
            .property("log.cleaner.backoff.ms", "200")
            .property("log.cleaner.min.cleanable.ratio", "0.01");
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        for property in [
            "cleanup.policy=compact",
            "segment.ms=500",
            "min.cleanable.dirty.ratio=0.01",
        ] {
            kafka.set_topic(&topic, property).await?;
        }
        let rig = rig(s, &kafka, &topic).await?;
        let client = rig.envoy.h1();
        let round = |n: i32| {
            (0..10)
                .map(|k| (format!("k{k}"), format!("{k}-{n}")))
                .collect::<Vec<_>>()
        };
        for n in 0..20 {
            write(&kafka, &topic, round(n)).await?;
        }
        // The newest segment is not compacted: each record may begin another, after which all before it are.
        let mut n = 20;
        wait::until("compaction", PATIENCE, async || {
            n += 1;
            tokio::time::sleep(Duration::from_millis(600)).await;
            write(&kafka, &topic, vec![("last".to_owned(), n.to_string())]).await?;
            let left = kafka.records(&topic).await?;
            ensure!(left.len() < 40, "{} records are left", left.len());
            Ok(())
        })
        .await?;
        // From here on nothing is old enough; what the cleaner is at it still ends.
        kafka.set_topic(&topic, "min.compaction.lag.ms=86400000").await?;
        let mut before = Vec::new();
        let left = wait::until("the cleaner's rest", PATIENCE, async || {
            let left = kafka.records(&topic).await?;
            let offsets: Vec<i64> = left.iter().map(|record| record.offset).collect();
            let same = offsets == before;
            before = offsets;
            if !same {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            ensure!(same, "it is still at it: {before:?}");
            Ok(left)
        })
        .await?;
        let last = left.last().context("nothing is left")?.offset;
        let first = left.first().context("nothing is left")?.offset;
        ensure!(first > 0 && last > i64::try_from(left.len())?, "there is no gap");
        let expected: Vec<String> = left
            .iter()
            .map(|record| record.text().map(str::to_owned))
            .collect::<Result<_>>()?;
        // From the first offset, which no record has, and from within the gap: neither is out of range.
        for at in ["from=earliest".to_owned(), format!("cursor={topic}@0%233")] {
            let mut seen = Vec::new();
            let mut path = format!("/topics/{topic}/records?max_wait=300&limit=7&{at}");
            loop {
                let page = page(&client, &path).await?;
                ensure!(page.get("resets").is_none(), "{page}");
                let found = values(&page);
                if found.is_empty() && next(&page).contains(&format!("%23{last}")) {
                    break;
                }
                ensure!(seen.len() <= expected.len(), "{page}");
                seen.extend(found);
                path = format!(
                    "/topics/{topic}/records?max_wait=300&limit=7&cursor={}",
                    next(&page)
                );
            }
            ensure!(seen == expected, "{at}: {seen:?}, and not {expected:?}");
        }
        let url = format!("http://127.0.0.1:{}/topics/{topic}/stream", rig.envoy.port());
        let mut stream = Curl::start(&url, Some(&format!("{topic}@0#3")))?;
        ensure!(stream.values(expected.len()).await? == expected);
        ensure!(stream.next().await?.is_none(), "caught up");
        client
            .get(&format!("/topics/{topic}/partitions/0/records/3"))
            .await?
            .expect_error(404, "no_record")?;
        Ok(())
    })
}

#[test]
fn what_was_aborted_at_the_end_is_passed_by_a_stream() -> Result<()> {
    scenario("reading-aborted", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let rig = rig(s, kafka, &topic).await?;
        let url = format!("http://127.0.0.1:{}/topics/{topic}/stream", rig.envoy.port());
        let mut stream = Curl::start(&format!("{url}?from=earliest"), None)?;
        ensure!(stream.next().await?.is_none(), "caught up with nothing");
        let name = topic.clone();
        transactions(&kafka.bootstrap(), &topic, move |producer| {
            for (value, commits) in [("a", true), ("never", false), ("b", true), ("nor this", false)] {
                producer.begin_transaction()?;
                send(producer, &name, value)?;
                if commits {
                    producer.commit_transaction(PATIENCE)?;
                } else {
                    producer.abort_transaction(PATIENCE)?;
                }
            }
            Ok(())
        })
        .await?;
        ensure!(stream.values(2).await? == ["a", "b"]);
        let id = stream.hang_up().await?;
        ensure!(id == format!("{topic}@0#4"), "{id}");
        let mut stream = Curl::start(&url, Some(&id))?;
        ensure!(
            stream.next().await?.is_none(),
            "caught up, and nothing came twice"
        );
        // Offsets 5 to 7 are a marker, what was aborted, and its marker. None is a record, so that each may be the last.
        let last = stream
            .id
            .rsplit('#')
            .next()
            .and_then(|offset| offset.parse().ok());
        ensure!(
            last.is_some_and(|offset: i64| (4..=7).contains(&offset)),
            "{}",
            stream.id
        );
        write(kafka, &topic, vec![(String::new(), "c".to_owned())]).await?;
        ensure!(stream.values(1).await? == ["c"] && stream.id == format!("{topic}@0#8"));
        Ok(())
    })
}

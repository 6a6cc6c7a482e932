//! What every supported version of Apache Kafka must do: `make versions` runs this against each of them, and
//! `make test` against the pinned one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use sluice_e2e::client::{Client, full};
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Record, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Context, Result, ensure, parts};

use crate::cli::sluice;

/// How many records are written while the broker comes back.
const DURING_RESTART: usize = 40;

/// Writes a record with the key `key-<n % 7>` and a header; gives the partition and offset that the answer says.
async fn post(client: &Client, path: &str, n: usize) -> Result<(i32, i64)> {
    let request = client
        .request(hyper::Method::POST, &format!("{path}?k=key-{}", n % 7))
        .header("x-number", n.to_string());
    let reply = client.send(request.body(full(format!("value-{n}")))?).await?;
    reply.expect(200)?;
    let place = (reply.header("x-kafka-partition"), reply.header("x-kafka-offset"));
    Ok((place.0.parse()?, place.1.parse()?))
}

/// Each of the records is there once, where its answer said, with the key, the header and the value it was sent with.
fn same(records: &[Record], places: &[(i32, i64)]) -> Result<()> {
    ensure!(
        records.len() == places.len(),
        "{} of {}",
        records.len(),
        places.len()
    );
    let by_place: BTreeMap<_, _> = records
        .iter()
        .map(|one| ((one.partition, one.offset), one))
        .collect();
    for (n, place) in places.iter().enumerate() {
        let record = by_place
            .get(place)
            .with_context(|| format!("nothing at {place:?}"))?;
        ensure!(record.text()? == format!("value-{n}"), "{record:?}");
        ensure!(
            record.key == Some(format!("key-{}", n % 7).into_bytes()),
            "{record:?}"
        );
        ensure!(record.header("x-number") == Some(&n.to_string()), "{record:?}");
    }
    let partitions: BTreeMap<_, BTreeSet<_>> = records.iter().fold(BTreeMap::new(), |mut all, record| {
        all.entry(&record.key)
            .or_insert_with(BTreeSet::new)
            .insert(record.partition);
        all
    });
    ensure!(
        partitions.values().all(|of_key| of_key.len() == 1),
        "{partitions:?}"
    );
    let used: BTreeSet<_> = records.iter().map(|record| record.partition).collect();
    ensure!(used.len() > 1, "only {used:?}");
    Ok(())
}

#[test]
fn the_produce_path_on_this_version_of_kafka() -> Result<()> {
    scenario_within(Duration::from_secs(400), "smoke", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let (plain, zipped) = (s.topic("plain"), s.topic("zstd"));
        let brokers = kafka.bootstrap();
        for topic in [&plain, &zipped] {
            let create = ["topics", "create", topic, "--partitions", "3"];
            sluice(&brokers, &create).await?.succeeded()?;
        }
        let settings = |topic: &str, producer: &str| {
            json!({
                "topic": topic, "value": "body", "key": {"query": "k"}, "producer": producer,
                "headers": {"include_headers": ["x-number"]}, "answer_timeout": "120s",
            })
        };
        let routes = vec![
            produce("/plain", settings(&plain, "default")),
            produce("/zstd", settings(&zipped, "zstd")),
        ];
        let parts = Parts::new(&brokers, routes)
            .sidecar("producers/default", json!({}))
            .sidecar("producers/zstd/compression", json!("zstd"));
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h2();

        let mut places = Vec::new();
        for n in 0..30 {
            places.push(post(&http, "/plain", n).await?);
        }
        same(&kafka.records(&plain).await?, &places)?;
        let (partition, _) = *places.first().context("a record")?;
        ensure!(kafka.producer_of(&plain, partition)? >= 0, "not idempotent");

        // What is written while the broker is away is answered when it is back, and is there once.
        kafka.node(1)?.stop().await?;
        let waiting: Vec<_> = (30..30 + DURING_RESTART)
            .map(|n| {
                let http = http.clone();
                tokio::spawn(async move { post(&http, "/plain", n).await })
            })
            .collect();
        kafka.node(1)?.restart().await?;
        for one in waiting {
            places.push(one.await??);
        }
        same(&kafka.records(&plain).await?, &places)?;

        // That version's own consumer reads what rskafka cannot.
        let mut expected = BTreeSet::new();
        for n in 0..12 {
            post(&http, "/zstd", n).await?;
            expected.insert(format!("key-{}\tvalue-{n}", n % 7));
        }
        let read = kafka.console_consume(&zipped, 12).await?;
        let read: BTreeSet<_> = read
            .iter()
            .filter(|line| line.contains("x-number:"))
            .filter_map(|line| line.split_once('\t'))
            .map(|(_, rest)| rest.to_owned())
            .collect();
        ensure!(read == expected, "{read:?}");
        Ok(())
    })
}

/// The versions of a table's rows.
fn rows(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split_once(" |"))
        .map(|(version, _)| version)
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .collect()
}

#[test]
fn the_versions_in_the_documentation_are_those_that_are_run() -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(parts::root().join(path));
    let page = read("docs/versions.md")?;
    let (makefile, pom) = (read("Makefile")?, read("e2e/kafka/pom.xml")?);
    let pinned = pom
        .split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once("</kafka.version>"))
        .context("no pinned version")?
        .0;
    let listed = makefile
        .lines()
        .find_map(|line| line.strip_prefix("KAFKA_VERSIONS := "))
        .context("no KAFKA_VERSIONS")?;
    let run: BTreeSet<_> = listed.split_whitespace().chain([pinned]).collect();
    // A filter that no test has would run none, and be green.
    let test = std::any::type_name_of_val(&the_produce_path_on_this_version_of_kafka);
    let name = test.rsplit("::").next().context("no name")?;
    ensure!(
        makefile.contains(&format!("{name} ||")),
        "make versions runs another test than {name}"
    );
    ensure!(rows(&page) == run, "{:?} in the table, {run:?} run", rows(&page));
    Ok(())
}

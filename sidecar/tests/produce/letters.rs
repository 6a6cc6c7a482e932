//! Dead letters that go to a topic.

use std::path::Path;

use rdkafka::Message;
use sluice::config::{Config, DeadLetters};
use sluice_proto::v1::{Header, Record};
use tempfile::TempDir;

use crate::spool::{accepted, spool, spooled, spooling, values};
use crate::support::{Sidecar, cluster, mock, profile, read, set, until};

/// A spool whose dead letters go to `dead`; records larger than 2000 bytes are never taken by the default profile.
fn burying(servers: &str, directory: &Path, producer: &str) -> Config {
    let mut config = spooling(servers, directory);
    set(&mut config, "message.max.bytes", "2000");
    let roomy = sluice::config::Profile {
        properties: Default::default(),
        ..profile(&mut config).clone()
    };
    config.producers.insert("roomy".to_owned(), roomy);
    spool(&mut config).dead_letters = Some(DeadLetters {
        topic: "dead".to_owned(),
        cluster: None,
        producer: producer.to_owned(),
    });
    config
}

fn large(id: u64) -> Record {
    Record {
        value: Some(vec![b'x'; 5000].into()),
        headers: vec![Header {
            name: "own".to_owned(),
            value: Some(b"1".to_vec()),
        }],
        partition: Some(0),
        timestamp_ms: Some(1_700_000_000_000),
        ..spooled(id, "orders", Some("k"))
    }
}

async fn until_dead(sidecar: &Sidecar, records: f64) {
    until("the number of dead letters is right", async || {
        sidecar.metric("sluice_spool_dead_records").await == Some(records)
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_goes_to_its_topic_and_says_what_it_is() {
    let mock = mock(&[("orders", 1), ("dead", 1)]);
    let directory = TempDir::new().unwrap();
    let config = burying(&mock.bootstrap_servers(), directory.path(), "roomy");
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    accepted(&stream.produce(large(1)).await);
    accepted(&stream.produce(spooled(2, "orders", Some("k"))).await);
    assert_eq!(values(&mock, "orders", 1).await, ["2"]);
    let letter = read(&mock, "dead", 0, 1).await.remove(0);
    assert_eq!(letter.key(), Some(&b"k"[..]));
    assert_eq!(letter.payload(), Some(&[b'x'; 5000][..]));
    assert_eq!(letter.timestamp().to_millis(), Some(1_700_000_000_000));
    let headers: Vec<(String, String)> = rdkafka::message::Headers::iter(letter.headers().unwrap())
        .map(|header| {
            let value = String::from_utf8(header.value.unwrap().to_vec()).unwrap();
            (header.key.to_owned(), value)
        })
        .collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let own = [
        "cluster",
        "producer",
        "topic",
        "partition",
        "code",
        "message",
        "spooled",
        "given_up",
    ];
    assert_eq!(names[0], "own");
    assert_eq!(names[1..], own.map(|name| format!("__sluice.errors.{name}")));
    let texts: Vec<&str> = headers.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(texts[1..6], ["main", "default", "orders", "0", "too_large"]);
    assert!(texts[6].starts_with("not stored: "), "{texts:?}");
    assert!(
        texts[7..]
            .iter()
            .all(|time| time.starts_with("20") && time.ends_with('Z')),
        "{texts:?}"
    );
    // Only then does it leave the file.
    until_dead(&sidecar, 0.0).await;
    let metrics = sidecar.metrics().await;
    let sent = "sluice_spool_dead_letters_sent_total{outcome=\"stored\"} 1";
    let given_up = "sluice_spool_dead_letters_total{cluster=\"main\",topic=\"*\",code=\"too_large\"} 1";
    assert!(metrics.contains(sent) && metrics.contains(given_up), "{metrics}");
}

/// Its topic takes it no more than the other did: it stays.
#[tokio::test]
async fn a_dead_letter_that_its_topic_does_not_take_stays_in_the_spool() {
    let mock = mock(&[("orders", 1), ("dead", 1)]);
    let directory = TempDir::new().unwrap();
    let servers = mock.bootstrap_servers();
    let sidecar = Sidecar::start(burying(&servers, directory.path(), "default")).await;
    let mut stream = sidecar.stream().await;
    accepted(&stream.produce(large(1)).await);
    until_dead(&sidecar, 1.0).await;
    let refused = "sluice_spool_dead_letters_sent_total{outcome=\"too_large\"}";
    until("it is tried again", async || {
        sidecar.metric(refused).await >= Some(2.0)
    })
    .await;
    until_dead(&sidecar, 1.0).await;
    sidecar.stopper.drain();
    sidecar.ended().await;
    // One with a larger bound finds it in the file.
    let sidecar = Sidecar::start(burying(&servers, directory.path(), "roomy")).await;
    assert_eq!(read(&mock, "dead", 0, 1).await[0].payload().unwrap().len(), 5000);
    until_dead(&sidecar, 0.0).await;
}

#[tokio::test]
async fn a_dead_letter_waits_for_its_topic() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let config = burying(&mock.bootstrap_servers(), directory.path(), "roomy");
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    for id in 0..200 {
        stream.send(vec![large(id)]).await;
    }
    stream.fates(200).await;
    until_dead(&sidecar, 200.0).await;
    let refused = "sluice_spool_dead_letters_sent_total{outcome=\"unknown_topic\"}";
    until("they are tried", async || {
        sidecar.metric(refused).await >= Some(200.0)
    })
    .await;
    until_dead(&sidecar, 200.0).await;
    mock.create_topic("dead", 1, 1).unwrap();
    assert_eq!(read(&mock, "dead", 0, 200).await.len(), 200);
    until_dead(&sidecar, 0.0).await;
    let sent = "sluice_spool_dead_letters_sent_total{outcome=\"stored\"} 200";
    assert!(sidecar.metrics().await.contains(sent));
}

/// The topic may be another cluster's.
#[tokio::test]
async fn a_dead_letter_goes_to_the_cluster_that_is_named() {
    let (mock_one, mock_other) = (mock(&[("orders", 1)]), mock(&[("dead", 1)]));
    let directory = TempDir::new().unwrap();
    let mut config = burying(&mock_one.bootstrap_servers(), directory.path(), "roomy");
    let mut other = cluster(&mut config).clone();
    other.bootstrap_servers = vec![mock_other.bootstrap_servers()];
    config.clusters.insert("other".to_owned(), other);
    spool(&mut config).dead_letters.as_mut().unwrap().cluster = Some("other".to_owned());
    let sidecar = Sidecar::start(config).await;
    accepted(&sidecar.stream().await.produce(large(1)).await);
    assert_eq!(read(&mock_other, "dead", 0, 1).await.len(), 1);
    until_dead(&sidecar, 0.0).await;
}

//! Who reads, over every kind of way to the brokers that there is: by a password inside TLS, and by a certificate.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::client::Reply;
use sluice_e2e::envoy::reads;
use sluice_e2e::kafka::{Door, Kafka};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Context, Result, ensure, wait};

use super::LIMIT;
use super::papers::{PASSWORD, Papers, login};

const PATIENCE: Duration = Duration::from_secs(60);

fn values(page: &Value) -> Vec<&str> {
    let items = page.get("items").and_then(Value::as_array);
    let value = |item| Value::get(item, "value").and_then(Value::as_str);
    items.into_iter().flatten().filter_map(value).collect()
}

#[test]
fn what_is_read_over_tls_and_sasl_and_what_is_wrong_is_told() -> Result<()> {
    scenario_within(LIMIT, "clusters-readers", async |s| {
        let papers = Papers::new(s)?;
        let mut setup = papers.setup()?;
        // With them the brokers ask who may do what.
        setup
            .users
            .push(("anybody".to_owned(), "anybody-secret".to_owned()));
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let (open, closed) = (s.topic("open"), s.topic("closed"));
        let client = papers.authority.issue("client", &[], -1..30)?;
        let certificate = client.write_certificate(&s.dir().join("client.pem"))?;
        let key = client.write_key(&s.dir().join("client-key.pem"), None)?;
        for topic in [&open, &closed] {
            kafka.create_topic(topic, 1).await?;
            kafka.console_produce(topic, &[("k", topic.as_str())]).await?;
        }
        for user in ["alice", "CN=client"] {
            kafka.allow(user, "Read", &open).await?;
            kafka.allow(user, "Describe", &open).await?;
            // That it can be seen is not that it can be read.
            kafka.allow(user, "Describe", &closed).await?;
        }
        let (mtls, sasl) = (kafka.door(Door::Mtls), kafka.door(Door::SaslTls));
        let stranger = json!({"ssl": true, "truststore": {"location": papers.stranger}});
        let scram = |password: &str| login("SCRAM-SHA-512", "alice", password);
        let all = [
            (
                "sasl",
                json!({"bootstrap_servers": sasl, "security": papers.tls(), "authentication": scram(PASSWORD)}),
            ),
            (
                "mtls",
                json!({"bootstrap_servers": mtls, "security": {
                    "ssl": true, "truststore": {"location": papers.trust}, "certificate_id": "mine",
                }}),
            ),
            (
                "password",
                json!({"bootstrap_servers": sasl, "security": papers.tls(), "authentication": scram("hunter2")}),
            ),
            (
                "stranger",
                json!({"bootstrap_servers": sasl, "security": stranger, "authentication": scram(PASSWORD)}),
            ),
            (
                "bare",
                json!({"bootstrap_servers": mtls, "security": papers.tls()}),
            ),
        ];
        let with_topics = |(name, cluster): &(&str, Value)| {
            let mut cluster = cluster.clone();
            if let Some(map) = cluster.as_object_mut() {
                // Nobody here may write, and nobody does.
                map.insert("producer".to_owned(), json!({"enabled": false}));
            }
            ((*name).to_owned(), cluster)
        };
        let entry = |(name, _): &(&str, Value)| {
            json!({"cluster": name, "topics": [open, closed], "anonymous": true, "encodeMessageId": false,
                "max_wait": 0})
        };
        let entries: Vec<Value> = all.iter().map(entry).collect();
        let parts = Parts::new("", vec![reads()?])
            .sidecar(
                "certificates/mine",
                json!({"cert": {"file": certificate}, "key": {"file": key}}),
            )
            .sidecar("clusters", all.iter().map(with_topics).collect())
            .sidecar("reads", json!(entries));
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        let get = async |cluster: &str, topic: &str| -> Result<Reply> {
            let path = format!("/topics/{topic}/records?from=earliest&cluster_name={cluster}");
            http.get(&path).await
        };
        for cluster in ["sasl", "mtls"] {
            // The first answer waits for connections that take their time on a busy machine.
            wait::until("it is read", PATIENCE, async || {
                get(cluster, &open).await?.expect(200)?;
                Ok(())
            })
            .await?;
            let page = get(cluster, &open).await?.json()?;
            ensure!(values(&page) == [open.as_str()], "{cluster}: {page}");
            let refused = get(cluster, &closed).await?;
            refused.expect_error(403, "not_authorised")?;
            ensure!(refused.text().contains(&closed), "{}", refused.text());
            let stream = format!("/topics/{closed}/stream?from=earliest&cluster_name={cluster}");
            let ended = http.get(&stream).await?.text();
            ensure!(ended.contains("not_authorised"), "{ended}");
        }
        for (cluster, what) in [
            ("password", "does not accept the credentials"),
            ("stranger", "from an authority that is not trusted"),
            ("bare", "does not accept the client's certificate, or wants one"),
        ] {
            wait::until("it is told why", PATIENCE, async || {
                let told = get(cluster, &open).await?;
                told.expect_error(503, "unavailable")?;
                ensure!(told.text().contains(what), "{cluster}: {}", told.text());
                ensure!(!told.text().contains("hunter2"));
                Ok(())
            })
            .await?;
        }
        let log = rig.sidecar.log()?;
        let line = "reading: the broker does not accept the credentials";
        log.lines()
            .find(|found| found.contains(line))
            .context("nothing in the log")?;
        ensure!(!log.contains("hunter2"), "a password in the log");
        Ok(())
    })
}

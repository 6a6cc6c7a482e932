//! Every way into a real Kafka: what works, what is said of what does not, and that it works once it is mended.

mod bearers;
mod callers;
mod delegation;
mod issuer;
mod papers;
mod readers;
mod renewed;
mod rights;
mod subscribed;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_e2e::kafka::{Door, Kafka};
use sluice_e2e::rig::Rig;
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Context, Result, ensure, ports, wait};

use self::papers::{CONNECTION, PASSWORD, Papers, clusters, keytool, login, sluice, text, token};

/// A broker with TLS takes its time to start, and each refusal its deadline.
const LIMIT: Duration = Duration::from_secs(400);
/// How long it may take until what is wrong with a cluster is told.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn every_way_in() -> Result<()> {
    scenario_within(LIMIT, "clusters-in", async |s| {
        let papers = Papers::new(s)?;
        let kafka = Kafka::start(s.dir(), &papers.setup()?).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;

        // What Java's own tool makes of the papers.
        let dir = s.dir();
        let client = papers.authority.issue("client", &[], -1..30)?;
        let (p12, jks, trust) = (
            dir.join("client.p12"),
            dir.join("client.jks"),
            dir.join("trust.jks"),
        );
        client.write_pkcs12(&p12, "p12-secret")?;
        keytool(&[
            "-importkeystore",
            "-srckeystore",
            text(&p12)?,
            "-srcstoretype",
            "pkcs12",
            "-srcstorepass",
            "p12-secret",
            "-srcalias",
            "client",
            "-destkeystore",
            text(&jks)?,
            "-deststoretype",
            "jks",
            "-deststorepass",
            "jks-secret",
            "-destkeypass",
            "key-secret",
        ])
        .await?;
        keytool(&[
            "-importcert",
            "-alias",
            "ca",
            "-file",
            text(&papers.trust)?,
            "-keystore",
            text(&trust)?,
            "-storetype",
            "jks",
            "-storepass",
            "jks-secret",
        ])
        .await?;
        let certificate = client.write_certificate(&dir.join("client.pem"))?;
        let key = client.write_key(&dir.join("client-key.pem"), Some("key-secret"))?;
        let fresh = dir.join("token");
        std::fs::write(&fresh, token(600)?)?;

        let (tls, mtls) = (kafka.door(Door::Tls), kafka.door(Door::Mtls));
        let (sasl, sasl_tls) = (kafka.door(Door::Sasl), kafka.door(Door::SaslTls));
        let jaas = "org.apache.kafka.common.security";
        let all = [
            ("tls", json!({"bootstrap_servers": tls, "security": papers.tls()})),
            (
                "scheme",
                json!({"brokers": [format!("SSL://{tls}")], "security": papers.tls()}),
            ),
            (
                "unverified",
                json!({"bootstrap_servers": tls, "security": {"ssl": true, "ssl_verify": false}}),
            ),
            (
                "mtls-jks",
                json!({"bootstrap_servers": mtls, "security": {
                    "ssl": true,
                    "truststore": {"type": "JKS", "location": trust, "password": "jks-secret"},
                    "keystore": {"type": "JKS", "location": jks, "password": "jks-secret", "key_password": "key-secret"},
                }}),
            ),
            (
                "mtls-p12",
                json!({"bootstrap_servers": mtls, "security": {
                    "ssl": true,
                    "truststore": {"location": papers.trust},
                    "keystore": {"type": "PKCS12", "location": p12, "password": "p12-secret"},
                }}),
            ),
            (
                "mtls-kong",
                json!({"bootstrap_servers": mtls, "security": {
                    "ssl": true, "certificate_id": "mine", "truststore": {"location": papers.trust},
                }}),
            ),
            (
                "plain",
                json!({"bootstrap_servers": sasl, "authentication": login("PLAIN", "alice", PASSWORD)}),
            ),
            (
                "event-hubs",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(),
                "authentication": login("PLAIN", "$ConnectionString", CONNECTION)}),
            ),
            (
                "scram-256",
                json!({"bootstrap_servers": sasl, "protocol": "SASL_PLAINTEXT",
                "authentication": login("SCRAM-SHA-256", "alice", PASSWORD)}),
            ),
            (
                "scram-512",
                json!({"bootstrap_servers": sasl_tls, "protocol": "SASL_SSL", "security": papers.tls(),
                "authentication": login("SCRAM-SHA-512", "alice", PASSWORD)}),
            ),
            (
                "jaas",
                json!({"bootstrap_servers": sasl, "authentication": {
                    "mechanism": "SCRAM-SHA-256",
                    "sasl_jaas_config": format!(
                        "{jaas}.scram.ScramLoginModule required username=\"alice\" password=\"{PASSWORD}\";"
                    ),
                }}),
            ),
            (
                "token",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(), "authentication": {
                    "mechanism": "OAUTHBEARER", "oauthbearer": {"token": token(600)?, "extensions": {"more": "said"}},
                }}),
            ),
            (
                "token-file",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(), "authentication": {
                    "mechanism": "OAUTHBEARER", "oauthbearer": {"token_file": fresh},
                }}),
            ),
            (
                "unsigned",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(), "authentication": {
                    "sasl_jaas_config": format!(
                        "{jaas}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"alice\";"
                    ),
                }}),
            ),
        ];
        let parts = clusters(&all, &topic, 20_000).sidecar(
            "certificates/mine",
            json!({"cert": {"file": certificate}, "key": {"file": key}, "key_password": "key-secret"}),
        );
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        for (name, _) in &all {
            let sent = http.post(&format!("/{name}/"), "", *name).await?;
            sent.expect(200).with_context(|| (*name).to_owned())?;
        }
        let values: Vec<String> = kafka
            .records(&topic)
            .await?
            .iter()
            .map(|record| record.text().map(str::to_owned))
            .collect::<Result<_>>()?;
        ensure!(values == all.each_ref().map(|(name, _)| *name), "{values:?}");

        // The commands go the same ways.
        let (code, out, err) = sluice(s, &["check-config", "--connect"]).await?;
        ensure!(code == Some(0), "{err}");
        for (name, _) in &all {
            ensure!(
                out.contains(&format!("clusters.{name}: reached\n")),
                "{name}: {out}"
            );
        }
        for name in ["mtls-jks", "scram-512", "token-file", "unsigned"] {
            let at = ["--cluster", name];
            let run = async |arguments: &[&str]| sluice(s, &[arguments, &at].concat()).await;
            let (code, out, err) = run(&["send", &topic, "by hand"]).await?;
            ensure!(
                code == Some(0) && out.starts_with(&format!("{topic} 0@")),
                "{name}: {out}{err}"
            );
            let (code, out, err) = run(&["tail", &topic, "--from-beginning", "--max", "1"]).await?;
            ensure!(
                code == Some(0) && out.trim_end().ends_with(" tls"),
                "{name}: {out}{err}"
            );
            let (code, out, err) = run(&[
                "topics",
                "create",
                &format!("{topic}-{name}"),
                "--partitions",
                "1",
            ])
            .await?;
            ensure!(
                code == Some(0) && out.starts_with("created "),
                "{name}: {out}{err}"
            );
            let (code, out, err) = run(&["topics", "list"]).await?;
            ensure!(
                code == Some(0) && out.contains(&format!("{topic} 1\n")),
                "{name}: {out}{err}"
            );
        }
        Ok(())
    })
}

#[test]
fn what_is_wrong_is_told() -> Result<()> {
    scenario_within(LIMIT, "clusters-wrong", async |s| {
        let papers = Papers::new(s)?;
        let kafka = Kafka::start(s.dir(), &papers.setup()?).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let (tls, sasl, sasl_tls) = (
            kafka.door(Door::Tls),
            kafka.door(Door::Sasl),
            kafka.door(Door::SaslTls),
        );
        let elsewhere = tls.replace("127.0.0.1", "localhost");
        let old = s.dir().join("token");
        std::fs::write(&old, token(-60)?)?;
        let dead = format!("127.0.0.1:{}", ports::pick()?);
        let stranger = json!({"ssl": true, "truststore": {"location": papers.stranger}});
        // Each with the reason that metrics have, and words that are said.
        let rows = [
            (
                "authority",
                "certificate_authority",
                "from an authority that is not trusted",
                json!({"bootstrap_servers": tls, "security": stranger}),
            ),
            (
                "host-name",
                "certificate_name",
                "for another host name",
                json!({"bootstrap_servers": elsewhere, "security": papers.tls()}),
            ),
            (
                "expired",
                "certificate_expired",
                "out of date",
                json!({"bootstrap_servers": kafka.door(Door::Bad), "security": papers.tls()}),
            ),
            (
                "no-certificate",
                "client_certificate",
                "the client's certificate, or wants one",
                json!({"bootstrap_servers": kafka.door(Door::Mtls), "security": papers.tls()}),
            ),
            (
                "password",
                "credentials",
                "does not accept the credentials",
                json!({"bootstrap_servers": sasl, "authentication": login("PLAIN", "alice", "guess")}),
            ),
            (
                "scram",
                "credentials",
                "does not accept the credentials",
                json!({"bootstrap_servers": sasl, "authentication": login("SCRAM-SHA-512", "alice", "guess")}),
            ),
            (
                "mechanism",
                "sasl_mechanism",
                "does not accept the SASL mechanism",
                json!({"bootstrap_servers": sasl, "authentication": {
                    "mechanism": "OAUTHBEARER", "oauthbearer": {"token": token(600)?},
                }}),
            ),
            (
                "token",
                "token",
                "there is no token to show",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(), "authentication": {
                    "mechanism": "OAUTHBEARER", "oauthbearer": {"token_file": old},
                }}),
            ),
            (
                "refused",
                "refused",
                "nobody listens there",
                json!({"bootstrap_servers": dead}),
            ),
            (
                "name",
                "dns",
                "cannot be resolved",
                json!({"bootstrap_servers": "no-such-host.invalid:9092"}),
            ),
            (
                "no-tls",
                "tls",
                "TLS handshake failed",
                json!({"bootstrap_servers": sasl, "security": papers.tls()}),
            ),
            (
                "no-sasl",
                "disconnected",
                "closed the connection",
                json!({"bootstrap_servers": sasl}),
            ),
        ];
        let all: Vec<(&str, Value)> = rows
            .iter()
            .map(|(name, _, _, cluster)| (*name, cluster.clone()))
            .collect();
        let rig = Rig::start(s, clusters(&all, &topic, 4000)).await?;
        let http = rig.envoy.h1();
        let mut wrong = Vec::new();
        // At once, since each waits for its time to be over. On a machine that is busy a handshake may take longer than one
        // request waits, which is told of nothing then but that the cluster has not answered.
        let mut posts = tokio::task::JoinSet::new();
        for (name, _, words, _) in rows.clone() {
            let http = http.clone();
            posts.spawn(async move {
                let until = Instant::now() + PATIENCE;
                loop {
                    let reply = http.post(&format!("/{name}/"), "", "x").await?;
                    let error = reply.expect_error(503, "cluster_unavailable")?.text();
                    if error.contains(words) {
                        return Ok::<_, sluice_e2e::Error>(None);
                    }
                    if Instant::now() >= until {
                        return Ok(Some(format!("{name}: {error}")));
                    }
                }
            });
        }
        while let Some(post) = posts.join_next().await {
            wrong.extend(post??);
        }
        let text = rig.sidecar.admin().get("/metrics").await?.expect(200)?.text();
        for (name, reason, ..) in &rows {
            let labels = format!("reason=\"{reason}\"");
            let counted = |line: &&str| {
                line.starts_with("sluice_connection_failures_total{")
                    && line.contains(&format!("cluster=\"{name}\""))
            };
            let counted: Vec<&str> = text.lines().filter(counted).collect();
            if !counted.iter().any(|line| line.contains(&labels)) {
                wrong.push(format!("{name}: metrics: {counted:?}"));
            }
        }
        let ready = rig.sidecar.admin().get("/readyz").await?.expect(200)?.text();
        let log = rig.sidecar.log()?;
        // It tries each for some seconds.
        let err = wait::until("check-config", PATIENCE, async || {
            let (code, out, err) = sluice(s, &["check-config", "--connect"]).await?;
            ensure!(code == Some(1) && !out.contains("reached"), "{out}{err}");
            for (name, _, words, _) in &rows {
                let start = format!("clusters.{name}: ");
                let line = err.lines().find(|line| line.starts_with(&start));
                ensure!(
                    line.is_some_and(|line| line.contains(words)),
                    "{name}: check-config: {line:?}"
                );
            }
            Ok(err)
        })
        .await?;
        for (name, _, words, _) in &rows {
            for (what, said) in [("readyz", &ready), ("log", &log)] {
                if !said.contains(words) {
                    wrong.push(format!("{name}: {what}"));
                }
            }
        }
        ensure!(wrong.is_empty(), "{}\n{ready}", wrong.join("\n"));
        ensure!(kafka.records(&topic).await?.is_empty());
        for secret in [PASSWORD, "guess"] {
            let told = [&log, &ready, &err].iter().any(|text| text.contains(secret));
            ensure!(!told, "a secret is told");
        }
        Ok(())
    })
}

#[test]
fn what_is_mended_works_without_a_restart() -> Result<()> {
    scenario_within(LIMIT, "clusters-mended", async |s| {
        let papers = Papers::new(s)?;
        let kafka = Kafka::start(s.dir(), &papers.setup()?).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let (sasl, sasl_tls) = (kafka.door(Door::Sasl), kafka.door(Door::SaslTls));
        let file = s.dir().join("token");
        std::fs::write(&file, token(-60)?)?;
        let all = [
            (
                "password",
                json!({"bootstrap_servers": sasl, "authentication": login("SCRAM-SHA-256", "alice", "new-one")}),
            ),
            (
                "expired",
                json!({"bootstrap_servers": kafka.door(Door::Bad), "security": papers.tls()}),
            ),
            (
                "token",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(), "authentication": {
                    "mechanism": "OAUTHBEARER", "oauthbearer": {"token_file": file},
                }}),
            ),
        ];
        let rig = Rig::start(s, clusters(&all, &topic, 2000)).await?;
        let http = rig.envoy.h1();
        for (name, _) in &all {
            let reply = http.post(&format!("/{name}/"), "", "too early").await?;
            reply.expect_error(503, "cluster_unavailable")?;
        }
        kafka.set_scram("alice", "new-one").await?;
        let good = s.dir().join("broker.pem");
        let renewed = format!("listener.name.bad.ssl.keystore.location={}", good.display());
        kafka.set_broker(1, &renewed).await?;
        let mut ends = Instant::now();
        for (name, _) in &all {
            if *name == "token" {
                ends = Instant::now() + Duration::from_secs(15);
                std::fs::write(&file, token(15)?)?;
            }
            wait::until(
                &format!("{name} is mended"),
                Duration::from_secs(40),
                async || {
                    http.post(&format!("/{name}/"), "", *name).await?.expect(200)?;
                    Ok(())
                },
            )
            .await?;
        }
        // The next one is taken up before that one ends, and nobody notices.
        std::fs::write(&file, token(600)?)?;
        // Brokers go by the real time alone: the end of the first has to be lived through.
        while Instant::now() < ends + Duration::from_secs(1) {
            http.post("/token/", "", "token").await?.expect(200)?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let values = kafka.records(&topic).await?;
        ensure!(
            values
                .iter()
                .all(|record| record.text().is_ok_and(|text| text != "too early"))
        );
        Ok(())
    })
}

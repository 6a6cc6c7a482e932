//! Delegation tokens: what works, that sessions are renewed without a gap, and what is said of a token that has ended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_e2e::kafka::{Door, Kafka};
use sluice_e2e::rig::Rig;
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Context, Result, ensure, wait};

use super::LIMIT;
use super::papers::{PASSWORD, Papers, clusters, login, sluice};

/// How long a session lasts, and for how long there are requests: several sessions.
const SESSION_MS: u64 = 4000;
const SENDING: Duration = Duration::from_secs(11);

fn with_token(mechanism: &str, (id, hmac): &(String, String)) -> Value {
    let mut login = login(mechanism, id, hmac);
    if let Some(map) = login.as_object_mut() {
        map.insert("tokenauth".to_owned(), json!(true));
    }
    login
}

#[test]
fn delegation_tokens() -> Result<()> {
    scenario_within(LIMIT, "delegation", async |s| {
        let papers = Papers::new(s)?;
        let setup = papers
            .setup()?
            .property("delegation.token.secret.key", "of-the-brokers-alone")
            .property("connections.max.reauth.ms", &SESSION_MS.to_string());
        let mut kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let ending = kafka.create_token("alice", PASSWORD).await?;
        let staying = kafka.create_token("alice", PASSWORD).await?;
        let wrong = (ending.0.clone(), "bm90IHRoYXQgb25l".to_owned());
        let (sasl, sasl_tls) = (kafka.door(Door::Sasl), kafka.door(Door::SaslTls));
        let elsewhere = sasl_tls.replace("127.0.0.1", "localhost");
        let stranger = json!({"ssl": true, "truststore": {"location": papers.stranger}});
        let line = format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{}\" password=\"{}\" \
             tokenauth=\"true\";",
            staying.0, staying.1
        );
        let good = [
            (
                "ending",
                json!({"bootstrap_servers": sasl, "authentication": with_token("SCRAM-SHA-256", &ending)}),
            ),
            (
                "tls",
                json!({"bootstrap_servers": sasl_tls, "security": papers.tls(),
                "authentication": with_token("SCRAM-SHA-512", &staying)}),
            ),
            (
                "jaas",
                json!({"bootstrap_servers": sasl, "authentication": {
                    "mechanism": "SCRAM-SHA-256", "sasl_jaas_config": line,
                }}),
            ),
        ];
        // Each with the reason that metrics have, and words that are said.
        let bad = [
            (
                "hmac",
                "credentials",
                "does not accept the credentials",
                json!({"bootstrap_servers": sasl, "authentication": with_token("SCRAM-SHA-512", &wrong)}),
            ),
            (
                "authority",
                "certificate_authority",
                "from an authority that is not trusted",
                json!({"bootstrap_servers": sasl_tls, "security": stranger,
                "authentication": with_token("SCRAM-SHA-256", &staying)}),
            ),
            (
                "host-name",
                "certificate_name",
                "for another host name",
                json!({"bootstrap_servers": elsewhere, "security": papers.tls(),
                "authentication": with_token("SCRAM-SHA-256", &staying)}),
            ),
            (
                "no-sasl",
                "sasl_mechanism",
                "asks for no SASL there",
                json!({"bootstrap_servers": kafka.bootstrap(),
                "authentication": with_token("SCRAM-SHA-256", &staying)}),
            ),
            (
                "no-tls",
                "tls",
                "TLS handshake failed",
                json!({"bootstrap_servers": sasl, "security": papers.tls(),
                "authentication": with_token("SCRAM-SHA-256", &staying)}),
            ),
        ];
        let mut all = good.to_vec();
        all.extend(bad.iter().map(|(name, _, _, cluster)| (*name, cluster.clone())));
        let rig = Rig::start(s, clusters(&all, &topic, 6000)).await?;
        let http = rig.envoy.h1();

        // Every session is renewed several times, and every record is there once and in order.
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < SENDING {
            for (name, _) in &good {
                let reply = http
                    .post(&format!("/{name}/"), "", format!("{name} {sent}"))
                    .await?;
                reply.expect(200).with_context(|| (*name).to_owned())?;
            }
            sent += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let records = kafka.records(&topic).await?;
        let mut expected = (0..sent).flat_map(|n| good.each_ref().map(|(name, _)| format!("{name} {n}")));
        for record in &records {
            let (found, expected) = (
                record.text()?,
                expected.next().context("more records than were sent")?,
            );
            ensure!(found == expected, "{found}, not {expected}");
        }
        ensure!(expected.next().is_none(), "records are missing");
        let metrics = async || {
            Ok::<_, sluice_e2e::Error>(rig.sidecar.admin().get("/metrics").await?.expect(200)?.text())
        };
        let counts = |text: &str, cluster: &str, reason: &str| {
            text.lines().any(|line| {
                line.starts_with("sluice_connection_failures_total{")
                    && line.contains(&format!("cluster=\"{cluster}\""))
                    && line.contains(reason)
            })
        };
        let text = metrics().await?;
        for (name, _) in &good {
            ensure!(!counts(&text, name, "reason"), "{name} lost a connection");
        }

        // The commands go the same ways, and tell the same of those that go nowhere.
        let (code, out, err) = sluice(s, &["check-config", "--connect"]).await?;
        ensure!(code == Some(1), "{out}{err}");
        for (name, _) in &good {
            ensure!(
                out.contains(&format!("clusters.{name}: reached\n")),
                "{name}: {out}{err}"
            );
        }
        let mut wrong = Vec::new();
        for (name, reason, words, _) in &bad {
            let line = err
                .lines()
                .find(|line| line.starts_with(&format!("clusters.{name}: ")));
            if !line.is_some_and(|line| line.contains(words)) {
                wrong.push(format!("{name}: check-config: {line:?}"));
            }
            let reply = http.post(&format!("/{name}/"), "", "x").await?;
            let error = reply.expect_error(503, "cluster_unavailable")?.text();
            if !error.contains(words) {
                wrong.push(format!("{name}: {error}"));
            }
            if !counts(&metrics().await?, name, &format!("reason=\"{reason}\"")) {
                wrong.push(format!("{name}: metrics"));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let run = async |arguments: &[&str]| {
            let (code, out, err) = sluice(s, &[arguments, &["--cluster", "tls"]].concat()).await?;
            ensure!(code == Some(0), "{arguments:?}: {out}{err}");
            Ok(out)
        };
        let out = run(&["send", &topic, "by hand"]).await?;
        ensure!(out.starts_with(&format!("{topic} 0@")), "{out}");
        let out = run(&["tail", &topic, "--from-beginning", "--max", "1"]).await?;
        ensure!(out.trim_end().ends_with(" ending 0"), "{out}");
        run(&["topics", "create", &format!("{topic}-more"), "--partitions", "1"]).await?;
        let out = run(&["topics", "list"]).await?;
        ensure!(out.contains(&format!("{topic}-more 1\n")), "{out}");

        // A token that is taken back is no longer of use, at the latest when its session ends; others are.
        kafka.expire_token("alice", PASSWORD, &ending.1).await?;
        wait::until(
            "the ended token is refused",
            Duration::from_secs(60),
            async || {
                let reply = http.post("/ending/", "", "too late").await?;
                let error = reply.expect_error(503, "cluster_unavailable")?.text();
                ensure!(error.contains("does not accept the credentials"), "{error}");
                Ok(())
            },
        )
        .await?;
        let text = metrics().await?;
        ensure!(counts(&text, "ending", "reason=\"credentials\""), "{text}");
        http.post("/tls/", "", "after").await?.expect(200)?;

        // A broker that comes again is found again.
        kafka.node(1)?.kill()?;
        // What is sent before the sidecar knows of the kill may be on its way when the connection ends: 504 is its honest answer.
        wait::until("the killed broker is missed", LIMIT, async || {
            let reply = http.post("/tls/", "", "x").await?;
            reply.expect_error(503, "cluster_unavailable")?;
            Ok(())
        })
        .await?;
        kafka.node(1)?.restart().await?;
        for name in ["tls", "jaas"] {
            let what = format!("{name} is back");
            wait::until(&what, Duration::from_secs(40), async || {
                http.post(&format!("/{name}/"), "", "back").await?.expect(200)?;
                Ok(())
            })
            .await?;
        }
        let log = rig.sidecar.log()?;
        for secret in [&ending.1, &staying.1, &ending.0] {
            ensure!(!log.contains(secret.as_str()), "a secret is told");
        }
        Ok(())
    })
}

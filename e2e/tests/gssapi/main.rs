//! SASL/GSSAPI with a KDC: MIT's, from Debian's krb5-kdc and krb5-admin-server. `make test-gssapi` runs it, with the sidecar
//! that has GSSAPI built in, and with the environment that every part of it must have.

mod kdc;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::certificates::Authority;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Door, Kafka, Secured, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::{Context, Result, ensure, parts, wait};
use tokio::process::Command;

use self::kdc::{Kdc, REALM};

const LIMIT: Duration = Duration::from_secs(400);

/// A broker whose SASL listener takes GSSAPI.
fn setup(s: &Scenario, keytab: &Path) -> Result<Setup> {
    let authority = Authority::new("test authority")?;
    let identity = authority
        .issue("broker", &["127.0.0.1"], -1..30)?
        .write(&s.dir().join("broker.pem"))?;
    let secured = Secured {
        bad_identity: identity.clone(),
        identity,
        trust: authority.write(&s.dir().join("ca.pem"))?,
        users: vec![("alice".to_owned(), "alice-secret".to_owned())],
    };
    let line = format!(
        "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab=\"{}\" \
         principal=\"kafka/127.0.0.1@{REALM}\";",
        keytab.display()
    );
    Ok(Setup {
        secured: Some(secured),
        ..Setup::default()
    }
    .property("listener.name.sasl.sasl.enabled.mechanisms", "GSSAPI")
    .property("listener.name.sasl.sasl.kerberos.service.name", "kafka")
    .property("listener.name.sasl.gssapi.sasl.jaas.config", &line))
}

fn cluster(door: &str, principal: &str, keytab: &Path) -> Value {
    json!({
        "bootstrap_servers": door,
        "authentication": {
            "mechanism": "GSSAPI",
            "gssapi": {"principal": format!("{principal}@{REALM}"), "keytab": keytab},
        },
        "allowed_topics": ["t"],
    })
}

async fn sluice(config: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(parts::sidecar()?)
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout) + &text(output.stderr)))
}

#[test]
fn kerberos() -> Result<()> {
    scenario_within(LIMIT, "gssapi", async |s| {
        let mut kdc = Kdc::new(s.dir()).await?;
        let service = kdc.keytab("kafka/127.0.0.1").await?;
        let (good, old, gone) = (
            kdc.keytab("orders").await?,
            kdc.keytab("old").await?,
            kdc.keytab("gone").await?,
        );
        kdc.change_key("old").await?;
        kdc.delete("gone").await?;
        kdc.start().await?;
        let kafka = Kafka::start(s.dir(), &setup(s, &service)?).await?;
        kafka.create_topic("t", 1).await?;
        let door = kafka.door(Door::Sasl);

        // The sidecar comes up while nobody gives tickets, says so, and goes on once somebody does.
        kdc.stop();
        let settings = json!({"topic": "t", "value": "body", "answer_timeout": 4000});
        let parts = Parts::new("", vec![produce("/", settings)])
            .sidecar("clusters/main", cluster(&door, "orders", &good));
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        let reply = http.post("/", "", "too early").await?;
        let error = reply.expect_error(503, "cluster_unavailable")?.text();
        ensure!(error.contains("there is no Kerberos ticket to show"), "{error}");
        let text = rig.sidecar.admin().get("/metrics").await?.expect(200)?.text();
        ensure!(text.contains("reason=\"ticket\""), "{text}");
        kdc.start().await?;
        wait::until("records are taken", Duration::from_secs(60), async || {
            http.post("/", "", "first").await?.expect(200)?;
            Ok(())
        })
        .await?;
        http.post("/", "", "second").await?.expect(200)?;
        let values: Vec<String> = kafka
            .records("t")
            .await?
            .iter()
            .map(|record| record.text().map(str::to_owned))
            .collect::<Result<_>>()?;
        ensure!(values == ["first", "second"], "{values:?}");

        // The commands go the same way.
        let config = s.dir().join("sluice.yaml");
        for (arguments, expected) in [
            (&["check-config", "--connect"][..], "clusters.main: reached\n"),
            (&["send", "t", "by hand"], "t 0@2"),
            (&["tail", "t", "--from-beginning", "--max", "1"], " first"),
            (&["topics", "list"], "t 1\n"),
        ] {
            let (code, said) = sluice(&config, arguments).await?;
            ensure!(
                code == Some(0) && said.contains(expected),
                "{arguments:?}: {said}"
            );
        }

        // What is wrong, each in a process of its own.
        let jaas = format!(
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true keyTab=\"{}\" \
             principal=\"orders@{REALM}\" serviceName=\"nobody\";",
            good.display()
        );
        let other = json!({
            "bootstrap_servers": door, "allowed_topics": ["t"], "authentication": {"sasl_jaas_config": jaas},
        });
        for (name, cluster, expected) in [
            ("old", cluster(&door, "old", &old), "there is no Kerberos ticket"),
            (
                "gone",
                cluster(&door, "gone", &gone),
                "not found in Kerberos database",
            ),
            ("service", other, "not found in Kerberos database"),
        ] {
            let config = s.dir().join(format!("{name}.yaml"));
            std::fs::write(&config, json!({"clusters": {"main": cluster}}).to_string())?;
            let (code, said) = sluice(&config, &["check-config", "--connect"]).await?;
            let line = said.lines().find(|line| line.starts_with("clusters.main: "));
            let line = line.with_context(|| format!("{name}: {said}"))?;
            ensure!(
                code == Some(1) && line.contains("there is no Kerberos ticket") && line.contains(expected),
                "{name}: {said}"
            );
        }
        Ok(())
    })
}

//! What brokers and clients show each other, and sidecars that have it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::certificates::{Authority, Pair};
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Secured, Setup};
use sluice_e2e::rig::Parts;
use sluice_e2e::scenario::Scenario;
use sluice_e2e::{Context, Result, ensure, parts};
use tokio::process::Command;

pub(super) const PASSWORD: &str = "alice-secret";
/// As Azure's: the user's name, and a connection string.
pub(super) const CONNECTION: &str = "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=k";

/// What brokers and clients show each other.
pub(super) struct Papers {
    pub(super) dir: PathBuf,
    pub(super) authority: Authority,
    /// Whom the clients trust, and the brokers.
    pub(super) trust: PathBuf,
    /// One that nobody has heard of.
    pub(super) stranger: PathBuf,
}

/// A client, and its files.
pub(super) struct Client {
    pub(super) identity: Pair,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Whom it trusts.
    pub(super) trust: PathBuf,
}

impl Papers {
    pub(super) fn new(scenario: &Scenario) -> Result<Self> {
        let dir = scenario.dir().to_owned();
        let authority = Authority::new("test authority")?;
        let trust = authority.write(&dir.join("ca.pem"))?;
        let stranger = Authority::new("stranger")?.write(&dir.join("stranger.pem"))?;
        Ok(Self {
            dir,
            authority,
            trust,
            stranger,
        })
    }

    /// A broker's certificate is good for its address alone, so that `localhost` is another name. The expired one is
    /// otherwise alike: Kafka replaces one by the other then.
    pub(super) fn setup(&self) -> Result<Setup> {
        let hosts = ["127.0.0.1"];
        let good = self.authority.issue("broker", &hosts, -1..30)?;
        let expired = self.authority.issue("broker", &hosts, -2..-1)?;
        Ok(Setup {
            secured: Some(Secured {
                identity: good.write(&self.dir.join("broker.pem"))?,
                bad_identity: expired.write(&self.dir.join("expired.pem"))?,
                trust: self.trust.clone(),
                users: vec![
                    ("alice".to_owned(), PASSWORD.to_owned()),
                    ("$ConnectionString".to_owned(), CONNECTION.to_owned()),
                ],
            }),
            ..Setup::default()
        })
    }

    /// Files of a client that may be written again while it runs: with a certificate of the authority's, for 20 days, and trust in it.
    pub(super) fn client(&self) -> Result<Client> {
        let client = Client {
            identity: self.authority.issue("client", &[], -1..20)?,
            certificate: self.dir.join("client.pem"),
            key: self.dir.join("client-key.pem"),
            trust: self.dir.join("client-trust.pem"),
        };
        std::fs::copy(&self.trust, &client.trust)?;
        client.identity.write_certificate(&client.certificate)?;
        client.identity.write_key(&client.key, None)?;
        Ok(client)
    }

    /// `security` with the right authority.
    pub(super) fn tls(&self) -> Value {
        json!({"ssl": true, "truststore": {"location": self.trust}})
    }
}

pub(super) fn login(mechanism: &str, user: &str, password: &str) -> Value {
    json!({"strategy": "sasl", "mechanism": mechanism, "user": user, "password": password})
}

/// A token that nobody signed, for `alice`, from now on for so many seconds.
pub(super) fn token(seconds: i64) -> Result<String> {
    use std::time::{SystemTime, UNIX_EPOCH};
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let claims = json!({"sub": "alice", "iat": now + seconds.min(0) - 1, "exp": now + seconds}).to_string();
    let encode = |text: &str| base64url(text.as_bytes());
    Ok(format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims)))
}

/// base64url without padding.
pub(super) fn base64url(bytes: &[u8]) -> String {
    let text = openssl::base64::encode_block(bytes);
    text.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Runs keytool, Java's own.
pub(super) async fn keytool(arguments: &[&str]) -> Result<()> {
    let output = Command::new("keytool").arg("-noprompt").args(arguments).output();
    let output = output.await.context("start keytool: is a JDK installed?")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "keytool {arguments:?}: {said}");
    Ok(())
}

pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// A sidecar with these clusters, and a route to each by its name.
pub(super) fn clusters(all: &[(&str, Value)], topic: &str, answer_timeout: u64) -> Parts {
    let route = |(name, _): &(&str, Value)| {
        let settings = json!({
            "topic": topic, "value": "body", "cluster_name": name, "answer_timeout": answer_timeout,
        });
        produce(&format!("/{name}/"), settings)
    };
    let parts = Parts::new("", all.iter().map(route).collect());
    let with_topics = |(name, cluster): &(&str, Value)| {
        let mut cluster = cluster.clone();
        if let Some(map) = cluster.as_object_mut() {
            map.insert("allowed_topics".to_owned(), json!([topic]));
        }
        ((*name).to_owned(), cluster)
    };
    parts.sidecar("clusters", all.iter().map(with_topics).collect())
}

/// Runs a command of `sluice` with the sidecar's configuration; gives its code, what it printed and its complaints.
pub(super) async fn sluice(scenario: &Scenario, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = Command::new(parts::sidecar()?)
        .current_dir(parts::root())
        .args(arguments)
        .arg("--config")
        .arg(scenario.dir().join("sluice.yaml"))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

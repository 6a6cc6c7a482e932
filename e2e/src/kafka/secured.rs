//! Listeners that ask who is there, and say who they are.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::ports;

/// What the brokers' listeners with TLS and SASL are made of.
#[derive(Debug, Clone)]
pub struct Secured {
    /// PEM with key and certificate of the brokers.
    pub identity: PathBuf,
    /// The same for the listener whose certificate is bad in some way.
    pub bad_identity: PathBuf,
    /// PEM of the authority whose clients are let in by [`Door::Mtls`].
    pub trust: PathBuf,
    /// Who may come in by PLAIN and SCRAM, and their passwords.
    pub users: Vec<(String, String)>,
}

/// A listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// TLS.
    Tls,
    /// TLS, for those who have a certificate.
    Mtls,
    /// TLS with [`Secured::bad_identity`].
    Bad,
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (any unsigned token) inside TLS.
    SaslTls,
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.
    Sasl,
}

const DOORS: [(Door, &str, &str); 5] = [
    (Door::Tls, "TLS", "SSL"),
    (Door::Mtls, "MTLS", "SSL"),
    (Door::Bad, "BAD", "SSL"),
    (Door::SaslTls, "SASLTLS", "SASL_SSL"),
    (Door::Sasl, "SASL", "SASL_PLAINTEXT"),
];

/// A broker's own ports for them.
#[derive(Debug, Clone)]
pub(super) struct Ports(Vec<(Door, u16)>);

impl Ports {
    pub(super) fn pick() -> Result<Self> {
        let one = |(door, ..): (Door, _, _)| Ok((door, ports::pick()?));
        Ok(Self(DOORS.into_iter().map(one).collect::<Result<_>>()?))
    }

    /// `host:port` of a listener.
    pub(super) fn address(&self, door: Door) -> Option<String> {
        let (_, port) = self.0.iter().find(|(one, _)| *one == door)?;
        Some(format!("127.0.0.1:{port}"))
    }

    /// For `listeners`, with a comma before each.
    pub(super) fn listeners(&self) -> String {
        let all = DOORS.iter().zip(&self.0);
        all.map(|((_, name, _), (_, port))| format!(",{name}://127.0.0.1:{port}"))
            .collect()
    }

    /// For `listener.security.protocol.map`, with a comma before each.
    pub(super) fn protocols() -> String {
        DOORS
            .iter()
            .map(|(_, name, protocol)| format!(",{name}:{protocol}"))
            .collect()
    }
}

impl Secured {
    /// The broker properties.
    pub(super) fn properties(&self) -> Result<String> {
        let mut text = String::new();
        for (door, name, protocol) in DOORS {
            let prefix = format!("listener.name.{}", name.to_lowercase());
            if protocol.ends_with("SSL") {
                let identity = if door == Door::Bad {
                    &self.bad_identity
                } else {
                    &self.identity
                };
                let asks = if door == Door::Mtls { "required" } else { "none" };
                write!(
                    text,
                    "{prefix}.ssl.keystore.type=PEM\n\
                     {prefix}.ssl.keystore.location={}\n\
                     {prefix}.ssl.truststore.type=PEM\n\
                     {prefix}.ssl.truststore.location={}\n\
                     {prefix}.ssl.client.auth={asks}\n",
                    identity.display(),
                    self.trust.display(),
                )?;
            }
            if !protocol.starts_with("SASL") {
                continue;
            }
            const PACKAGE: &str = "org.apache.kafka.common.security";
            let bearer = if door == Door::SaslTls { ",OAUTHBEARER" } else { "" };
            let users: String = self
                .users
                .iter()
                .map(|(name, password)| format!(" user_{name}=\"{password}\""))
                .collect();
            write!(
                text,
                "{prefix}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512{bearer}\n\
                 {prefix}.plain.sasl.jaas.config={PACKAGE}.plain.PlainLoginModule required{users};\n\
                 {prefix}.scram-sha-256.sasl.jaas.config={PACKAGE}.scram.ScramLoginModule required;\n\
                 {prefix}.scram-sha-512.sasl.jaas.config={PACKAGE}.scram.ScramLoginModule required;\n",
            )?;
            if !bearer.is_empty() {
                writeln!(
                    text,
                    "{prefix}.oauthbearer.sasl.jaas.config={PACKAGE}.oauthbearer.OAuthBearerLoginModule required \
                     unsecuredLoginStringClaim_sub=\"broker\";"
                )?;
            }
        }
        Ok(text)
    }

    /// What `kafka-storage format` is told: the users of SCRAM. A user whose name it cannot take is PLAIN's only.
    pub(super) fn scram(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (name, password) in self.users.iter().filter(|(name, _)| !name.starts_with('$')) {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                arguments.push("--add-scram".to_owned());
                arguments.push(format!("{mechanism}=[name={name},password={password}]"));
            }
        }
        arguments
    }
}

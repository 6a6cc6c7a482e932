//! An organisation: its topics, secrets, actions, and who may do what.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::item::Action;
use crate::auth::claims::Name;
use crate::config::{Bearers, Secret, TopicAllowlist};
use crate::kafka::log;

/// The organisations, and where what they have is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster of the state's topic.
    pub cluster: String,
    /// The state's topic.
    pub log: log::Settings,
    /// The organisations by their ids.
    pub orgs: BTreeMap<String, Arc<Org>>,
    /// Bounds on expressions.
    pub timeout: Duration,
    /// The most bytes that the expressions of one run give.
    pub max_output_bytes: usize,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Org {
    /// Its id, what the names of its topics begin with.
    pub id: String,
    /// The cluster of its topics.
    pub cluster: String,
    /// Where runs are written to.
    pub runs_topic: String,
    /// Where every change of a run or an entity is written to.
    pub change_log_topic: String,
    /// How its topics are made if they are not there.
    pub topics: Topics,
    /// Signs what agents get, and its first 32 bytes encrypt inputs.
    pub secret: Option<Secret>,
    /// What expressions see as `.secrets`, until the configuration's are others.
    pub secrets: BTreeMap<String, Secret>,
    /// Who may do what.
    pub access: Vec<Access>,
    /// Programs that get a token for an id and a secret.
    pub clients: BTreeMap<String, Client>,
    /// How long such a token is good for.
    pub token_lifetime: Duration,
    /// What consumers of its topics connect with.
    pub credentials: Option<Credentials>,
    /// How long a run may take whose action does not say.
    pub run_timeout: Duration,
    /// How long a run is kept that has ended.
    pub retention: Duration,
    /// The actions of the configuration, by their identifiers.
    pub actions: BTreeMap<String, Arc<Action>>,
}

/// How topics are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Their partitions.
    pub partitions: i32,
    /// Their replicas; none: as the brokers are configured.
    pub replication_factor: Option<i32>,
}

/// Who somebody is, and what he may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// What opens it.
    pub who: Who,
    /// What may be done.
    pub may: Grants,
    /// The actions that it is about; names, or the beginning of some and a `*`.
    pub actions: TopicAllowlist,
}

/// What opens an [`Access`].
#[derive(Debug, Clone)]
pub enum Who {
    /// One of these tokens, and whose they are.
    Tokens(Vec<Secret>, User),
    /// A token of an issuer.
    Bearers(Bearers),
}

/// A program that gets tokens.
#[derive(Debug, Clone)]
pub struct Client {
    /// What it shows for one.
    pub secret: Secret,
    /// What it may do.
    pub may: Grants,
    /// The actions that it is about.
    pub actions: TopicAllowlist,
}

/// What `GET /v1/kafka-credentials` gives.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `host:port` each.
    pub brokers: Vec<String>,
    /// SASL's.
    pub username: String,
    /// SASL's.
    pub password: Secret,
}

/// Who does something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// What he is called.
    pub id: String,
    /// His address.
    pub email: Option<String>,
    /// His first name.
    pub first_name: Option<String>,
    /// His last name.
    pub last_name: Option<String>,
}

/// The claims of OpenID Connect that say who somebody is (Core 1.0, section 5.1).
const CLAIMS: [&str; 3] = ["email", "given_name", "family_name"];

impl User {
    /// The one that a token's claims are about, who is called `id`.
    pub fn of_claims(id: String, claims: &serde_json::Map<String, serde_json::Value>) -> Self {
        let [email, first_name, last_name] = CLAIMS.map(|name| {
            let name = Name::parse(name).ok()?;
            name.texts(claims).into_iter().next()
        });
        Self {
            id,
            email,
            first_name,
            last_name,
        }
    }
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grants(u8);

/// One thing that somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Start runs.
    Invoke = 1,
    /// Let runs go on that wait for it, or decline them.
    Approve = 2,
    /// Say how runs go on, and what entities there are.
    Report = 4,
    /// Look at actions, runs and entities.
    See = 8,
    /// Make, change and delete actions.
    Manage = 16,
    /// Get what consumers connect to Kafka with.
    Credentials = 32,
}

impl Grant {
    /// All there are, by their names.
    pub const ALL: &[(&'static str, Self)] = &[
        ("invoke", Self::Invoke),
        ("approve", Self::Approve),
        ("report", Self::Report),
        ("see", Self::See),
        ("manage", Self::Manage),
        ("credentials", Self::Credentials),
    ];
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, grant)| grant == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl Grants {
    /// With one more.
    #[must_use]
    pub fn with(self, grant: Grant) -> Self {
        Self(self.0 | grant as u8)
    }

    /// What either has.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is among them.
    pub fn has(self, grant: Grant) -> bool {
        self.0 & grant as u8 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

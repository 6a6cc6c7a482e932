//! What the admin API makes, as it is kept in the state's topic.
//!
//! What a later version adds to an item stays in it when this one changes it (`rest`); an item of a kind that this version does
//! not know is kept as it is, and told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::manifest::Manifest;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// A subscription.
    Subscription(Subscription),
    /// A Kafka cluster.
    KafkaCluster(KafkaCluster),
    /// Where services are.
    Deployment(Deployment),
}

/// A subscription, as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// `kafka://<cluster>/<topic>`.
    pub source: String,
    /// `service://<service>/<handler>` or `http(s)://…`.
    pub sink: String,
    /// The options; may have secrets.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// RFC 3339.
    pub created_at: String,
    /// What a later version wrote.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A Kafka cluster, as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KafkaCluster {
    /// librdkafka's; some are secrets.
    pub properties: BTreeMap<String, String>,
    /// RFC 3339.
    pub created_at: String,
    /// What a later version wrote.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Where services are, and which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Where.
    pub uri: String,
    /// What is there.
    pub manifest: Manifest,
    /// How often it was registered, first and again. Of two deployments that have a service, that of the later time counts.
    pub revision: u64,
    /// When it was registered last, in milliseconds since 1970.
    pub registered_ms: i64,
    /// RFC 3339.
    pub created_at: String,
    /// What a later version wrote.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Which kind of item, for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Subscriptions.
    Subscriptions,
    /// Kafka clusters.
    KafkaClusters,
    /// Deployments.
    Deployments,
}

impl Kind {
    /// What keys of this kind begin with, which is also their path in the API.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions/",
            Self::KafkaClusters => "kafka-clusters/",
            Self::Deployments => "deployments/",
        }
    }

    /// The key of one of them.
    pub fn key(self, id: &str) -> String {
        format!("{}{id}", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_wrote_stays() {
        let text = r#"{"kind":"subscription","source":"s","sink":"t","options":{"a":1},"created_at":"c","labels":{"x":2}}"#;
        let item: Item = serde_json::from_str(text).unwrap();
        let Item::Subscription(subscription) = &item else {
            panic!("{item:?}")
        };
        assert_eq!(subscription.rest["labels"]["x"], 2);
        let again: Value = serde_json::from_str(&serde_json::to_string(&item).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
        assert!(serde_json::from_str::<Item>(r#"{"kind":"workspace","a":1}"#).is_err());
    }
}

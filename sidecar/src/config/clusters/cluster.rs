//! A Kafka cluster, and what it is shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::{Secret, TopicAllowlist};
use crate::kafka::oidc::Issuer;

/// A Kafka cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `host:port` of each bootstrap broker.
    pub bootstrap_servers: Vec<String>,
    /// librdkafka properties for every client of this cluster, those that the cluster's own fields stand for included.
    /// Values may be secrets.
    pub properties: BTreeMap<String, Secret>,
    /// The bearer token of SASL/OAUTHBEARER, which is no property.
    pub token: Option<BearerToken>,
    /// The delegation token, which is not librdkafka's to show.
    pub delegation: Option<DelegationToken>,
    /// Whose tickets SASL/GSSAPI shows.
    pub kerberos: Option<Kerberos>,
    /// The token is that of each record's caller.
    pub callers: Option<Callers>,
    /// `producer.enabled`: whether records may be written.
    pub produces: bool,
    /// `consumer.enabled`: whether records may be read.
    pub consumes: bool,
    /// `consumer.groups`: the consumer groups that readers and subscriptions may use; all where it is not said.
    pub groups: Option<TopicAllowlist>,
    /// The topics that may be written, by any face; none by default.
    pub allowed_topics: TopicAllowlist,
    /// Until when its certificates are good.
    pub expiry: Expiry,
    /// By path, the digest (SHA-256) of each file that librdkafka reads by itself; none of one that cannot be read.
    pub materials: BTreeMap<PathBuf, Option<[u8; 32]>>,
}

/// `credentials: from_request`: a client for each caller, with the caller's own token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callers {
    /// `max_callers`: how many there may be at once.
    pub max: usize,
}

/// Until when certificates are good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The first to end of the client's own chain.
    pub keystore: Option<SystemTime>,
    /// The last to end of those that are trusted.
    pub truststore: Option<SystemTime>,
}

impl Cluster {
    /// Whether a client of `other` would connect as one of this does: with the same properties, certificates and
    /// secrets.
    pub fn connects_like(&self, other: &Self) -> bool {
        self.properties == other.properties
            && self.token == other.token
            && self.delegation == other.delegation
            && self.materials == other.materials
    }

    /// Whether a reader or a subscription may use the group.
    ///
    /// # Errors
    /// It may not; the rule is named, as that of the cluster called `name`.
    pub fn may_use_group(&self, name: &str, group: &str) -> Result<(), String> {
        match &self.groups {
            Some(groups) if !groups.allows(group) => Err(format!(
                "group {group:?} is none of those that clusters.{name}.consumer.groups allows: {}",
                groups.0.join(", ")
            )),
            _ => Ok(()),
        }
    }
}

impl Default for Cluster {
    /// Without brokers and topics, and for both directions.
    fn default() -> Self {
        Self {
            bootstrap_servers: Vec::new(),
            properties: BTreeMap::new(),
            token: None,
            delegation: None,
            kerberos: None,
            callers: None,
            produces: true,
            consumes: true,
            groups: None,
            allowed_topics: TopicAllowlist::default(),
            expiry: Expiry::default(),
            materials: BTreeMap::new(),
        }
    }
}

/// Whose tickets SASL/GSSAPI shows. There is one such in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kerberos {
    /// The principal, which is the first of the keytab.
    pub principal: String,
    /// The keytab with its keys.
    pub keytab: PathBuf,
}

/// How tokens of AWS MSK IAM are signed. Without profile and keys, with what the AWS SDK finds: variables, the default
/// profile, the machine's or the container's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsIam {
    /// The region of the brokers.
    pub region: String,
    /// A profile of AWS's configuration files.
    pub profile: Option<String>,
    /// Keys that are always the same.
    pub keys: Option<AwsKeys>,
    /// A role to be assumed with the credentials that these give.
    pub role: Option<AwsRole>,
}

/// Keys of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// The access key's id.
    pub id: Secret,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of keys that end.
    pub session_token: Option<Secret>,
}

/// A role of AWS that is assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsRole {
    /// Its ARN.
    pub arn: String,
    /// What the session is called in AWS's logs.
    pub session_name: Option<String>,
    /// What the role's owner asks for.
    pub external_id: Option<Secret>,
    /// The region of the STS that is asked; the brokers' where there is none.
    pub sts_region: Option<String>,
    /// The URL of the STS that is asked, of a VPC endpoint say.
    pub sts_endpoint: Option<String>,
}

/// A delegation token of the brokers' (KIP-48), shown by SCRAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationToken {
    /// The hash of SCRAM.
    pub hash: ScramHash,
    /// Its id.
    pub id: Secret,
    /// Its HMAC, in the text that the brokers gave.
    pub hmac: Secret,
}

/// A hash that SCRAM is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// What a client shows for SASL/OAUTHBEARER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerToken {
    /// Where the token is from.
    pub source: TokenSource,
    /// SASL extensions (RFC 7628), sent with it.
    pub extensions: BTreeMap<String, String>,
}

/// Where a bearer token is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// It is always the same.
    Fixed(Secret),
    /// A file, which somebody writes anew before the token in it expires.
    File(PathBuf),
    /// Fetched from an OpenID Connect issuer.
    Oidc(Arc<Issuer>),
    /// Made on the spot, and signed for AWS MSK.
    AwsMskIam(AwsIam),
    /// Made on the spot, and not signed (RFC 7515, `alg: none`): for brokers that check nothing.
    Unsecured {
        /// The claim `sub`.
        principal: String,
        /// How long each is good for.
        lifetime: Duration,
    },
}

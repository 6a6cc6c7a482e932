//! Where records can go: the clusters, what of them may be written, and by which producers.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use sluice_proto::v1::{self, ErrorClass};
use tokio::sync::watch;

use crate::app::StartError;
use crate::config::{Acks, Callers, Cluster, Config, TopicAllowlist};
use crate::kafka::pool::{Pool, Slot};
use crate::kafka::producer::Producer;
use crate::kafka::record::Failure;
use crate::metrics::Metrics;
use crate::spool::{Lane, Outlet};

/// Where records can go.
pub(super) struct Routes {
    clusters: HashMap<String, Route>,
    /// That of a record that names none.
    default_cluster: Option<String>,
    pool: Pool,
}

impl Outlet for Routes {
    fn of(&self, lane: &Lane) -> Result<(Arc<Producer>, Arc<str>), String> {
        let Lane {
            cluster,
            producer,
            topic,
        } = lane;
        let route = self.clusters.get(cluster);
        let route = route.ok_or_else(|| format!("the sidecar has no cluster {cluster:?}"))?;
        if !route.produces {
            return Err(takes_no_records(cluster));
        }
        if route.callers.is_some() {
            return Err(format!(
                "cluster {cluster:?} is written with its callers' own tokens"
            ));
        }
        let slot = route.profiles.get(producer);
        let slot = slot.ok_or_else(|| format!("the sidecar has no producer {producer:?}"))?;
        let label = route.allowed.entry(topic);
        let label = label.ok_or_else(|| format!("topic {topic:?} is not in the cluster's allowed_topics"))?;
        Ok((Arc::clone(self.pool.get(slot)?), Arc::clone(label)))
    }
}

/// One cluster.
pub(super) struct Route {
    pub(super) name: String,
    /// Whether the cluster takes records at all.
    produces: bool,
    /// It is written with its callers' own tokens.
    pub(super) callers: Option<Callers>,
    pub(super) allowed: Allowed,
    profiles: HashMap<String, Slot>,
    /// What its clients are made of.
    current: watch::Sender<Arc<Cluster>>,
    /// The profiles whose producers are not told that a record is stored.
    pub(super) unacknowledged: Vec<String>,
}

/// A cluster's topic allowlist. What an entry's records are counted under is the entry itself.
pub(super) struct Allowed {
    exact: HashMap<String, Arc<str>>,
    prefixes: Vec<(String, Arc<str>)>,
}

impl Allowed {
    fn new(list: &TopicAllowlist) -> Self {
        let mut this = Self {
            exact: HashMap::new(),
            prefixes: Vec::new(),
        };
        for entry in &list.0 {
            match entry.strip_suffix('*') {
                Some(prefix) => this.prefixes.push((prefix.to_owned(), Arc::from(entry.as_str()))),
                None => drop(this.exact.insert(entry.clone(), Arc::from(entry.as_str()))),
            }
        }
        this
    }

    /// What a topic's records are counted under; none: it may not be written.
    pub(super) fn entry(&self, topic: &str) -> Option<&Arc<str>> {
        let of_prefix = || self.prefixes.iter().find(|(prefix, _)| topic.starts_with(prefix));
        self.exact
            .get(topic)
            .or_else(|| of_prefix().map(|(_, label)| label))
    }
}

/// The producer of a record.
pub(super) enum Picked<'a> {
    /// That of all records of its cluster and profile.
    Shared(&'a Arc<Producer>),
    /// That of its caller.
    Own(Arc<Producer>),
}

impl<'a> Picked<'a> {
    /// The one of all records.
    pub(super) fn shared(&self) -> Option<&'a Arc<Producer>> {
        match self {
            Self::Shared(producer) => Some(producer),
            Self::Own(_) => None,
        }
    }
}

impl Deref for Picked<'_> {
    type Target = Arc<Producer>;

    fn deref(&self) -> &Arc<Producer> {
        match self {
            Self::Shared(producer) => producer,
            Self::Own(producer) => producer,
        }
    }
}

fn takes_no_records(cluster: &str) -> String {
    format!("cluster {cluster:?} takes no records: its producer.enabled is false")
}

/// The profile of a record that names none.
const DEFAULT_PROFILE: &str = "default";

/// The profile that a record's `producer` stands for.
pub(super) fn profile_of(producer: &str) -> &str {
    if producer.is_empty() {
        DEFAULT_PROFILE
    } else {
        producer
    }
}

pub(super) fn not_allowed(topic: &str) -> Failure {
    let text = format!("topic {topic:?} is not in the cluster's allowed_topics");
    Failure::new(ErrorClass::TopicNotAllowed, text)
}

impl Routes {
    /// Those of `config`. The default profile's producer of each cluster is made at once.
    pub(super) fn new(config: &Config, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let profiles: BTreeMap<_, _> = config
            .producers
            .iter()
            .map(|(name, profile)| (name, Arc::new(profile.clone())))
            .collect();
        let unacknowledged = config
            .producers
            .iter()
            .filter(|(_, profile)| profile.acks == Some(Acks::None))
            .map(|(name, _)| name.clone());
        let unacknowledged: Vec<String> = unacknowledged.collect();
        let mut clusters = HashMap::new();
        for (name, cluster) in &config.clusters {
            let current = watch::Sender::new(Arc::new(cluster.clone()));
            let slot = |(profile_name, profile): (&&String, &Arc<_>)| {
                let slot = Slot::new((name, current.subscribe()), (profile_name, profile));
                ((*profile_name).clone(), slot)
            };
            let route = Route {
                name: name.clone(),
                produces: cluster.produces,
                callers: cluster.callers,
                unacknowledged: unacknowledged.clone(),
                allowed: Allowed::new(&cluster.allowed_topics),
                profiles: profiles.iter().map(slot).collect(),
                current,
            };
            clusters.insert(name.clone(), route);
        }
        let this = Self {
            clusters,
            default_cluster: config.default_cluster.clone(),
            pool: Pool::new(config.max_producers, Arc::clone(metrics)),
        };
        for (name, route) in &this.clusters {
            // A bound smaller than the number of clusters leaves some to their first record.
            if route.produces
                && route.callers.is_none()
                && this.pool.all().len() < config.max_producers
                && let Some(slot) = route.profiles.get(DEFAULT_PROFILE)
            {
                this.pool
                    .get(slot)
                    .map_err(|why| StartError::Producer(format!("clusters.{name}: {why}")))?;
            }
        }
        Ok(this)
    }

    /// The cluster of a record that names none.
    pub(super) fn default_cluster(&self) -> Option<&str> {
        self.default_cluster.as_deref()
    }

    /// Has the cluster's clients go over to other certificates and secrets. Whether they were others.
    pub(super) fn renew(&self, name: &str, to: Cluster) -> Result<bool, String> {
        let Some(route) = self.clusters.get(name) else {
            return Ok(false);
        };
        if route.current.borrow().connects_like(&to) {
            return Ok(false);
        }
        self.pool.renew(name, &route.current, to)?;
        Ok(true)
    }

    /// Every producer that there is.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where a record goes, if it is one that can go anywhere.
    pub(super) fn of_record(&self, record: &v1::Record) -> Result<(&Route, Picked<'_>), Failure> {
        let misconfigured = |text: String| Failure::new(ErrorClass::RouteMisconfigured, text);
        let invalid = |text: String| Failure::new(ErrorClass::InvalidRequest, text);
        let name = match (record.cluster.as_str(), &self.default_cluster) {
            ("", Some(default)) => default,
            ("", None) => {
                return Err(misconfigured(
                    "the record names no cluster, and there are several without a default_cluster".to_owned(),
                ));
            }
            (name, _) => name,
        };
        let route = self
            .clusters
            .get(name)
            .ok_or_else(|| misconfigured(format!("the sidecar has no cluster {name:?}")))?;
        if !route.produces {
            return Err(Failure::new(ErrorClass::NotAuthorised, takes_no_records(name)));
        }
        let profile = profile_of(&record.producer);
        let slot = route
            .profiles
            .get(profile)
            .ok_or_else(|| misconfigured(format!("the sidecar has no producer {profile:?}")))?;
        if record.topics.is_empty() {
            return Err(invalid("the record names no topic".to_owned()));
        }
        if let Some(partition) = record.partition.filter(|partition| *partition < 0) {
            return Err(invalid(format!("partition {partition} is negative")));
        }
        if let Some(timestamp) = record.timestamp_ms.filter(|timestamp| *timestamp < 1) {
            return Err(invalid(format!(
                "timestamp {timestamp} is not at least 1 ms after the epoch"
            )));
        }
        // librdkafka takes one, and gives it back cut off: to a consumer, and to us when a record must be sent again.
        if let Some(header) = record.headers.iter().find(|header| header.name.contains('\0')) {
            let name = &header.name;
            return Err(invalid(format!("the name of header {name:?} holds a zero byte")));
        }
        if let Some(bound) = route.callers {
            let producer = self.pool.of_caller(slot, bound, &record.bearer_token)?;
            return Ok((route, Picked::Own(producer)));
        }
        let producer = self.pool.get(slot).map_err(|why| {
            tracing::error!(cluster = name, profile, why, "no producer");
            misconfigured(why)
        })?;
        Ok((route, Picked::Shared(producer)))
    }
}

//! Who may read what.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use prometheus_client::metrics::gauge::Gauge;

use super::failure::{Failure, Kind};
use crate::config::{Config, Read};
use crate::kafka::reader::Reader;
use crate::listeners::auth;

/// The entries of `reads`, by cluster.
pub(super) struct Access {
    clusters: BTreeMap<String, Place>,
    default_cluster: Option<String>,
}

/// A cluster that may be read.
struct Place {
    /// Whether it is read at all: `consumer.enabled`.
    consumes: bool,
    reader: Arc<Reader>,
    entries: Vec<Arc<Read>>,
}

/// What a caller may read of one cluster.
pub(super) struct Granted<'a> {
    pub(super) reader: &'a Arc<Reader>,
    entries: &'a [Arc<Read>],
    headers: &'a HeaderMap,
    /// What the caller's credentials open, by the position of the entry.
    open: Vec<bool>,
}

impl Access {
    /// `tails` counts the partitions that are followed.
    pub(super) fn new(config: &Config, tails: &Gauge) -> Self {
        let mut entries: HashMap<&str, Vec<Arc<Read>>> = HashMap::new();
        for entry in &config.reads {
            entries
                .entry(&entry.cluster)
                .or_default()
                .push(Arc::new(entry.clone()));
        }
        let place = |(name, cluster): (&String, &crate::config::Cluster)| {
            let place = Place {
                consumes: cluster.consumes,
                reader: Arc::new(Reader::new(cluster, config.max_readers, tails.clone())),
                entries: entries.remove(name.as_str()).unwrap_or_default(),
            };
            (name.clone(), place)
        };
        Self {
            clusters: config.clusters.iter().map(place).collect(),
            default_cluster: config.default_cluster.clone(),
        }
    }

    /// What the request's credentials open of `cluster`, or of the default one.
    ///
    /// Fails if there is no such cluster, or it is not read.
    pub(super) fn grant<'a>(
        &'a self,
        cluster: Option<&str>,
        headers: &'a HeaderMap,
    ) -> Result<Granted<'a>, Failure> {
        let name = cluster.or(self.default_cluster.as_deref()).ok_or_else(|| {
            Failure::invalid(
                "the request names no cluster (cluster_name), and there are several without a default_cluster",
            )
        })?;
        let place = self.clusters.get(name);
        let place = place.ok_or_else(|| Failure::invalid(format!("the sidecar has no cluster {name:?}")))?;
        if !place.consumes {
            return Err(Failure::new(
                Kind::NotAllowed,
                format!("cluster {name:?} is not read: its consumer.enabled is false"),
            ));
        }
        let open = |entry: &Arc<Read>| entry.anonymous || auth::may(headers, &entry.tokens);
        Ok(Granted {
            reader: &place.reader,
            entries: &place.entries,
            headers,
            open: place.entries.iter().map(open).collect(),
        })
    }
}

impl<'a> Granted<'a> {
    /// The first entry that lets the caller read the topic.
    pub(super) fn entry(&self, topic: &str) -> Option<&'a Arc<Read>> {
        let open = self.entries.iter().zip(&self.open);
        open.filter(|(_, open)| **open)
            .map(|(entry, _)| entry)
            .find(|entry| entry.topics.allows(topic))
    }

    /// As [`Self::entry`]; who may not is told whether a token would help.
    pub(super) fn check(&self, topic: &str) -> Result<&'a Arc<Read>, Failure> {
        if let Some(entry) = self.entry(topic) {
            return Ok(entry);
        }
        let somebody_may = self.entries.iter().any(|entry| entry.topics.allows(topic));
        // A token that opens something else is good, and not enough.
        let known = self
            .entries
            .iter()
            .any(|entry| !entry.anonymous && auth::may(self.headers, &entry.tokens));
        if somebody_may && !known {
            let text = if self.headers.contains_key(AUTHORIZATION) {
                "the bearer token is none that is known"
            } else {
                "a bearer token is required"
            };
            return Err(Failure::new(Kind::NotAuthenticated, text));
        }
        Err(Failure::new(
            Kind::NotAllowed,
            format!("no entry of the sidecar's reads lets the caller read topic {topic:?}"),
        ))
    }

    /// Whether the caller may read anything.
    pub(super) fn anything(&self) -> Result<(), Failure> {
        if self.open.contains(&true) {
            return Ok(());
        }
        if self.entries.is_empty() {
            return Err(Failure::new(
                Kind::NotAllowed,
                "nothing of this cluster may be read",
            ));
        }
        Err(Failure::new(Kind::NotAuthenticated, "a bearer token is required"))
    }
}

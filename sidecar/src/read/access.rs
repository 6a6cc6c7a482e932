//! Who may read what.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use prometheus_client::metrics::gauge::Gauge;

use super::failure::{Failure, Kind};
use crate::config::{Cluster, Config, Read};
use crate::kafka::reader::Reader;
use crate::listeners::auth;

/// The entries of `reads`, by cluster.
pub(super) struct Access {
    clusters: BTreeMap<String, Place>,
    default_cluster: Option<String>,
    max_readers: usize,
    tails: Gauge,
}

/// A cluster that may be read.
struct Place {
    /// Whether it is read at all: `consumer.enabled`.
    consumes: bool,
    current: RwLock<Current>,
    entries: Vec<Arc<Read>>,
}

/// What requests are served with that come now.
#[derive(Clone)]
struct Current {
    reader: Arc<Reader>,
    /// What it was made of.
    cluster: Arc<Cluster>,
}

impl Place {
    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What a caller may read of one cluster.
pub(super) struct Granted<'a> {
    pub(super) reader: Arc<Reader>,
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
        let place = |(name, cluster): (&String, &Cluster)| {
            let place = Place {
                consumes: cluster.consumes,
                current: RwLock::new(Current {
                    reader: Arc::new(Reader::new(cluster, config.max_readers, tails.clone())),
                    cluster: Arc::new(cluster.clone()),
                }),
                entries: entries.remove(name.as_str()).unwrap_or_default(),
            };
            (name.clone(), place)
        };
        Self {
            clusters: config.clusters.iter().map(place).collect(),
            default_cluster: config.default_cluster.clone(),
            max_readers: config.max_readers,
            tails: tails.clone(),
        }
    }

    /// Has cluster `name` read with the certificates and secrets of `to` from now on. What is under way goes on with the
    /// clients that it has.
    ///
    /// Fails, and leaves it as it is, if the cluster cannot be reached with them and can be without.
    pub(super) async fn renew(&self, name: &str, to: &Cluster) -> Result<(), String> {
        let Some(place) = self.clusters.get(name) else {
            return Ok(());
        };
        let before = place.current();
        if before.cluster.connects_like(to) {
            return Ok(());
        }
        let reader = Arc::new(Reader::new(to, self.max_readers, self.tails.clone()));
        if place.consumes
            && !place.entries.is_empty()
            && let Err(why) = reader.topics().await
            && before.reader.topics().await.is_ok()
        {
            return Err(format!(
                "the cluster cannot be reached with them, and reading goes on with the old ones: {why}"
            ));
        }
        let mut current = place.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current {
            reader,
            cluster: Arc::new(to.clone()),
        };
        Ok(())
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
            reader: place.current().reader,
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

    /// The entries that let the caller write what they name, on a WebSocket.
    pub(super) fn publishing(&self) -> impl Iterator<Item = &'a Arc<Read>> {
        let open = self.entries.iter().zip(&self.open);
        open.filter(|(entry, open)| **open && entry.publish)
            .map(|(entry, _)| entry)
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

//! Who may read what.

mod granted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::gauge::Gauge;

pub(super) use self::granted::{Granted, Writable};
use super::choice::{self, Request};
use super::failure::{Failure, Kind};
use super::groups::Home;
use crate::config::{Cluster, Config, Read};
use crate::kafka::group::Committed;
use crate::kafka::reader::Reader;

/// The entries of `reads`, by cluster.
pub(super) struct Access {
    clusters: BTreeMap<String, Place>,
    default_cluster: Option<String>,
    max_readers: usize,
    tails: Gauge,
    arguments: BTreeSet<String>,
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
    /// Of its groups.
    kept: Arc<Committed>,
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
                    kept: Arc::new(Committed::new(cluster)),
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
            arguments: config
                .reads
                .iter()
                .flat_map(choice::arguments)
                .map(str::to_owned)
                .collect(),
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
            return Err(why.to_string());
        }
        let mut current = place.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current {
            reader,
            kept: Arc::new(Committed::new(to)),
            cluster: Arc::new(to.clone()),
        };
        Ok(())
    }

    /// What reads a cluster now.
    pub(super) fn reader(&self, cluster: &str) -> Result<Arc<Reader>, Failure> {
        let place = self.clusters.get(cluster);
        let place =
            place.ok_or_else(|| Failure::invalid(format!("the sidecar has no cluster {cluster:?}")))?;
        Ok(place.current().reader)
    }

    /// The query arguments that only some entry's choices know.
    pub(super) fn arguments(&self) -> &BTreeSet<String> {
        &self.arguments
    }

    /// What the request's credentials open of `cluster`, or of the default one. Waits for an issuer's keys if there are none
    /// yet.
    ///
    /// Fails if there is no such cluster, or it is not read.
    pub(super) async fn grant<'a>(
        &'a self,
        cluster: Option<&str>,
        request: &'a Request<'a>,
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
        let Current {
            reader,
            kept,
            cluster,
        } = place.current();
        let home = Home {
            name: name.to_owned(),
            cluster,
            kept,
        };
        Ok(Granted::of(reader, home, &place.entries, request).await)
    }
}

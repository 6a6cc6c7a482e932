//! The producers there are: one for each cluster and profile in use, and no more than a bound.

mod callers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

use self::callers::Callers;
use super::health::Health;
use super::producer::Producer;
use super::record::Failure;
use crate::config::{self, Cluster, Profile};
use crate::metrics::{Loads, Metrics};

/// A place for the producer of one cluster and one profile, made when it is first asked for.
pub struct Slot {
    cluster_name: String,
    cluster: watch::Receiver<Arc<Cluster>>,
    profile_name: String,
    profile: Arc<Profile>,
    producer: OnceLock<Arc<Producer>>,
}

impl Slot {
    /// A place without a producer yet. What `cluster` has when it is made counts.
    pub fn new(
        (cluster_name, cluster): (&str, watch::Receiver<Arc<Cluster>>),
        (profile_name, profile): (&str, &Arc<Profile>),
    ) -> Self {
        Self {
            cluster_name: cluster_name.to_owned(),
            cluster,
            profile_name: profile_name.to_owned(),
            profile: Arc::clone(profile),
            producer: OnceLock::new(),
        }
    }
}

/// Makes producers and keeps them.
pub struct Pool {
    max: usize,
    metrics: Arc<Metrics>,
    /// Producers are made on threads of others, too.
    runtime: Handle,
    made: Mutex<Vec<(String, Arc<Producer>)>>,
    callers: Arc<Callers>,
}

impl Pool {
    /// A pool of at most `max` producers. Must be called within a tokio runtime, which they run on.
    pub fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        let runtime = Handle::current();
        Self {
            max,
            callers: Callers::new(Arc::clone(&metrics), runtime.clone()),
            metrics,
            runtime,
            made: Mutex::default(),
        }
    }

    fn made(&self) -> MutexGuard<'_, Vec<(String, Arc<Producer>)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot's producer, made if there is none yet.
    ///
    /// # Errors
    /// When the bound is reached or librdkafka refuses the configuration; in words without secrets.
    pub fn get<'a>(&self, slot: &'a Slot) -> Result<&'a Arc<Producer>, String> {
        if let Some(producer) = slot.producer.get() {
            return Ok(producer);
        }
        let mut made = self.made();
        if let Some(producer) = slot.producer.get() {
            return Ok(producer);
        }
        if made.len() >= self.max {
            return Err(format!(
                "{} producers exist and max_producers allows no more: raise it, or use fewer combinations of \
                 cluster and profile",
                made.len()
            ));
        }
        let name = format!("{}/{}", slot.cluster_name, slot.profile_name);
        let metrics = self.metrics.producer(&slot.cluster_name, &slot.profile_name);
        let _entered = self.runtime.enter();
        let producer = Producer::start(name, &Arc::clone(&slot.cluster.borrow()), &slot.profile, metrics)?;
        let producer = slot.producer.get_or_init(|| Arc::new(producer));
        made.push((slot.cluster_name.clone(), Arc::clone(producer)));
        self.metrics
            .producers()
            .set(i64::try_from(made.len()).unwrap_or(i64::MAX));
        Ok(producer)
    }

    /// The producer of the caller who has `token`, in a slot whose cluster is written with callers' tokens.
    ///
    /// # Errors
    /// When the token cannot be one, or has expired; when as many callers have producers as may; when librdkafka refuses
    /// the configuration.
    pub fn of_caller(
        &self,
        slot: &Slot,
        bound: config::Callers,
        token: &str,
    ) -> Result<Arc<Producer>, Failure> {
        self.callers.get(slot, bound, token)
    }

    /// Tells `current`, and with it whoever looks at the cluster, that it has other certificates or secrets now, and has
    /// each of its producers go over to them.
    ///
    /// # Errors
    /// When a thread cannot be started for one.
    pub fn renew(
        &self,
        name: &str,
        current: &watch::Sender<Arc<Cluster>>,
        to: Cluster,
    ) -> Result<(), String> {
        let to = Arc::new(to);
        // With the lock, so that no producer is made of the old ones meanwhile and then forgotten.
        let made = self.made();
        current.send_replace(Arc::clone(&to));
        let mut own = made.iter().filter(|(cluster, _)| cluster == name);
        own.try_for_each(|(_, producer)| producer.renew(&to))?;
        self.callers.renew(name, &to)
    }

    /// By cluster, why one of its producers has not gone over yet.
    pub fn renewal_troubles(&self) -> BTreeMap<String, String> {
        let made = self.made();
        let told = made.iter();
        told.filter_map(|(cluster, producer)| Some((cluster.clone(), producer.renewal_trouble()?)))
            .collect()
    }

    /// Every producer.
    pub fn all(&self) -> Vec<Arc<Producer>> {
        self.made()
            .iter()
            .map(|(_, producer)| Arc::clone(producer))
            .chain(self.callers.all())
            .collect()
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let mut loads = Loads::default();
        for (_, producer) in self.made().iter() {
            producer.measure(&mut loads);
        }
        self.callers.measure(&mut loads);
        self.metrics.loads(loads);
    }

    /// What is known about each cluster that has a producer: the worst that one of its producers knows.
    pub fn health(&self) -> BTreeMap<String, Health> {
        let mut all: BTreeMap<String, Health> = BTreeMap::new();
        for (cluster, producer) in self.made().iter() {
            let health = producer.health();
            let known = all.entry(cluster.clone()).or_insert(Health::Up);
            match (&*known, &health) {
                (Health::Down(_), _) | (Health::Unknown, Health::Up | Health::Unknown) => {}
                _ => *known = health,
            }
        }
        all
    }
}

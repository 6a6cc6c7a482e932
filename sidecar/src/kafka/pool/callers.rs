//! Producers of callers who write with tokens of their own: one for each token, cluster and profile.
//!
//! There are only so many at once. One ends when its token has, or when nobody has used it for a while; what it has is
//! waited for first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use openssl::sha::sha256;
use sluice_proto::v1::ErrorClass;
use tokio::runtime::Handle;

use super::Slot;
use crate::config::{BearerToken, Callers as Bound, Cluster, Secret, TokenSource};
use crate::kafka::bearer;
use crate::kafka::producer::Producer;
use crate::kafka::record::Failure;
use crate::metrics::{CallerGauges, Loads, Metrics};

/// How long nobody may use one before it ends.
const IDLE: Duration = Duration::from_secs(60);
/// The same for one whose token the brokers do not take, and where another caller needs the place.
const SHORT_IDLE: Duration = Duration::from_secs(5);
/// How long what it has is waited for after its token has ended. librdkafka is told to shut down then.
const AFTER_END: Duration = Duration::from_secs(60);
/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A token is known by its digest only.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    cluster: String,
    profile: String,
    token: [u8; 32],
}

struct Caller {
    producer: Arc<Producer>,
    gauges: CallerGauges,
    token: Secret,
    used: Instant,
    ends: Option<SystemTime>,
}

/// See the module.
pub(super) struct Callers {
    metrics: Arc<Metrics>,
    runtime: Handle,
    made: Mutex<HashMap<Key, Caller>>,
    /// The clusters and profiles that had some.
    seen: Mutex<BTreeSet<(String, String)>>,
}

impl Callers {
    pub(super) fn new(metrics: Arc<Metrics>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            runtime,
            made: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    fn made(&self) -> MutexGuard<'_, HashMap<Key, Caller>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer of who has `token`; made if there is none yet.
    ///
    /// # Errors
    /// The token is missing, is none or has expired; there are `bound` already; or librdkafka refuses the configuration.
    pub(super) fn get(
        self: &Arc<Self>,
        slot: &Slot,
        bound: Bound,
        token: &str,
    ) -> Result<Arc<Producer>, Failure> {
        let cluster = &slot.cluster_name;
        let unknown = |text: String| Failure::new(ErrorClass::CallerNotAuthenticated, text);
        if token.is_empty() {
            return Err(unknown(format!(
                "cluster {cluster:?} is written with its callers' own bearer tokens, and the request has none"
            )));
        }
        let now = SystemTime::now();
        bearer::check(token, now).map_err(|why| unknown(format!("the caller's token: {why}")))?;
        let key = Key {
            cluster: cluster.clone(),
            profile: slot.profile_name.clone(),
            token: sha256(token.as_bytes()),
        };
        let mut made = self.made();
        if let Some(caller) = made.get_mut(&key) {
            caller.used = Instant::now();
            return Ok(Arc::clone(&caller.producer));
        }
        if of(&made, cluster).count() >= bound.max {
            self.make_room(&mut made, cluster).ok_or_else(|| {
                let text = format!(
                    "{} callers have clients at cluster {cluster:?}, all in use, and max_callers allows no more: raise \
                     it, or try again",
                    bound.max
                );
                Failure::new(ErrorClass::BufferFull, text)
            })?;
        }
        let secret = Secret::new(token);
        let to = with_token(&slot.cluster.borrow(), &secret);
        let (metrics, gauges) = self.metrics.caller(cluster, &slot.profile_name);
        let name = format!("{cluster}/{} of a caller", slot.profile_name);
        let _entered = self.runtime.enter();
        let producer = Producer::start(name, &to, &slot.profile, metrics).map_err(|why| {
            tracing::error!(cluster, why, "no producer for a caller");
            Failure::new(ErrorClass::RouteMisconfigured, why)
        })?;
        let producer = Arc::new(producer);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert((cluster.clone(), slot.profile_name.clone()));
        drop(seen);
        if made.is_empty() {
            self.runtime.spawn(look_after(Arc::downgrade(self)));
        }
        made.insert(
            key,
            Caller {
                producer: Arc::clone(&producer),
                gauges,
                token: secret,
                used: Instant::now(),
                ends: bearer::end(token),
            },
        );
        self.metrics.callers(cluster, of(&made, cluster).count());
        Ok(producer)
    }

    /// Ends the one that nobody has used for longest, if it has nothing to do.
    fn make_room(&self, made: &mut HashMap<Key, Caller>, cluster: &str) -> Option<()> {
        let now = Instant::now();
        let idle = of(made, cluster).filter(|(_, caller)| caller.is_idle(now, SHORT_IDLE));
        let (key, _) = idle.min_by_key(|(_, caller)| caller.used)?;
        let key = Key {
            cluster: key.cluster.clone(),
            profile: key.profile.clone(),
            token: key.token,
        };
        self.end(made.remove(&key)?);
        Some(())
    }

    /// Closes a producer, on a thread that may wait.
    fn end(&self, caller: Caller) {
        self.runtime.spawn_blocking(move || {
            let given_up = caller.producer.close();
            if given_up > 0 {
                tracing::error!(
                    records = given_up,
                    "records of a caller whose token has ended are given up"
                );
            }
        });
    }

    /// Ends those whose time is over. Whether there are others.
    fn look(&self) -> bool {
        let (now, time) = (Instant::now(), SystemTime::now());
        let mut made = self.made();
        let mut clusters: BTreeMap<String, usize> = BTreeMap::new();
        for (_, caller) in made.extract_if(|_, caller| caller.is_over(now, time)) {
            self.end(caller);
        }
        for key in made.keys() {
            *clusters.entry(key.cluster.clone()).or_default() += 1;
        }
        self.metrics.count_callers(&clusters);
        !made.is_empty()
    }

    /// Every producer.
    pub(super) fn all(&self) -> Vec<Arc<Producer>> {
        self.made()
            .values()
            .map(|caller| Arc::clone(&caller.producer))
            .collect()
    }

    /// Has those of a cluster go over to its new certificates.
    pub(super) fn renew(&self, name: &str, to: &Cluster) -> Result<(), String> {
        let made = self.made();
        let mut own = of(&made, name);
        own.try_for_each(|(_, caller)| caller.producer.renew(&with_token(to, &caller.token)))
    }

    /// Brings the gauges up to date: those of a cluster and profile are the sum of its callers'. Adds to `loads`.
    pub(super) fn measure(&self, loads: &mut Loads) {
        let made = self.made();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = seen
            .iter()
            .map(|(cluster, profile)| ((cluster.as_str(), profile.as_str()), [0; 3]));
        let mut sums: BTreeMap<(&str, &str), [i64; 3]> = nothing.collect();
        for (key, caller) in made.iter() {
            caller.producer.measure(loads);
            let sum = sums.entry((&key.cluster, &key.profile)).or_default();
            for (sum, one) in sum.iter_mut().zip(caller.gauges.values()) {
                *sum += one;
            }
        }
        self.metrics.measure_callers(&sums);
    }
}

fn of<'a>(made: &'a HashMap<Key, Caller>, cluster: &'a str) -> impl Iterator<Item = (&'a Key, &'a Caller)> {
    made.iter().filter(move |(key, _)| key.cluster == cluster)
}

fn with_token(cluster: &Cluster, token: &Secret) -> Cluster {
    Cluster {
        token: Some(BearerToken {
            source: TokenSource::Fixed(token.clone()),
            extensions: BTreeMap::new(),
        }),
        ..cluster.clone()
    }
}

impl Caller {
    fn is_idle(&self, now: Instant, time: Duration) -> bool {
        now.saturating_duration_since(self.used) >= time && self.producer.outstanding() == 0
    }

    fn is_over(&self, now: Instant, time: SystemTime) -> bool {
        let idle = if self.producer.is_refused() {
            SHORT_IDLE
        } else {
            IDLE
        };
        let ended = self.ends.and_then(|ends| time.duration_since(ends).ok());
        self.is_idle(now, idle) || ended.is_some_and(|since| self.is_idle(now, LOOK) || since >= AFTER_END)
    }
}

/// Looks at them until there are none, or they are dropped.
async fn look_after(callers: Weak<Callers>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(callers) = callers.upgrade() else { return };
        if !callers.look() {
            return;
        }
    }
}

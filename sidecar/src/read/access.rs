//! Who may read what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Map, Value};

use super::choice::{self, Request};
use super::failure::{Failure, Kind};
use super::filter::Filter;
use super::groups::Home;
use crate::auth::jwt::{Caller, Provider, Refusal};
use crate::config::{
    Choice, ChosenFrom, Cluster, Config, Read, ReadTopics, Said, TopicAllowlist, check_group,
};
use crate::kafka::group::Committed;
use crate::kafka::reader::Reader;
use crate::listeners::auth;

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

/// What a caller may read of one cluster.
pub(super) struct Granted<'a> {
    pub(super) reader: Arc<Reader>,
    /// Where its groups are.
    pub(super) home: Home,
    entries: &'a [Arc<Read>],
    request: &'a Request<'a>,
    /// What the caller's credentials open, by the position of the entry.
    open: Vec<Way>,
    /// Whether the caller has a token that is good for something here.
    known: bool,
    /// The caller's name, from the token.
    name: Option<String>,
    /// Why its token was not taken, and by what choices it would have to read other topics.
    refusals: Vec<Refusal>,
    not_chosen: Vec<Failure>,
}

/// What of an entry is open.
#[derive(Debug)]
struct Way {
    topics: Open,
    /// The token that opens it, if that is one which ends.
    caller: Option<Arc<Caller>>,
}

#[derive(Debug)]
enum Open {
    Nothing,
    /// All of it.
    Whole,
    /// These of its topics.
    Only(TopicAllowlist),
}

/// An entry that lets the caller write what it lets it read.
#[derive(Debug)]
pub(super) struct Writable {
    pub(super) entry: Arc<Read>,
    /// These of its topics; none: all of them.
    only: Option<TopicAllowlist>,
    /// How long the token is good for by which it is open, if that is one which ends.
    pub(super) left: Option<Duration>,
}

impl Writable {
    /// Whether the topic is one that it opens.
    pub(super) fn allows(&self, topic: &str) -> bool {
        match &self.only {
            None => self.entry.topics.allows(topic),
            Some(topics) => topics.allows(topic),
        }
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
            return Err(format!(
                "the cluster cannot be reached with them, and reading goes on with the old ones: {why}"
            ));
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
        let mut granted = Granted {
            reader,
            home: Home {
                name: name.to_owned(),
                cluster,
                kept,
            },
            entries: &place.entries,
            request,
            open: Vec::with_capacity(place.entries.len()),
            known: false,
            name: None,
            refusals: Vec::new(),
            not_chosen: Vec::new(),
        };
        let mut verified = Vec::new();
        for entry in &place.entries {
            let way = granted.way(entry, &mut verified).await;
            granted.open.push(way);
        }
        Ok(granted)
    }
}

/// A provider's name, and whose token it finds the request's to be.
type Verified = (String, Option<Arc<Caller>>);

impl<'a> Granted<'a> {
    /// What the request opens of `entry`. `verified` is what providers have said of its token.
    async fn way(&mut self, entry: &Read, verified: &mut Vec<Verified>) -> Way {
        let closed = Way {
            topics: Open::Nothing,
            caller: None,
        };
        let by_token = !entry.anonymous && auth::may(self.request.headers, &entry.tokens);
        self.known |= by_token;
        let mut caller = None;
        if !entry.anonymous && !by_token {
            let Some(bearers) = &entry.jwt else { return closed };
            match self.caller(&bearers.provider, verified).await {
                Some(found) if bearers.take(&found.claims) => caller = Some(found),
                _ => return closed,
            }
        }
        let claims = caller.as_ref().map(|caller| &caller.claims);
        let topics = match (&entry.topics, claims) {
            (ReadTopics::Names(_) | ReadTopics::Pattern(_), _) => Open::Whole,
            (ReadTopics::Claimed(topics), Some(claims)) => Open::Only(topics.fill(claims)),
            (ReadTopics::Claimed(topics), None) => Open::Only(topics.fixed.clone()),
            (ReadTopics::Chosen(choice), claims) => {
                match choice::chosen(choice, "topic", self.request, claims) {
                    Ok(topic) => Open::Only(TopicAllowlist(vec![topic.to_owned()])),
                    Err(failure) => {
                        self.not_chosen.push(failure);
                        Open::Nothing
                    }
                }
            }
        };
        Way { topics, caller }
    }

    /// Whose the request's token is, if it is one of `provider`'s.
    async fn caller(
        &mut self,
        provider: &Arc<Provider>,
        verified: &mut Vec<Verified>,
    ) -> Option<Arc<Caller>> {
        let name = &provider.settings().name;
        if let Some((_, known)) = verified.iter().find(|(known, _)| known == name) {
            return known.clone();
        }
        let token = auth::token(self.request.headers)?;
        let caller = if provider.is_named_by(token) {
            match provider.verify(token).await {
                Ok(caller) => {
                    self.known = true;
                    self.name = self.name.take().or_else(|| caller.name.clone());
                    Some(Arc::new(caller))
                }
                Err(refusal) => {
                    self.refusals.push(refusal);
                    None
                }
            }
        } else {
            None
        };
        verified.push((name.clone(), caller.clone()));
        caller
    }

    /// The entry that lets the caller read the topic, and how it is open.
    fn find(&self, topic: &str) -> Option<(&'a Arc<Read>, &Way)> {
        self.entries
            .iter()
            .zip(&self.open)
            .find(|(entry, way)| match &way.topics {
                Open::Nothing => false,
                Open::Whole => entry.topics.allows(topic),
                Open::Only(topics) => topics.allows(topic),
            })
    }

    /// The first entry that lets the caller read the topic.
    pub(super) fn entry(&self, topic: &str) -> Option<&'a Arc<Read>> {
        self.find(topic).map(|(entry, _)| entry)
    }

    /// The token by which the caller reads the topic, if it is one that ends.
    pub(super) fn caller_of(&self, topic: &str) -> Option<&Arc<Caller>> {
        self.find(topic).and_then(|(_, way)| way.caller.as_ref())
    }

    /// What an entry has the request choose: its value of `field`.
    pub(super) fn chosen<'c>(
        &self,
        choice: &'c Choice,
        field: &str,
        topic: &str,
    ) -> Result<&'c str, Failure> {
        choice::chosen(choice, field, self.request, self.claims(topic))
    }

    /// What the token says by which the caller reads the topic.
    fn claims(&self, topic: &str) -> Option<&Map<String, Value>> {
        self.caller_of(topic).map(|caller| &caller.claims)
    }

    /// What the caller may write, on a WebSocket.
    pub(super) fn writable(&self) -> impl Iterator<Item = Writable> {
        let open = self.entries.iter().zip(&self.open);
        open.filter(|(entry, _)| entry.publish)
            .filter_map(|(entry, way)| {
                let only = match &way.topics {
                    Open::Nothing => return None,
                    Open::Whole => None,
                    Open::Only(topics) => Some(topics.clone()),
                };
                Some(Writable {
                    entry: Arc::clone(entry),
                    only,
                    left: way.caller.as_ref().map(|caller| caller.left()),
                })
            })
    }

    /// The topic that the request chooses instead of naming it.
    pub(super) fn topic(&self) -> Result<Option<String>, Failure> {
        let open = self.entries.iter().zip(&self.open);
        let chosen = open.filter(|(entry, _)| matches!(entry.topics, ReadTopics::Chosen(_)));
        for (_, way) in chosen {
            if let Open::Only(topics) = &way.topics {
                return Ok(topics.0.first().cloned());
            }
        }
        self.not_chosen
            .first()
            .map_or(Ok(None), |failure| Err(failure.clone()))
    }

    /// As [`Self::entry`]; who may not is told whether a token would help.
    pub(super) fn check(&self, topic: &str) -> Result<&'a Arc<Read>, Failure> {
        if let Some(entry) = self.entry(topic) {
            return Ok(entry);
        }
        let closed = |(entry, way): (&Arc<Read>, &Way)| {
            matches!(way.topics, Open::Nothing) && entry.topics.allows(topic)
        };
        if !self.entries.iter().zip(&self.open).any(closed) {
            return Err(self.not_allowed(topic));
        }
        if let Some(failure) = self.not_chosen.first() {
            return Err(failure.clone());
        }
        // A token that opens something else is good, and not enough.
        if self.known {
            return Err(self.not_allowed(topic));
        }
        Err(self.not_authenticated())
    }

    fn not_allowed(&self, topic: &str) -> Failure {
        let who = self.name.as_deref().unwrap_or("the caller");
        let text = format!("no entry of the sidecar's reads lets {who} read topic {topic:?}");
        if self.known {
            Failure::not_enough(text)
        } else {
            Failure::new(Kind::NotAllowed, text)
        }
    }

    fn not_authenticated(&self) -> Failure {
        let keys = self.refusals.iter().find_map(|refusal| match refusal {
            Refusal::Keys(why) => Some(why.clone()),
            Refusal::Token(_) => None,
        });
        if let Some(why) = keys {
            return Failure::new(Kind::NoKeys, why);
        }
        if let Some(Refusal::Token(why)) = self.refusals.first() {
            return Failure::bad_token(why.clone());
        }
        if self.request.headers.contains_key(AUTHORIZATION) {
            Failure::bad_token("the bearer token is none that is known")
        } else {
            Failure::new(Kind::NotAuthenticated, "a bearer token is required")
        }
    }

    /// The group of a request that reads `topic`: the one that it names, or the one that the entry makes of it; none: it has
    /// none.
    pub(super) fn group(
        &self,
        entry: &Read,
        topic: &str,
        named: Option<&str>,
    ) -> Result<Option<Arc<str>>, Failure> {
        let groups = &entry.groups;
        let by_argument = |from: &ChosenFrom| *from == ChosenFrom::Query("group".to_owned());
        // An argument that is read as what the group is made of names nothing by itself.
        let named = named.filter(|_| !groups.said.as_ref().map(Said::from).is_some_and(by_argument));
        let made = match &groups.said {
            Some(_) if named.is_some() && !groups.is_fixed() => None,
            Some(Said::Listed(choice)) => Some(self.chosen(choice, "group", topic)?.to_owned()),
            Some(Said::Any(from)) => {
                let said = choice::any(from, "group", self.request, self.claims(topic))?;
                said.map(|said| format!("{}{said}", groups.prefix))
            }
            None => None,
        };
        let refused = |group: &str, may: &str| {
            Failure::new(
                Kind::GroupNotAllowed,
                format!(
                    "the entry of the sidecar's reads does not let the caller use group {group:?}; {may}"
                ),
            )
        };
        if groups.is_fixed()
            && let Some(named) = named
            && made.as_deref() != Some(named)
        {
            let from = groups.said.as_ref().map(|said| said.from().to_string());
            let from = from.unwrap_or_default();
            return Err(refused(named, &format!("{from} says which group a reader has")));
        }
        let Some(group) = made.or_else(|| named.map(str::to_owned)) else {
            return Ok(None);
        };
        check_group(&group).map_err(|why| Failure::invalid(format!("group {why}")))?;
        if !groups.allowed.allows(&group) {
            return Err(refused(&group, &format!("its groups are {}", groups.named())));
        }
        Ok(Some(Arc::from(group)))
    }

    /// What every record of `topic` goes through that the caller gets: the entry's filter, and the key that the request says.
    pub(super) fn forced(&self, entry: &Read, topic: &str) -> Result<Vec<Arc<Filter>>, Failure> {
        let key = match &entry.key {
            None => None,
            Some(Said::Listed(choice)) => Some(self.chosen(choice, "key", topic)?.to_owned()),
            Some(Said::Any(from)) => {
                let said = choice::any(from, "key", self.request, self.claims(topic))?;
                Some(said.ok_or_else(|| choice::missing("key", from))?)
            }
        };
        let key = key.map(|key| Arc::new(Filter::of_key(key)));
        Ok(entry.filter.iter().cloned().chain(key).collect())
    }

    /// Whether the caller may read anything.
    pub(super) fn anything(&self) -> Result<(), Failure> {
        if self.open.iter().any(|way| !matches!(way.topics, Open::Nothing)) {
            return Ok(());
        }
        if self.entries.is_empty() {
            return Err(Failure::new(
                Kind::NotAllowed,
                "nothing of this cluster may be read",
            ));
        }
        if let Some(failure) = self.not_chosen.first() {
            return Err(failure.clone());
        }
        if self.known {
            let who = self.name.as_deref().unwrap_or("the caller");
            return Err(Failure::not_enough(format!(
                "no entry of the sidecar's reads lets {who} read anything"
            )));
        }
        Err(self.not_authenticated())
    }
}

//! What there is altogether: the configuration's clusters and subscriptions, and those that were made by the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sluice_settings::{Problem, Problems, Section};

use super::item::{Deployment, Item, KafkaCluster, Kind, Subscription};
use super::services::Services;
use super::together;
use crate::config::{Cluster, Secret, cluster_of};
use crate::registry::Content;
use crate::subscriptions::running::Desired;
use crate::subscriptions::sink::Inline;
use crate::subscriptions::sink::egress::{Author, Egress, Place};
use crate::subscriptions::spec::{Scope, Sink, Spec};

/// What the configuration gives, which the API does not change.
pub(crate) struct Fixed {
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) subscriptions: BTreeMap<String, Arc<Spec>>,
    pub(crate) held_topic: String,
    pub(crate) egress: Arc<Egress>,
}

/// Something that was made by the API.
#[derive(Debug, Clone)]
pub(crate) struct Made<T, R> {
    /// Which version of it.
    pub(crate) version: u64,
    /// What was asked for.
    pub(crate) item: Arc<Item>,
    /// What it comes to now, or why to nothing.
    pub(crate) read: Result<R, Vec<Problem>>,
    kind: std::marker::PhantomData<T>,
}

/// A subscription that was made by the API.
pub(crate) type MadeSubscription = Made<Subscription, Arc<Spec>>;
/// A cluster that was made by the API.
pub(crate) type MadeCluster = Made<KafkaCluster, Cluster>;

/// A moment's state. It says the same in every sidecar that has the same configuration.
#[derive(Default)]
pub(crate) struct View {
    /// Whether what was made by the API is in it.
    pub(crate) known: bool,
    /// All clusters that can be used.
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) made_clusters: BTreeMap<String, MadeCluster>,
    pub(crate) subscriptions: BTreeMap<String, MadeSubscription>,
    pub(crate) deployments: BTreeMap<String, (u64, Arc<Item>)>,
    pub(crate) services: Services,
    /// Rows that this version of Sluice cannot read, and why.
    pub(crate) unreadable: BTreeMap<String, Arc<str>>,
}

impl Item {
    /// The subscription that it is.
    pub(crate) fn subscription(&self) -> Option<&Subscription> {
        match self {
            Self::Subscription(it) => Some(it),
            Self::KafkaCluster(_) | Self::Deployment(_) => None,
        }
    }

    /// The cluster that it is.
    pub(crate) fn cluster(&self) -> Option<&KafkaCluster> {
        match self {
            Self::KafkaCluster(it) => Some(it),
            Self::Subscription(_) | Self::Deployment(_) => None,
        }
    }

    /// The deployment that it is.
    pub(crate) fn deployment(&self) -> Option<&Deployment> {
        match self {
            Self::Deployment(it) => Some(it),
            Self::Subscription(_) | Self::KafkaCluster(_) => None,
        }
    }
}

impl KafkaCluster {
    /// The cluster that its properties make. Makes a client of librdkafka's, and blocks for it.
    pub(crate) fn read(&self) -> Result<Cluster, Vec<Problem>> {
        let properties = self.properties.iter();
        let given = properties.map(|(name, value)| (name.clone(), Secret::new(value.as_str())));
        cluster_of(&given.collect())
    }
}

impl Fixed {
    /// What the rows of a registry come to, which `list` gives. What is the same as in `before` is not read again: a cluster that is
    /// the same row, and a subscription that is, while clusters and services are the same. Blocks for the clusters.
    pub(crate) fn view(&self, list: Option<&List<'_>>, before: &View) -> View {
        let mut view = View {
            clusters: self.clusters.clone(),
            ..View::default()
        };
        let Some(list) = list else { return view };
        view.known = true;
        for (id, version, item) in rows(list, Kind::KafkaClusters, &mut view.unreadable) {
            let known = before
                .made_clusters
                .get(&id)
                .filter(|made| Arc::ptr_eq(&made.item, &item));
            let read = match (known, item.cluster()) {
                (Some(made), _) => made.read.clone(),
                (None, Some(cluster)) => cluster.read(),
                (None, None) => continue,
            };
            if let (Ok(cluster), false) = (&read, self.clusters.contains_key(&id)) {
                view.clusters.insert(id.clone(), cluster.clone());
            }
            view.made_clusters.insert(id, Made::new(version, item, read));
        }
        for (id, version, item) in rows(list, Kind::Deployments, &mut view.unreadable) {
            view.deployments.insert(id, (version, item));
        }
        view.services = view.services_without(None);
        let same = view.reads_as(before);
        for (id, version, item) in rows(list, Kind::Subscriptions, &mut view.unreadable) {
            let Some(subscription) = item.subscription() else {
                continue;
            };
            let known = before.subscriptions.get(&id);
            let read = match known.filter(|made| same && Arc::ptr_eq(&made.item, &item)) {
                Some(made) => made.read.clone(),
                None => self
                    .read(subscription, &view)
                    .and_then(|spec| {
                        let cluster = view.clusters.get(&spec.source.cluster);
                        let may = cluster.map_or(Ok(()), |cluster| spec.check_group(&id, cluster));
                        may.map(|()| spec).map_err(not_that_group)
                    })
                    .map(Arc::new),
            };
            view.subscriptions.insert(id, Made::new(version, item, read));
        }
        view
    }

    /// Reads a subscription of the API's by the rules of the configuration's, and by those that hold for the API only.
    pub(crate) fn read(&self, subscription: &Subscription, view: &View) -> Result<Spec, Vec<Problem>> {
        let problems = Problems::default();
        let tree = json!({
            "source": subscription.source,
            "sink": subscription.sink,
            "options": subscription.options,
        });
        if let Some(options) = tree.get("options") {
            foreign(options, "options", &problems);
        }
        let scope = Scope {
            clusters: &view.clusters,
            held_topic: &self.held_topic,
            secrets: &Inline(&problems),
        };
        let spec = Spec::read(Section::root(&tree, &problems), &[], scope);
        if let Some(spec) = &spec
            && let Err(why) = self.check_sink(&spec.sink, view)
        {
            problems.report("sink", why);
        }
        match spec {
            Some(spec) if problems.is_empty() => Ok(spec),
            _ => Err(problems.into_vec()),
        }
    }

    /// Whether somebody may have the sidecar call a sink by way of the API, so far as its name says.
    fn check_sink(&self, sink: &Sink, view: &View) -> Result<(), String> {
        match sink {
            Sink::Service { service, handler } => view.services.resolve(service, handler).map(drop),
            Sink::Url(url) => {
                let url = url::Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
                self.egress.check(&Place::of(&url)?, Author::Api)
            }
        }
    }

    /// What is to run.
    pub(crate) fn desired(&self, view: &View) -> Desired {
        let clusters = view.clusters.iter();
        let mut desired = Desired {
            clusters: clusters
                .map(|(name, cluster)| (name.clone(), Arc::new(cluster.clone())))
                .collect(),
            ..Desired::default()
        };
        for (id, made) in &view.subscriptions {
            if let Ok(spec) = &made.read {
                desired.subscriptions.insert(id.as_str().into(), Arc::clone(spec));
            }
        }
        // The configuration's own come last: nobody takes their place.
        for (id, spec) in &self.subscriptions {
            desired.subscriptions.insert(id.as_str().into(), Arc::clone(spec));
        }
        desired.called = together::called(&desired.subscriptions, view);
        desired
    }
}

impl<T, R> Made<T, R> {
    fn new(version: u64, item: Arc<Item>, read: Result<R, Vec<Problem>>) -> Self {
        Self {
            version,
            item,
            read,
            kind: std::marker::PhantomData,
        }
    }
}

impl View {
    /// Whether everything that a subscription is read by is the same as in another view of the same configuration.
    fn reads_as(&self, other: &Self) -> bool {
        let clusters = |view: &Self| view.made_clusters.len();
        let mut both = self.made_clusters.iter().zip(&other.made_clusters);
        self.known == other.known
            && clusters(self) == clusters(other)
            && both.all(|((a, one), (b, two))| a == b && Arc::ptr_eq(&one.item, &two.item))
            && self.services == other.services
    }

    /// The services that there would be without a deployment.
    pub(crate) fn services_without(&self, without: Option<&str>) -> Services {
        let there = self
            .deployments
            .iter()
            .filter(|(id, _)| without != Some(id.as_str()));
        Services::of(there.filter_map(|(id, (_, item))| Some((id.as_str(), item.deployment()?))))
    }

    /// The subscriptions (of the API's) whose source is on a cluster.
    pub(crate) fn of_cluster(&self, name: &str) -> Vec<&str> {
        let prefix = format!("kafka://{name}/");
        let all = self.subscriptions.iter();
        let there = all.filter(|(_, made)| {
            made.item
                .subscription()
                .is_some_and(|it| it.source.starts_with(&prefix))
        });
        there.map(|(id, _)| id.as_str()).collect()
    }

    /// Why subscriptions could not be delivered with these services, which can be with those there are.
    pub(crate) fn broken_by(&self, services: &Services) -> Vec<String> {
        let all = self.subscriptions.iter().filter_map(|(id, made)| {
            let Ok(spec) = &made.read else { return None };
            let Sink::Service { service, handler } = &spec.sink else {
                return None;
            };
            let before = self.services.resolve(service, handler).ok()?;
            match services.resolve(service, handler) {
                Ok(after) if after.kind == before.kind && after.mode == before.mode => None,
                Ok(_) => Some(format!("{id}: {service}/{handler} would be of another kind")),
                Err(why) => Some(format!("{id}: {why}")),
            }
        });
        all.collect()
    }
}

/// Gives the rows of a registry whose keys begin so.
pub(crate) type List<'a> = dyn Fn(&str) -> Vec<(Arc<str>, u64, Content<Item>)> + 'a;

/// Why a subscription is none that can run.
fn not_that_group(message: String) -> Vec<Problem> {
    let path = "options.group.id".to_owned();
    vec![Problem { path, message }]
}

type Rows = Vec<(String, u64, Arc<Item>)>;

fn rows(list: &List<'_>, kind: Kind, unreadable: &mut BTreeMap<String, Arc<str>>) -> Rows {
    let mut rows = Rows::new();
    for (key, version, content) in list(kind.prefix()) {
        let id = key.strip_prefix(kind.prefix()).unwrap_or_default().to_owned();
        match content {
            Content::Value(item) => rows.push((id, version, item)),
            Content::Unreadable(why) => {
                unreadable.insert(key.to_string(), *why);
            }
            Content::Deleted | Content::Closed => {}
        }
    }
    rows
}

/// Reports what would have the sidecar read its own files or environment for somebody else.
fn foreign(value: &Value, path: &str, problems: &Problems) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                if matches!(name.as_str(), "file" | "env") && value.is_string() {
                    problems.report(
                        path,
                        "is a file or a variable of the sidecar's, which is for its own configuration: give the value itself",
                    );
                } else {
                    foreign(value, &path, problems);
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                foreign(item, &format!("{path}[{i}]"), problems);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

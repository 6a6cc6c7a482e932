//! Which subscriptions are read together: those of a service's exclusive handlers, since one record of a key is with any of
//! them at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_settings::Problem;

use super::manifest::{Kind, Mode};
use super::services::Resolved;
use super::view::{Fixed, View};
use crate::config::{Cluster, Secret};
use crate::subscriptions::running::{Called, Together};
use crate::subscriptions::spec::{Ordering, Sink, Spec, Topics};

const GROUP: &str = "group.id";
/// What the group's id begins with that nobody gave: the service's name follows.
const OWN_GROUP: &str = "sluice-";

/// By id, how the handlers of services are called that subscriptions are for; or why they cannot be.
pub(super) fn called(
    subscriptions: &BTreeMap<Arc<str>, Arc<Spec>>,
    view: &View,
) -> BTreeMap<Arc<str>, Result<Called, String>> {
    let mut all = BTreeMap::new();
    let mut services: BTreeMap<&str, BTreeMap<Arc<str>, &Spec>> = BTreeMap::new();
    for (id, spec) in subscriptions {
        let Sink::Service { service, handler } = &spec.sink else {
            continue;
        };
        let resolved = view.services.resolve(service, handler).and_then(|resolved| {
            let cluster = view.clusters.get(&spec.source.cluster);
            let own = cluster.filter(|_| !is_exclusive(&resolved));
            let may = own.map_or(Ok(()), |cluster| {
                cluster.may_use_group(&spec.source.cluster, spec.group(id, cluster))
            });
            may.map(|()| resolved)
                .map_err(|why| format!("options.{GROUP}: {why}"))
        });
        if resolved.as_ref().is_ok_and(is_exclusive) {
            let members = services.entry(service).or_default();
            members.insert(Arc::clone(id), spec);
        }
        let called = resolved.map(|resolved| Called {
            keyed: resolved.kind != Kind::Service,
            once: resolved.mode == Mode::Workflow,
            uri: resolved.uri,
            raw: resolved.raw,
            together: None,
        });
        all.insert(Arc::clone(id), called);
    }
    for (service, members) in services {
        let together = together(service, &members, &view.clusters).map(Arc::new);
        for id in members.keys() {
            if let Some(called) = all.get_mut(id) {
                match (&together, called) {
                    (Ok(together), Ok(called)) => called.together = Some(Arc::clone(together)),
                    (Err(problem), called) => *called = Err(problem.to_string()),
                    (Ok(_), Err(_)) => {}
                }
            }
        }
    }
    all
}

fn is_exclusive(handler: &Resolved) -> bool {
    handler.kind != Kind::Service && handler.mode != Mode::Shared
}

/// All subscriptions that call a service one record of a key at a time, `spec` among them.
pub(super) fn members<'a>(
    fixed: &'a Fixed,
    view: &'a View,
    service: &str,
    (id, spec): (&str, &'a Spec),
) -> BTreeMap<Arc<str>, &'a Spec> {
    let mut all: BTreeMap<Arc<str>, &Spec> = BTreeMap::new();
    for (other, made) in &view.subscriptions {
        if let Ok(made) = &made.read {
            all.insert(other.as_str().into(), made);
        }
    }
    for (other, spec) in &fixed.subscriptions {
        all.insert(other.as_str().into(), spec);
    }
    all.retain(|_, other| exclusive(view, other) == Some(service));
    all.insert(id.into(), spec);
    all
}

/// The consumer group of a subscription; none where nobody can tell.
pub(super) fn group(fixed: &Fixed, view: &View, id: &str, spec: &Spec) -> Option<String> {
    match exclusive(view, spec) {
        Some(service) => {
            let members = members(fixed, view, service, (id, spec));
            Some(together(service, &members, &view.clusters).ok()?.group)
        }
        None => {
            let cluster = view.clusters.get(&spec.source.cluster)?;
            Some(spec.group(id, cluster).to_owned())
        }
    }
}

/// The service that a subscription calls one record of a key at a time.
pub(super) fn exclusive<'a>(view: &View, spec: &'a Spec) -> Option<&'a str> {
    let Sink::Service { service, handler } = &spec.sink else {
        return None;
    };
    let resolved = view.services.resolve(service, handler).ok()?;
    is_exclusive(&resolved).then_some(service.as_str())
}

/// What the subscriptions of a service's exclusive handlers are read by.
///
/// # Errors
/// What keeps them from being read together: the field, and why.
pub(super) fn together(
    service: &str,
    members: &BTreeMap<Arc<str>, &Spec>,
    clusters: &BTreeMap<String, Cluster>,
) -> Result<Together, Problem> {
    let refuse = |path: &str, message: String| Problem {
        path: path.to_owned(),
        message,
    };
    let mut topics = BTreeMap::new();
    let mut cluster: Option<(&Arc<str>, &String)> = None;
    let mut properties: BTreeMap<String, (&Arc<str>, String)> = BTreeMap::new();
    for (id, spec) in members {
        let own = &spec.source.cluster;
        let (first, of_first) = cluster.get_or_insert((id, own));
        if *of_first != own {
            return Err(refuse(
                "source",
                format!(
                    "{first} is on cluster {of_first}, and {id} on {own}: {service} handles one record of a key at a time, which \
                     holds within one cluster only"
                ),
            ));
        }
        let Topics::Names(names) = &spec.source.topics else {
            return Err(refuse(
                "source",
                format!(
                    "is a pattern ({id}): {service} handles one record of a key at a time, which only holds for topics that are \
                     named, since they must have as many partitions as each other"
                ),
            ));
        };
        if spec.ordering == Ordering::None {
            return Err(refuse(
                "options.ordering",
                format!(
                    "is none ({id}), and {service} handles the records of a key in their order: key or partition can be given"
                ),
            ));
        }
        topics.insert(Arc::clone(id), names.clone());
        for (name, value) in &spec.properties {
            if let Some((other, theirs)) = properties.get(name) {
                if theirs != value {
                    return Err(refuse(
                        &format!("options.{name}"),
                        format!(
                            "is {theirs:?} of {other} and {value:?} of {id}: the subscriptions of {service} are read by one \
                             consumer, since it handles one record of a key at a time; give all the same, or one of them only"
                        ),
                    ));
                }
            } else {
                properties.insert(name.clone(), (id, value.clone()));
            }
        }
    }
    let cluster = cluster.map(|(_, name)| name.clone()).unwrap_or_default();
    let properties: BTreeMap<String, String> = properties
        .into_iter()
        .map(|(name, (_, value))| (name, value))
        .collect();
    let of_cluster = || {
        let properties = &clusters.get(&cluster)?.properties;
        properties.get(GROUP).map(Secret::expose).map(str::to_owned)
    };
    let group = properties.get(GROUP).cloned().or_else(of_cluster);
    let group = group.unwrap_or_else(|| format!("{OWN_GROUP}{service}"));
    if let Some(known) = clusters.get(&cluster) {
        let may = known.may_use_group(&cluster, &group);
        may.map_err(|why| refuse(&format!("options.{GROUP}"), why))?;
    }
    Ok(Together {
        service: service.to_owned(),
        group,
        cluster,
        members: topics,
        properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriptions::spec::Source;
    use crate::subscriptions::spec::tests::spec;

    fn of(topic: &str, properties: &[(&str, &str)]) -> Spec {
        let mut spec = spec();
        spec.source = Source {
            cluster: "main".to_owned(),
            topics: Topics::Names(vec![topic.to_owned()]),
        };
        spec.properties = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        spec
    }

    fn read(specs: &[(&str, &Spec)]) -> Result<Together, Problem> {
        let members = specs.iter().map(|(id, spec)| (Arc::from(*id), *spec)).collect();
        together(
            "Cart",
            &members,
            &BTreeMap::from([("main".to_owned(), Cluster::default())]),
        )
    }

    #[test]
    fn what_one_of_them_sets_holds_for_all_and_may_not_differ() {
        let (a, b) = (of("a", &[]), of("b", &[]));
        let found = read(&[("one", &a), ("two", &b)]).unwrap();
        assert_eq!(
            (found.group.as_str(), found.topics()),
            ("sluice-Cart", vec!["a".to_owned(), "b".to_owned()])
        );

        let a = of("a", &[("group.id", "mine")]);
        let found = read(&[("one", &a), ("two", &b)]).unwrap();
        assert_eq!(found.group, "mine");
        assert_eq!(found.properties, a.properties);

        let b = of("b", &[("group.id", "other")]);
        let problem = read(&[("one", &a), ("two", &b)]).unwrap_err();
        assert_eq!(problem.path, "options.group.id");
        assert!(
            problem.message.contains("\"mine\" of one and \"other\" of two"),
            "{problem}"
        );
    }

    #[test]
    fn their_group_is_one_that_the_cluster_allows() {
        let rule = Cluster {
            groups: Some(crate::config::TopicAllowlist(vec!["ORG.*".to_owned()])),
            ..Cluster::default()
        };
        let clusters = BTreeMap::from([("main".to_owned(), rule)]);
        let of = |properties: &[(&str, &str)]| {
            let spec = of("a", properties);
            let members = BTreeMap::from([(Arc::from("one"), &spec)]);
            together("Cart", &members, &clusters).map(|together| together.group)
        };
        assert_eq!(of(&[("group.id", "ORG.cart")]), Ok("ORG.cart".to_owned()));
        let problem = of(&[]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "options.group.id: group \"sluice-Cart\" is none of those that clusters.main.consumer.groups allows: ORG.*"
        );
    }

    #[test]
    fn what_cannot_be_read_together_is_refused() {
        let a = of("a", &[]);
        let mut b = of("b", &[]);
        b.source.cluster = "second".to_owned();
        let problem = read(&[("one", &a), ("two", &b)]).unwrap_err();
        assert!(
            problem
                .message
                .contains("one is on cluster main, and two on second"),
            "{problem}"
        );
        let mut b = of("b", &[]);
        b.ordering = Ordering::None;
        assert_eq!(
            read(&[("one", &a), ("two", &b)]).unwrap_err().path,
            "options.ordering"
        );
        let mut b = of("b", &[]);
        b.source.topics = Topics::Pattern("b.*".to_owned(), regex::Regex::new("b.*").unwrap());
        assert_eq!(read(&[("one", &a), ("two", &b)]).unwrap_err().path, "source");
    }
}

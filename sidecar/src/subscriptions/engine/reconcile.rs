//! What has to be done so that what runs is what should run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Cluster;
use crate::subscriptions::running::{Called, Desired};
use crate::subscriptions::spec::Spec;

/// What a subscription runs with.
#[derive(Debug, Clone)]
pub(super) struct With {
    /// What it is.
    pub(super) spec: Arc<Spec>,
    /// Its source's cluster.
    pub(super) cluster: Arc<Cluster>,
    /// How the service's handler is called, where its sink is one.
    pub(super) called: Option<Called>,
}

impl With {
    /// Its consumer group.
    pub(super) fn group<'a>(&'a self, id: &'a str) -> &'a str {
        let together = self.called.as_ref().and_then(|called| called.together.as_ref());
        match together {
            Some(together) => &together.group,
            None => self.spec.group(id, &self.cluster),
        }
    }

    /// Whether a task that runs with this need not be told of `other`.
    fn is(&self, other: &Self) -> bool {
        let same_spec = Arc::ptr_eq(&self.spec, &other.spec) || self.spec == other.spec;
        same_spec && same(&self.cluster, &other.cluster) && self.called == other.called
    }
}

/// Whether a client of one cluster's is one of the other's too.
pub(super) fn same(one: &Arc<Cluster>, other: &Arc<Cluster>) -> bool {
    let alike = || one.connects_like(other) && one.bootstrap_servers == other.bootstrap_servers;
    Arc::ptr_eq(one, other) || alike()
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Start one that does not run.
    Start(Arc<str>, With),
    /// End one in good order, and start it with something else.
    Replace(Arc<str>, With),
    /// End one in good order.
    Stop(Arc<str>),
    /// It cannot run, for a reason: end it if it runs.
    Refuse(Arc<str>, String),
}

/// Compares what should run with what runs. Each id has one action at most, and carrying them out leaves nothing to do.
pub(super) fn reconcile(desired: &Desired, running: &BTreeMap<Arc<str>, With>) -> Vec<Action> {
    let mut actions = Vec::new();
    for id in running.keys() {
        if !desired.subscriptions.contains_key(id) {
            actions.push(Action::Stop(Arc::clone(id)));
        }
    }
    for (id, spec) in &desired.subscriptions {
        let Some(cluster) = desired.clusters.get(&spec.source.cluster) else {
            let why = format!("no cluster is named {:?}", spec.source.cluster);
            actions.push(Action::Refuse(Arc::clone(id), why));
            continue;
        };
        let called = match desired.called.get(id) {
            None => None,
            Some(Ok(called)) => Some(called.clone()),
            Some(Err(why)) => {
                actions.push(Action::Refuse(Arc::clone(id), why.clone()));
                continue;
            }
        };
        let with = With {
            spec: Arc::clone(spec),
            cluster: Arc::clone(cluster),
            called,
        };
        match running.get(id) {
            None => actions.push(Action::Start(Arc::clone(id), with)),
            Some(now) if !now.is(&with) => actions.push(Action::Replace(Arc::clone(id), with)),
            Some(_) => {}
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Secret;
    use crate::subscriptions::spec::tests::spec;

    fn cluster(version: u8) -> Arc<Cluster> {
        let mut cluster = Cluster::default();
        cluster
            .properties
            .insert("client.id".to_owned(), Secret::new(version.to_string()));
        Arc::new(cluster)
    }

    fn with(limit: u8, version: u8) -> With {
        let mut spec = spec();
        spec.concurrency = usize::from(limit) + 1;
        With {
            spec: Arc::new(spec),
            cluster: cluster(version),
            called: None,
        }
    }

    fn carry_out(actions: Vec<Action>, running: &mut BTreeMap<Arc<str>, With>) {
        for action in actions {
            match action {
                Action::Start(id, with) => assert!(running.insert(id, with).is_none()),
                Action::Replace(id, with) => assert!(running.insert(id, with).is_some()),
                Action::Stop(id) => assert!(running.remove(&id).is_some()),
                Action::Refuse(id, _) => drop(running.remove(&id)),
            }
        }
    }

    #[test]
    fn a_service_that_moved_has_its_subscriptions_started_again() {
        let id: Arc<str> = Arc::from("a");
        let at = |uri: &str| Called {
            uri: uri.to_owned(),
            raw: false,
            keyed: true,
            once: false,
            together: None,
        };
        let one = With {
            called: Some(at("http://old")),
            ..with(0, 0)
        };
        let mut desired = Desired {
            subscriptions: BTreeMap::from([(Arc::clone(&id), Arc::clone(&one.spec))]),
            clusters: BTreeMap::from([("main".to_owned(), Arc::clone(&one.cluster))]),
            called: BTreeMap::from([(Arc::clone(&id), Ok(at("http://old")))]),
        };
        let running = BTreeMap::from([(Arc::clone(&id), one)]);
        assert!(reconcile(&desired, &running).is_empty());
        desired.called.insert(Arc::clone(&id), Ok(at("http://new")));
        assert!(
            matches!(reconcile(&desired, &running).as_slice(), [Action::Replace(_, with)] if with.called == Some(at("http://new")))
        );
        desired.called.insert(id, Err("no service".to_owned()));
        assert!(
            matches!(reconcile(&desired, &running).as_slice(), [Action::Refuse(_, why)] if why == "no service")
        );
    }

    proptest! {
        #[test]
        fn one_round_is_enough_and_what_is_the_same_is_left_alone(
            before in prop::collection::btree_map(0_u8..6, (0_u8..2, 0_u8..2), 0..6),
            after in prop::collection::btree_map(0_u8..6, 0_u8..2, 0..6),
            there in any::<bool>(), version in 0_u8..2,
        ) {
            let id = |n: &u8| Arc::<str>::from(n.to_string());
            let mut running: BTreeMap<Arc<str>, With> =
                before.iter().map(|(n, (limit, version))| (id(n), with(*limit, *version))).collect();
            let desired = Desired {
                subscriptions: after.iter().map(|(n, limit)| (id(n), with(*limit, 0).spec)).collect(),
                clusters: there.then(|| ("main".to_owned(), cluster(version))).into_iter().collect(),
                called: BTreeMap::new(),
            };
            let actions = reconcile(&desired, &running);
            for action in &actions {
                if let Action::Replace(id, new) = action {
                    let old = &running[id];
                    prop_assert!(old.spec.concurrency != new.spec.concurrency || !old.cluster.connects_like(&new.cluster));
                }
            }
            carry_out(actions, &mut running);
            let expected: Vec<Arc<str>> = if there { desired.subscriptions.keys().cloned().collect() } else { Vec::new() };
            prop_assert_eq!(running.keys().cloned().collect::<Vec<_>>(), expected);
            let again = reconcile(&desired, &running);
            prop_assert!(again.iter().all(|action| matches!(action, Action::Refuse(..)) && !there));
        }
    }
}

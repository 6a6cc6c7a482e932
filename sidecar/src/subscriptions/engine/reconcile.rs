//! What has to be done so that what runs is what should run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Cluster;
use crate::subscriptions::running::Desired;
use crate::subscriptions::spec::Spec;

/// What a subscription runs with.
#[derive(Debug, Clone)]
pub(super) struct With {
    /// What it is.
    pub(super) spec: Arc<Spec>,
    /// Its source's cluster.
    pub(super) cluster: Arc<Cluster>,
}

impl With {
    /// Whether a task that runs with this need not be told of `other`.
    fn is(&self, other: &Self) -> bool {
        let same_spec = Arc::ptr_eq(&self.spec, &other.spec) || self.spec.alike(&other.spec);
        let same_cluster = Arc::ptr_eq(&self.cluster, &other.cluster)
            || (self.cluster.connects_like(&other.cluster)
                && self.cluster.bootstrap_servers == other.cluster.bootstrap_servers);
        same_spec && same_cluster
    }
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
        let with = With {
            spec: Arc::clone(spec),
            cluster: Arc::clone(cluster),
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

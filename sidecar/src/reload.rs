//! Files that clusters name, certificates and secrets, and those of the secrets of templates and of organisations' payloads, are
//! looked at every now and then; those that have changed take effect without a restart. Of the configuration itself that is so
//! for `secrets` and `orgs.<id>.secrets` alone.
//!
//! They are read, not watched: a file may be replaced by a rename, a Kubernetes mount by a link that points elsewhere, and
//! a network file system tells nobody. What is read is checked as it is at the start. As long as something is wrong with
//! it, the old stays in use, and the files are read again each time: a certificate and its key do not change at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_settings::Problem;
use tokio::runtime::Handle;

use crate::actions::Actions;
use crate::config::{Cluster, Config, Source};
use crate::control::Control;
use crate::metrics::{Metrics, Reload};
use crate::produce::Gateway;
use crate::read::Reads;

/// What is wrong with files that have changed.
#[derive(Default)]
pub struct Status {
    clusters: Mutex<BTreeMap<String, String>>,
    secrets: Mutex<BTreeMap<String, String>>,
    config: Mutex<Option<String>>,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_config(&self) -> MutexGuard<'_, Option<String>> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_secrets(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By cluster, what is wrong with its files.
    pub fn bad_files(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    /// What is wrong with the configuration as it stands now.
    pub fn bad_config(&self) -> Option<String> {
        self.lock_config().clone()
    }

    /// By secret of templates, what is wrong with it.
    pub fn bad_secrets(&self) -> BTreeMap<String, String> {
        self.lock_secrets().clone()
    }
}

/// Looks at the files.
pub struct Watcher {
    source: Source,
    interval: Duration,
    runtime: Handle,
    gateway: Arc<Gateway>,
    reads: Arc<Reads>,
    control: Arc<Control>,
    actions: Option<Arc<Actions>>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
}

impl Watcher {
    /// One for the files of `config`, which those that write, those that read, subscriptions and actions are told of; what is
    /// wrong with them is kept in `status`.
    pub fn new(
        config: &Config,
        (gateway, reads, control): (Arc<Gateway>, Arc<Reads>, Arc<Control>),
        actions: Option<Arc<Actions>>,
        metrics: Arc<Metrics>,
        status: Arc<Status>,
    ) -> Self {
        for (name, cluster) in &config.clusters {
            metrics.certificates(name, cluster.expiry);
        }
        Self {
            source: config.source.clone(),
            interval: config.reload_interval,
            runtime: Handle::current(),
            gateway,
            reads,
            control,
            actions,
            metrics,
            status,
        }
    }

    /// Looks until it is dropped; not at all where the configuration is from no file, and names none.
    pub async fn run(self) {
        let this = Arc::new(self);
        // What was read at the start may be out of date already: the first look reads everything.
        let mut settled = None;
        loop {
            tokio::time::sleep(this.interval).await;
            let looking = Arc::clone(&this);
            let before = settled.take();
            // Disks may be slow.
            let looked = tokio::task::spawn_blocking(move || {
                let digests = looking.source.digests();
                if digests.is_empty() {
                    return None;
                }
                let changed = before.as_ref() != Some(&digests);
                // Both, whatever is wrong with one.
                let good = !changed || (looking.read() & looking.read_secrets());
                Some(good.then_some(digests))
            });
            match looked.await {
                Ok(Some(now)) => settled = now,
                Ok(None) => return,
                Err(error) => tracing::error!(%error, "looking at the files failed"),
            }
        }
    }

    /// Reads the clusters again, and has those that are others now go over. Whether nothing was wrong with any.
    fn read(&self) -> bool {
        let mut good = true;
        for (name, read) in self.source.clusters() {
            let done = match read {
                Ok(cluster) => self.apply(&name, cluster),
                Err(problems) => Err((Reload::BadFiles, told(&problems))),
            };
            let mut status = self.status.lock();
            match done {
                Ok(()) => {
                    if status.remove(&name).is_some() {
                        tracing::info!(cluster = name, "nothing is wrong with the changed files any more");
                    }
                }
                Err((result, why)) => {
                    good = false;
                    if status.get(&name) != Some(&why) {
                        tracing::error!(
                            cluster = name,
                            why,
                            "the changed files are not used: the old ones stay in use, and they are read again"
                        );
                        self.metrics.reloaded(&name, result);
                        status.insert(name, why);
                    }
                }
            }
        }
        good
    }

    /// Reads the secrets again, and takes those of templates away that are there no more. Whether nothing was wrong with any.
    fn read_secrets(&self) -> bool {
        let mut good = true;
        let metrics = self.metrics.templates();
        let read = match self.source.secrets() {
            Ok(read) => read,
            Err(problems) => {
                let why = told(&problems);
                let mut status = self.status.lock_config();
                if status.as_ref() != Some(&why) {
                    tracing::error!(
                        why,
                        "the changed configuration is not looked at for secrets: those that there were stay, and it is read again"
                    );
                    *status = Some(why);
                }
                return false;
            }
        };
        if self.status.lock_config().take().is_some() {
            tracing::info!("nothing is wrong with the changed configuration any more");
        }
        for name in self
            .gateway
            .take_secrets_away(|name| read.templates.contains_key(name))
        {
            tracing::info!(
                secret = name,
                "it is in the configuration no more: no record has it from now on"
            );
            metrics.reloaded(&name, true);
        }
        let of_org = |id: &str| format!("orgs.{id}");
        let known = |name: &String| {
            read.templates.contains_key(name) || read.orgs.keys().any(|id| of_org(id) == *name)
        };
        self.status.lock_secrets().retain(|name, _| known(name));
        for (name, read) in read.templates {
            let used = read.map(|secret| self.gateway.renew_secret(&name, secret));
            good &= self.tell_secret(name, used);
        }
        if let Some(actions) = &self.actions {
            for (id, read) in read.orgs {
                let used = read.map(|secrets| actions.renew_secrets(&id, secrets));
                good &= self.tell_secret(of_org(&id), used);
            }
        }
        good
    }

    /// Tells what became of a secret: whether it is another now, or what is wrong with it. Whether nothing is.
    fn tell_secret(&self, name: String, used: Result<bool, Vec<Problem>>) -> bool {
        let metrics = self.metrics.templates();
        let mut status = self.status.lock_secrets();
        match used {
            Ok(changed) => {
                if changed {
                    tracing::info!(secret = name, "it has changed: records use it as it is now");
                    metrics.reloaded(&name, true);
                }
                if status.remove(&name).is_some() {
                    tracing::info!(secret = name, "nothing is wrong with it any more");
                }
                true
            }
            Err(problems) => {
                let why = told(&problems);
                if status.get(&name) != Some(&why) {
                    tracing::error!(
                        secret = name,
                        why,
                        "it has changed, and is not used: an old one stays in use, and it is read again"
                    );
                    metrics.reloaded(&name, false);
                    status.insert(name, why);
                }
                false
            }
        }
    }

    /// Blocks while the cluster is asked whether it takes the new ones.
    fn apply(&self, name: &str, cluster: Cluster) -> Result<(), (Reload, String)> {
        let expiry = cluster.expiry;
        let renewed = self.gateway.renew(name, cluster.clone());
        if renewed.map_err(|why| (Reload::NotAccepted, why))? {
            tracing::info!(cluster = name, "files have changed: going over to them");
            self.metrics.certificates(name, expiry);
        }
        // Each of them, whatever becomes of another.
        let (read, kept, acted) = self.runtime.block_on(async {
            let actions = async {
                match &self.actions {
                    Some(actions) => actions.renew(name, &cluster).await,
                    None => Ok(()),
                }
            };
            tokio::join!(
                self.reads.renew(name, &cluster),
                self.control.renew(name, &cluster),
                actions,
            )
        });
        let stays = |what: &'static str| {
            move |why| format!("the cluster cannot be reached with them, and {what} with the old ones: {why}")
        };
        read.map_err(stays("reading goes on"))
            .and(kept.map_err(stays("clusters and subscriptions of the API go on")))
            .and(acted.map_err(stays("actions go on")))
            .map_err(|why| (Reload::NotAccepted, why))
    }
}

fn told(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

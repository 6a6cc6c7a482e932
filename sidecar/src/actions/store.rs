//! Where organisations' things are: the registry, and what is looked for in it all the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::item::{Action, Entity, Item, LogLine, Run, Trigger};
use crate::json_api::Error;
use crate::kafka::log::Log;
use crate::metrics::StateMetrics;
use crate::registry::{Content, Observer, Phase, Registry, Row};

/// How many rows are looked at in one go, while others wait.
const AT_ONCE: usize = 2_000;

/// The rows of all organisations.
pub(super) struct Store {
    registry: Arc<Registry<Item>>,
    index: Arc<Index>,
}

/// A row of a kind, and which version of it.
#[derive(Debug, Clone)]
pub(super) struct Held<T> {
    pub(super) version: u64,
    pub(super) value: T,
}

/// Keys of rows. Names are checked before they come here, and have no slash.
pub(super) mod key {
    pub(in super::super) fn actions(org: &str) -> String {
        format!("{org}/actions/")
    }

    pub(in super::super) fn action(org: &str, id: &str) -> String {
        format!("{org}/actions/{id}")
    }

    pub(in super::super) fn runs(org: &str) -> String {
        format!("{org}/runs/")
    }

    pub(in super::super) fn run(org: &str, id: &str) -> String {
        format!("{org}/runs/{id}")
    }

    pub(in super::super) fn entities(org: &str, blueprint: &str) -> String {
        format!("{org}/entities/{blueprint}/")
    }

    pub(in super::super) fn entity(org: &str, blueprint: &str, id: &str) -> String {
        format!("{org}/entities/{blueprint}/{id}")
    }

    pub(in super::super) fn lines(org: &str, run: &str) -> String {
        format!("{org}/logs/{run}/")
    }

    /// Eight digits, so that the keys' order is the lines'.
    pub(in super::super) fn line(org: &str, run: &str, number: usize) -> String {
        format!("{org}/logs/{run}/{number:08}")
    }

    /// The organisation, the kind, and the rest.
    pub(in super::super) fn parts(key: &str) -> Option<(&str, &str, &str)> {
        let (org, rest) = key.split_once('/')?;
        let (kind, rest) = rest.split_once('/')?;
        Some((org, kind, rest))
    }
}

/// What is looked for in the rows all the time.
struct Index {
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Runs that go on, and when they have taken too long.
    open: BTreeMap<Arc<str>, Option<i64>>,
    /// Rows of which others have still to be told.
    unfinished: BTreeSet<Arc<str>>,
    automations: BTreeMap<Arc<str>, Arc<Item>>,
    /// Who waits for a row to change, by its key.
    watchers: HashMap<String, Arc<Notify>>,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn note(&mut self, key: &Arc<str>, content: &Content<Item>) {
        let item = match content {
            Content::Value(item) => Some(item),
            Content::Deleted | Content::Closed | Content::Unreadable(_) => None,
        };
        match item.map(|item| (&**item, item)) {
            Some((Item::Run(run), _)) if !run.status.has_ended() => {
                self.open.insert(Arc::clone(key), run.deadline_ms);
            }
            Some((Item::Action(action), item)) if matches!(action.trigger, Trigger::Automation { .. }) => {
                self.automations.insert(Arc::clone(key), Arc::clone(item));
            }
            _ => {
                self.open.remove(key);
                self.automations.remove(key);
            }
        }
        if item.is_some_and(|item| item.is_unfinished()) {
            self.unfinished.insert(Arc::clone(key));
        } else {
            self.unfinished.remove(key);
        }
    }
}

impl Observer<Item> for Index {
    fn begin(&self, rows: &mut dyn Iterator<Item = (&Arc<str>, u64, &Content<Item>)>) {
        let mut found = self.lock();
        let watchers = std::mem::take(&mut found.watchers);
        *found = Found::default();
        for (key, _, content) in rows {
            found.note(key, content);
        }
        for notify in watchers.values() {
            notify.notify_waiters();
        }
        found.watchers = watchers;
    }

    fn changed(&self, key: &Arc<str>, _version: u64, content: &Content<Item>) {
        let mut found = self.lock();
        found.note(key, content);
        if let Some(notify) = found.watchers.get(&**key) {
            notify.notify_waiters();
        }
        // Lines of a log wake who waits for the log.
        if let Some((lines, _)) = key.rsplit_once('/')
            && let Some(notify) = found.watchers.get(lines)
        {
            notify.notify_waiters();
        }
    }
}

/// Waits for a row, or the rows of a log, to change; it is forgotten when it is dropped.
pub(super) struct Watch {
    index: Arc<Index>,
    key: String,
    notify: Arc<Notify>,
}

impl Watch {
    /// Told at the next change from when this was called, if it is then waited for.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + '_ {
        let mut waiting = Box::pin(self.notify.notified());
        // From now on, and not only when it is first polled.
        waiting.as_mut().enable();
        waiting
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut found = self.index.lock();
        // Ours, and the index's.
        if Arc::strong_count(&self.notify) <= 2 {
            found.watchers.remove(&self.key);
        }
    }
}

impl Store {
    /// The rows of a log.
    pub(super) fn new(log: Log, metrics: StateMetrics) -> Self {
        let index = Arc::new(Index {
            found: Mutex::default(),
        });
        let observer = Arc::clone(&index) as Arc<dyn Observer<Item>>;
        let registry = Registry::observed(log, metrics, observer);
        Self { registry, index }
    }

    /// Reads and follows the rows for as long as it is polled.
    pub(super) async fn run(&self) {
        Arc::clone(&self.registry).run().await;
    }

    /// Fails until all rows are known.
    pub(super) fn known(&self) -> Result<(), Error> {
        match self.registry.phase() {
            Phase::Ready => Ok(()),
            Phase::Starting => Err(Error::Unavailable("the state is still being read".to_owned())),
            Phase::Away(why) => Err(Error::Unavailable(why)),
        }
    }

    /// Has this sidecar know what another wrote a moment ago.
    pub(super) async fn catch_up(&self) -> Result<(), Error> {
        Ok(self.registry.catch_up().await?)
    }

    pub(super) fn watch(&self, key: String) -> Watch {
        let mut found = self.index.lock();
        let notify = Arc::clone(found.watchers.entry(key.clone()).or_default());
        Watch {
            index: Arc::clone(&self.index),
            key,
            notify,
        }
    }

    pub(super) fn item(&self, key: &str) -> Option<Held<Arc<Item>>> {
        let row = self.registry.get(key)?;
        Some(Held {
            version: row.version,
            value: row.value,
        })
    }

    pub(super) fn run_of(&self, org: &str, id: &str) -> Option<Held<Run>> {
        let row = self.item(&key::run(org, id))?;
        match &*row.value {
            Item::Run(run) => Some(Held {
                version: row.version,
                value: Run::clone(run),
            }),
            _ => None,
        }
    }

    /// An entity that is there, or one that is being deleted.
    pub(super) fn entity(&self, org: &str, blueprint: &str, id: &str) -> Option<Held<Entity>> {
        let row = self.item(&key::entity(org, blueprint, id))?;
        match &*row.value {
            Item::Entity(entity) => Some(Held {
                version: row.version,
                value: entity.clone(),
            }),
            _ => None,
        }
    }

    pub(super) fn action(&self, org: &str, id: &str) -> Option<Held<Action>> {
        let row = self.item(&key::action(org, id))?;
        match &*row.value {
            Item::Action(action) => Some(Held {
                version: row.version,
                value: action.clone(),
            }),
            _ => None,
        }
    }

    /// The lines of a run's log from number `from` on, `most` of them.
    pub(super) fn lines(&self, org: &str, run: &str, from: usize, most: usize) -> Vec<LogLine> {
        let prefix = key::lines(org, run);
        let after = from.checked_sub(1).map(|before| key::line(org, run, before));
        let (rows, _) = self.registry.some(&prefix, after.as_deref(), false, most);
        let line = |row: Row<Item>| match &*row.value {
            Item::Log(line) => Some(line.clone()),
            _ => None,
        };
        rows.into_iter().filter_map(line).collect()
    }

    /// The number that the next line of a run's log has.
    pub(super) fn next_line(&self, org: &str, run: &str) -> usize {
        let prefix = key::lines(org, run);
        let (rows, _) = self.registry.some(&prefix, None, true, 1);
        let last = rows
            .first()
            .and_then(|row| row.key.rsplit_once('/')?.1.parse::<usize>().ok());
        last.map_or(0, |last| last + 1)
    }

    /// Rows of one kind, as [`Registry::some`] gives them, that `keep` keeps: `most` of them, and where to go on.
    pub(super) fn page(
        &self,
        prefix: &str,
        mut from: Option<Arc<str>>,
        back: bool,
        most: usize,
        keep: impl Fn(&str, &Item) -> bool,
    ) -> (Vec<Row<Item>>, Option<Arc<str>>) {
        let mut found = Vec::new();
        loop {
            let (rows, next) = self.registry.some(prefix, from.as_deref(), back, AT_ONCE);
            for row in rows {
                if !keep(row.key.strip_prefix(prefix).unwrap_or_default(), &row.value) {
                    continue;
                }
                if found.len() == most {
                    let last: Option<&Row<Item>> = found.last();
                    let last = last.map(|row| Arc::clone(&row.key));
                    return (found, last);
                }
                found.push(row);
            }
            match next {
                Some(next) => from = Some(next),
                None => return (found, None),
            }
        }
    }

    /// The runs that go on, by their keys, and when they have taken too long.
    pub(super) fn open(&self) -> Vec<(Arc<str>, Option<i64>)> {
        let found = self.index.lock();
        found
            .open
            .iter()
            .map(|(key, at)| (Arc::clone(key), *at))
            .collect()
    }

    /// The rows of which others have still to be told.
    pub(super) fn unfinished(&self) -> Vec<Arc<str>> {
        self.index.lock().unfinished.iter().cloned().collect()
    }

    /// The automations that an organisation has made by the API.
    pub(super) fn automations(&self, org: &str) -> Vec<Arc<Item>> {
        let prefix = key::actions(org);
        let found = self.index.lock();
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let all = found.automations.range::<str, _>(from);
        all.take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, item)| Arc::clone(item))
            .collect()
    }

    /// Puts a row where version `base` of it is, and gives the new version.
    pub(super) async fn put(&self, key: &str, base: u64, item: &Item) -> Result<u64, Error> {
        Ok(self.registry.put(key, base, item).await?)
    }

    pub(super) async fn delete(&self, key: &str, base: u64) -> Result<(), Error> {
        Ok(self.registry.delete(key, base).await?)
    }

    /// Waits until all rows are known.
    pub(super) async fn ready(&self) {
        let mut changes = self.registry.changes();
        while self.registry.phase() != Phase::Ready {
            if changes.changed().await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

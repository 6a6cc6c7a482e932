//! Where organisations' things are: the registry, and what is looked for in it all the time.

mod index;

use std::sync::Arc;
use std::time::Duration;

use self::index::Index;
pub(super) use self::index::Watch;
use super::item::{Action, Entity, Head, Item, LogLine, Packed, Run, Settings};
use super::runs::id_at;
use crate::config::Cluster;
use crate::json_api::Error;
use crate::kafka::log::Log;
use crate::metrics::StateMetrics;
use crate::registry::{Observer, Phase, Registry, Row, Versioned};

/// How many rows are looked at in one go, while others wait.
const AT_ONCE: usize = 2_000;

/// The rows of all organisations.
pub(super) struct Store {
    registry: Arc<Registry<Packed>>,
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

    pub(in super::super) fn settings(org: &str) -> String {
        format!("{org}/settings/organization")
    }

    /// The organisation, the kind, and the rest.
    pub(in super::super) fn parts(key: &str) -> Option<(&str, &str, &str)> {
        let (org, rest) = key.split_once('/')?;
        let (kind, rest) = rest.split_once('/')?;
        Some((org, kind, rest))
    }
}

/// Some rows, and after which to go on, if there may be more.
pub(super) type Page = (Vec<Row<Packed>>, Option<Arc<str>>);

/// Among which rows of a kind some are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Among {
    /// All of them.
    All,
    /// Runs that go on.
    Open,
}

impl Store {
    /// The rows of a log.
    pub(super) fn new(log: Log, metrics: StateMetrics) -> Self {
        let index = Arc::new(Index::default());
        let observer = Arc::clone(&index) as Arc<dyn Observer<Packed>>;
        let registry = Registry::observed(log, metrics, observer);
        Self { registry, index }
    }

    /// Reads and follows the rows for as long as it is polled.
    pub(super) async fn run(&self) {
        Arc::clone(&self.registry).run().await;
    }

    /// Goes over to the certificates and secrets of `cluster`, which is the topic's.
    ///
    /// # Errors
    /// The cluster cannot be reached with them, and can be with the old ones, which stay in use.
    pub(super) async fn renew(&self, cluster: &Cluster) -> Result<(), String> {
        self.registry.renew(cluster).await
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

    /// Waits for a row, or the rows of a log, to change.
    pub(super) fn watch(&self, key: String) -> Watch {
        self.index.watch(key)
    }

    /// A row as it is kept.
    pub(super) fn row(&self, key: &str) -> Option<Held<Arc<Packed>>> {
        let Versioned { version, value } = self.registry.get(key)?;
        Some(Held { version, value })
    }

    fn parsed<T>(&self, key: &str, parse: impl FnOnce(&Packed) -> Option<T>) -> Option<Held<T>> {
        let row = self.row(key)?;
        Some(Held {
            version: row.version,
            value: parse(&row.value)?,
        })
    }

    pub(super) fn item(&self, key: &str) -> Option<Held<Item>> {
        self.parsed(key, Packed::item)
    }

    pub(super) fn run_of(&self, org: &str, id: &str) -> Option<Held<Run>> {
        self.parsed(&key::run(org, id), Packed::run)
    }

    /// An entity that is there, or one that is being deleted.
    pub(super) fn entity(&self, org: &str, blueprint: &str, id: &str) -> Option<Held<Entity>> {
        self.parsed(&key::entity(org, blueprint, id), Packed::entity)
    }

    /// What programs have set of an organisation.
    pub(super) fn settings(&self, org: &str) -> Option<Held<Settings>> {
        self.parsed(&key::settings(org), Packed::settings)
    }

    pub(super) fn action(&self, org: &str, id: &str) -> Option<Held<Action>> {
        self.parsed(&key::action(org, id), Packed::action)
    }

    /// The lines of a run's log from number `from` on, `most` of them.
    pub(super) fn lines(&self, org: &str, run: &str, from: usize, most: usize) -> Vec<LogLine> {
        let prefix = key::lines(org, run);
        let after = from.checked_sub(1).map(|before| key::line(org, run, before));
        let (rows, _) = self
            .registry
            .some(&prefix, after.as_deref(), false, most, |_, _| true);
        rows.iter().filter_map(|row| row.value.line()).collect()
    }

    /// The number that the next line of a run's log has.
    pub(super) fn next_line(&self, org: &str, run: &str) -> usize {
        let prefix = key::lines(org, run);
        let (rows, _) = self.registry.some(&prefix, None, true, 1, |_, _| true);
        let last = rows
            .first()
            .and_then(|row| row.key.rsplit_once('/')?.1.parse::<usize>().ok());
        last.map_or(0, |last| last + 1)
    }

    /// Rows of one kind, in the order of [`Registry::some`], that `keep` keeps: `most` of them, and where to go on. `keep` is asked
    /// under the registry's lock.
    pub(super) async fn page(
        &self,
        among: Among,
        prefix: &str,
        mut from: Option<Arc<str>>,
        back: bool,
        most: usize,
        keep: impl Fn(&str, &Packed) -> bool,
    ) -> Page {
        let keep = |key: &str, row: &Packed| keep(key.strip_prefix(prefix).unwrap_or_default(), row);
        let mut found: Vec<Row<Packed>> = Vec::new();
        // Where all are kept, that is enough.
        let mut at_once = most.saturating_add(1);
        loop {
            let (rows, next) = match among {
                Among::All => self.registry.some(prefix, from.as_deref(), back, at_once, keep),
                Among::Open => self.some_open(prefix, from.as_deref(), back, at_once, keep),
            };
            for row in rows {
                if found.len() == most {
                    let last = found.last().map(|row| Arc::clone(&row.key));
                    return (found, last);
                }
                found.push(row);
            }
            match next {
                Some(next) => from = Some(next),
                None => return (found, None),
            }
            at_once = AT_ONCE;
            tokio::task::yield_now().await;
        }
    }

    fn some_open(
        &self,
        prefix: &str,
        from: Option<&str>,
        back: bool,
        most: usize,
        keep: impl Fn(&str, &Packed) -> bool,
    ) -> Page {
        let (keys, next) = self.index.look(|found| found.open(prefix, from, back, most));
        let there = |key: Arc<str>| {
            let Versioned { version, value } = self.registry.get(&key)?;
            keep(&key, &value).then_some(Row { key, version, value })
        };
        (keys.into_iter().filter_map(there).collect(), next)
    }

    /// Some of an organisation's runs that ended before `until_ms`, of which nobody has anything to be told, after run `from`, the
    /// oldest first, and where to go on, if there may be more.
    ///
    /// A run's id begins with when it was started, and none has ended before that: later ones are not looked at. (Whoever ends a run
    /// may have a clock that is behind that of who started it; so much later it is found.)
    pub(super) fn ended_before(&self, org: &str, until_ms: i64, from: Option<&str>) -> Page {
        let bound = key::run(org, &id_at(until_ms));
        let keep = |key: &str, row: &Packed| match row.head() {
            Head::Run(run) => {
                key < bound.as_str()
                    && run.ended_ms.is_some_and(|ended| ended < until_ms)
                    && !row.is_unfinished()
            }
            _ => false,
        };
        let (rows, next) = self.registry.some(&key::runs(org), from, false, AT_ONCE, keep);
        (rows, next.filter(|next| **next < *bound))
    }

    /// An organisation's runs that go on.
    pub(super) fn open(&self, org: &str) -> Vec<Arc<str>> {
        self.index
            .look(|found| found.open(&key::runs(org), None, false, usize::MAX).0)
    }

    /// The runs that have taken too long at `now_ms`.
    pub(super) fn overdue(&self, now_ms: i64) -> Vec<Arc<str>> {
        self.index.look(|found| found.overdue(now_ms))
    }

    /// The rows of which others have still to be told.
    pub(super) fn unfinished(&self) -> Vec<Arc<str>> {
        self.index.look(index::Found::unfinished)
    }

    /// The automations that an organisation has made by the API.
    pub(super) fn automations(&self, org: &str) -> Vec<Arc<Action>> {
        self.index.look(|found| found.automations(&key::actions(org)))
    }

    /// Puts a row where version `base` of it is, and gives the new version.
    pub(super) async fn put(&self, key: &str, base: u64, item: &Item) -> Result<u64, Error> {
        let row = Packed::new(item);
        let row = row.map_err(|error| Error::Unreadable(format!("it cannot be kept: {error}")))?;
        Ok(self.registry.put(key, base, &row).await?)
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

#[cfg(test)]
mod tests;

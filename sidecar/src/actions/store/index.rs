//! What is looked for in the rows all the time, beside the registry: it is told of every change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::actions::item::{Action, Head, Packed};
use crate::registry::{Content, Observer};

#[derive(Default)]
pub(super) struct Index {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    found: Found,
    /// Who waits for a row to change, by its key.
    watchers: HashMap<String, Arc<Notify>>,
}

/// What the rows come to. It is the same whether they are told of one by one or all at once.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Runs that go on, and when they have taken too long.
    open: BTreeMap<Arc<str>, Option<i64>>,
    /// The same, those that have soonest taken too long first.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    /// Rows of which others have still to be told.
    unfinished: BTreeSet<Arc<str>>,
    automations: BTreeMap<Arc<str>, Arc<Action>>,
}

impl Found {
    /// A row holds something else now.
    pub(super) fn note(&mut self, key: &Arc<str>, content: &Content<Packed>) {
        if let Some(Some(deadline)) = self.open.remove(key) {
            self.deadlines.remove(&(deadline, Arc::clone(key)));
        }
        self.automations.remove(key);
        self.unfinished.remove(key);
        let Content::Value(row) = content else { return };
        match row.head() {
            Head::Run(run) if !run.status.has_ended() => {
                self.open.insert(Arc::clone(key), run.deadline_ms);
                if let Some(deadline) = run.deadline_ms {
                    self.deadlines.insert((deadline, Arc::clone(key)));
                }
            }
            Head::Automation => {
                if let Some(action) = row.action() {
                    self.automations.insert(Arc::clone(key), Arc::new(action));
                }
            }
            Head::Run(_) | Head::SelfService | Head::Entity { .. } | Head::Log | Head::Settings => {}
        }
        if row.is_unfinished() {
            self.unfinished.insert(Arc::clone(key));
        }
    }

    /// The runs that have taken too long at `now_ms`.
    pub(super) fn overdue(&self, now_ms: i64) -> Vec<Arc<str>> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now_ms);
        due.map(|(_, key)| Arc::clone(key)).collect()
    }

    /// At most `most` runs that go on and whose keys begin with `prefix`, as [`crate::registry::Registry::some`] has them, and
    /// where to go on, if there may be more.
    pub(super) fn open(
        &self,
        prefix: &str,
        from: Option<&str>,
        back: bool,
        most: usize,
    ) -> (Vec<Arc<str>>, Option<Arc<str>>) {
        // What comes after all keys that begin so: no character is between a slash and a zero.
        let end = format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix));
        let range = match (back, from) {
            (false, from) => (from.map_or(Included(prefix), Excluded), Excluded(end.as_str())),
            (true, from) => (Included(prefix), Excluded(from.unwrap_or(&end))),
        };
        let keys = self.open.range::<str, _>(range).map(|(key, _)| Arc::clone(key));
        let mut found: Vec<_> = match back {
            false => keys.take(most.saturating_add(1)).collect(),
            true => keys.rev().take(most.saturating_add(1)).collect(),
        };
        let more = found.len() > most;
        found.truncate(most);
        let last = found.last().filter(|_| more).map(Arc::clone);
        (found, last)
    }

    pub(super) fn unfinished(&self) -> Vec<Arc<str>> {
        self.unfinished.iter().cloned().collect()
    }

    pub(super) fn automations(&self, prefix: &str) -> Vec<Arc<Action>> {
        let all = self.automations.range::<str, _>((Included(prefix), Unbounded));
        all.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, action)| Arc::clone(action))
            .collect()
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what the rows come to. The registry must not be asked meanwhile: it tells the index under its own lock.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Found) -> T) -> T {
        at(&self.lock().found)
    }

    /// Waits for the row of that key, or the rows of that log, to change.
    pub(super) fn watch(self: &Arc<Self>, key: String) -> Watch {
        let mut state = self.lock();
        let notify = Arc::clone(state.watchers.entry(key.clone()).or_default());
        Watch {
            index: Arc::clone(self),
            key,
            notify,
        }
    }
}

impl Observer<Packed> for Index {
    fn begin(&self, rows: &mut dyn Iterator<Item = (&Arc<str>, u64, &Content<Packed>)>) {
        let mut state = self.lock();
        state.found = Found::default();
        for (key, _, content) in rows {
            state.found.note(key, content);
        }
        for notify in state.watchers.values() {
            notify.notify_waiters();
        }
    }

    fn changed(&self, key: &Arc<str>, _version: u64, content: &Content<Packed>) {
        let mut state = self.lock();
        state.found.note(key, content);
        if let Some(notify) = state.watchers.get(&**key) {
            notify.notify_waiters();
        }
        // Lines of a log wake who waits for the log.
        if let Some((lines, _)) = key.rsplit_once('/')
            && let Some(notify) = state.watchers.get(lines)
        {
            notify.notify_waiters();
        }
    }
}

/// Waits for a row, or the rows of a log, to change; it is forgotten when it is dropped.
pub(crate) struct Watch {
    index: Arc<Index>,
    key: String,
    notify: Arc<Notify>,
}

impl Watch {
    /// Told at the next change from when this was called, if it is then waited for.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + '_ {
        let mut waiting = Box::pin(self.notify.notified());
        // From now on, and not only when it is first polled.
        waiting.as_mut().enable();
        waiting
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.index.lock();
        // Ours, and the index's.
        if Arc::strong_count(&self.notify) <= 2 {
            state.watchers.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;

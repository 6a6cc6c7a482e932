//! Which workflows were started: `run` is called for one event of a key, however often that is delivered, and every other event of
//! the key is skipped for as long as that is known.
//!
//! What is known is in the held topic, one record for each key: written before the handler is called for the first time, so that a
//! second event cannot start what a first one may have started. The event that started a workflow is in it: it may come again, after
//! a kill or to be tried again. Whoever takes a partition over reads what is known of it before anything of it is delivered.
//!
//! It is bounded by time (`workflow_retention`) and in number; what has had its time is removed, here and in the topic.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;

/// The most that is known of one partition.
const MOST: usize = 1_000_000;
/// What the keys of the topic's records begin with. No event's id does: there is no slash in them.
const PREFIX: &str = "run:";

/// What is known of a workflow.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Note {
    /// The event that started it.
    #[prost(string, tag = "1")]
    pub(super) event: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub(super) started_ms: i64,
    /// Until when it is known.
    #[prost(int64, tag = "3")]
    pub(super) until_ms: i64,
}

/// Whether an event may start a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum May {
    /// It is to be noted first.
    Start,
    /// It has started it, and may go again.
    Again,
    /// Another one has started it.
    Not,
    /// Nobody can tell yet.
    Wait(String),
}

/// What is known of a service's workflows in this sidecar, by partition.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<HashMap<i32, Partition>>);

#[derive(Debug, Default)]
struct Partition {
    /// Subscriptions that have it.
    users: usize,
    known: HashMap<Bytes, Known>,
    by_time: BTreeSet<(i64, Bytes)>,
}

#[derive(Debug)]
struct Known {
    event: Box<str>,
    until_ms: i64,
    /// It has had its time, and is being removed.
    leaving: bool,
}

impl Partition {
    fn put(&mut self, key: Bytes, note: &Note) {
        let known = Known {
            event: note.event.as_str().into(),
            until_ms: note.until_ms,
            leaving: false,
        };
        if let Some(before) = self.known.insert(key.clone(), known) {
            self.by_time.remove(&(before.until_ms, key.clone()));
        }
        self.by_time.insert((note.until_ms, key));
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(before) = self.known.remove(key) {
            self.by_time.remove(&(before.until_ms, key.clone()));
        }
    }
}

impl Runs {
    fn all(&self) -> MutexGuard<'_, HashMap<i32, Partition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscription has a partition.
    pub(super) fn enter(&self, partition: i32) {
        self.all().entry(partition).or_default().users += 1;
    }

    /// It has it no more. Once nobody has, nothing is known of it.
    pub(super) fn leave(&self, partition: i32) {
        let mut all = self.all();
        if let Some(one) = all.get_mut(&partition) {
            one.users = one.users.saturating_sub(1);
            if one.users == 0 {
                all.remove(&partition);
            }
        }
    }

    /// What was found of a partition that somebody has.
    pub(super) fn found(&self, partition: i32, notes: Vec<(Bytes, Note)>) {
        if let Some(one) = self.all().get_mut(&partition) {
            for (key, note) in notes {
                one.put(key, &note);
            }
        }
    }

    /// Whether an event may start the workflow of a key. Only who has the key to itself may ask.
    pub(super) fn may(&self, partition: i32, key: &Bytes, event: &str, now_ms: i64) -> May {
        let all = self.all();
        let Some(one) = all.get(&partition) else {
            return May::Wait("its partition is not here".to_owned());
        };
        match one.known.get(key) {
            Some(known) if known.leaving => {
                May::Wait("what is known of its workflow is being removed".to_owned())
            }
            Some(known) if *known.event == *event => May::Again,
            Some(known) if known.until_ms > now_ms => May::Not,
            // Its time is over.
            Some(_) => May::Start,
            None if one.known.len() >= MOST => May::Wait(format!(
                "{MOST} workflows of partition {partition} are known to have been started, and no more can be: lower \
                 workflow_retention"
            )),
            None => May::Start,
        }
    }

    /// A workflow is started, which is noted in the topic.
    pub(super) fn started(&self, partition: i32, key: &Bytes, note: &Note) {
        if let Some(one) = self.all().get_mut(&partition) {
            one.put(key.clone(), note);
        }
    }

    /// A workflow was not started after all, or what was known of it has had its time: the topic does not have it any more.
    pub(super) fn forget(&self, partition: i32, key: &Bytes) {
        if let Some(one) = self.all().get_mut(&partition) {
            one.remove(key);
        }
    }

    /// Workflows of which nothing need be known any more, `most` at most: they are to be removed from the topic, and to be
    /// forgotten then. Each is given once.
    pub(super) fn over(&self, now_ms: i64, most: usize) -> Vec<(i32, Bytes)> {
        let mut over = Vec::new();
        for (partition, one) in &mut *self.all() {
            while over.len() < most
                && let Some((until, key)) = one.by_time.first().cloned()
                && until <= now_ms
            {
                one.by_time.pop_first();
                if let Some(known) = one.known.get_mut(&key) {
                    known.leaving = true;
                    over.push((*partition, key));
                }
            }
        }
        over
    }

    /// It could not be removed: it is given again.
    pub(super) fn stays(&self, partition: i32, key: &Bytes) {
        if let Some(one) = self.all().get_mut(&partition)
            && let Some(known) = one.known.get_mut(key)
        {
            known.leaving = false;
            one.by_time.insert((known.until_ms, key.clone()));
        }
    }
}

/// The key of the topic's record.
pub(super) fn name(service: &str, partition: i32, key: &[u8]) -> String {
    format!("{PREFIX}{service}:{partition}:{}", URL_SAFE_NO_PAD.encode(key))
}

/// What such a key says: the service, the partition and the key; none: it is another record's.
pub(super) fn read_name(name: &[u8]) -> Option<(&str, i32, Bytes)> {
    let rest = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    let mut parts = rest.rsplitn(3, ':');
    let key = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let partition = parts.next()?.parse().ok()?;
    Some((parts.next()?, partition, Bytes::from(key)))
}

/// What the topic's records say of a service's partitions, from the first one on.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<i32, HashMap<Bytes, Note>>);

impl Found {
    /// Takes a record into account.
    pub(super) fn note(&mut self, service: &str, name: &[u8], value: Option<&Bytes>) {
        let Some((of, partition, key)) = read_name(name) else {
            return;
        };
        if of != service {
            return;
        }
        let one = self.0.entry(partition).or_default();
        match value.map(|value| Note::decode(value.clone())) {
            None => drop(one.remove(&key)),
            Some(Ok(note)) => drop(one.insert(key, note)),
            Some(Err(error)) => {
                tracing::error!(service, partition, %error, "what is known of a workflow cannot be read");
            }
        }
    }

    /// What there is of a partition.
    pub(super) fn take(&mut self, partition: i32) -> Vec<(Bytes, Note)> {
        self.0
            .remove(&partition)
            .unwrap_or_default()
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(event: &str, until_ms: i64) -> Note {
        Note {
            event: event.to_owned(),
            started_ms: 0,
            until_ms,
        }
    }

    #[test]
    fn one_event_starts_a_workflow_until_its_time_is_over() {
        let (runs, key) = (Runs::default(), Bytes::from_static(b"k"));
        assert!(matches!(runs.may(0, &key, "a", 0), May::Wait(_)), "nobody has it");
        runs.enter(0);
        runs.enter(0);
        assert_eq!(runs.may(0, &key, "a", 0), May::Start);
        runs.started(0, &key, &note("a", 100));
        assert_eq!(runs.may(0, &key, "a", 50), May::Again);
        assert_eq!(runs.may(0, &key, "b", 99), May::Not);
        assert_eq!(runs.may(0, &key, "b", 100), May::Start);
        assert_eq!(runs.over(99, 9), []);
        assert_eq!(runs.over(100, 9), [(0, key.clone())]);
        assert_eq!(runs.over(100, 9), [], "each once");
        assert!(matches!(runs.may(0, &key, "b", 100), May::Wait(_)));
        runs.stays(0, &key);
        assert_eq!(runs.over(100, 9).len(), 1);
        runs.forget(0, &key);
        assert_eq!(runs.may(0, &key, "b", 100), May::Start);

        runs.started(0, &key, &note("b", 200));
        runs.leave(0);
        assert_eq!(runs.may(0, &key, "c", 150), May::Not, "somebody has it still");
        runs.leave(0);
        runs.enter(0);
        assert_eq!(runs.may(0, &key, "c", 150), May::Start, "it is read again");
        runs.found(0, vec![(key.clone(), note("b", 200))]);
        assert_eq!(runs.may(0, &key, "c", 150), May::Not);
    }

    #[test]
    fn the_newest_record_of_a_key_counts() {
        let mut found = Found::default();
        let of = |key: &[u8]| name("Flow:1", 2, key).into_bytes();
        let value = |event| Bytes::from(note(event, 5).encode_to_vec());
        found.note("Flow:1", &of(b"a"), Some(&value("x")));
        found.note("Flow:1", &of(b"b"), Some(&value("y")));
        found.note("Other", &of(b"c"), Some(&value("z")));
        found.note("Flow:1", b"sub/orders/2/17", Some(&value("z")));
        found.note("Flow:1", &of(b"a"), None);
        assert_eq!(found.take(2), [(Bytes::from_static(b"b"), note("y", 5))]);
        assert_eq!(found.take(2), []);
    }

    proptest! {
        #[test]
        fn a_name_says_what_it_was_made_of(
            service in "[A-Za-z:._-]{1,12}", partition in 0..i32::MAX, key in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let name = name(&service, partition, &key);
            prop_assert_eq!(read_name(name.as_bytes()), Some((service.as_str(), partition, Bytes::from(key))));
            prop_assert!(super::super::held::Id::read(&name).is_none());
        }

        #[test]
        fn foreign_bytes_are_nothing(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut found = Found::default();
            found.note("s", &bytes, Some(&Bytes::from(bytes.clone())));
            prop_assert!(found.0.is_empty() || bytes.starts_with(b"run:"));
        }
    }
}

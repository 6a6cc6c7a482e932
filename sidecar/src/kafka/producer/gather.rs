//! Gathering records under load, so that a request to the broker carries many; a lone record does not wait.
//!
//! This is done here and not by librdkafka's linger, which keeps a lone record waiting too, and which costs a
//! broker thread one more wake-up for each batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::kafka::record::Record;

/// More records of a topic than this under way at once are load.
const FEW: usize = 2;
/// How long after it was seen load is taken to last.
const CALM_AFTER: Duration = Duration::from_millis(10);
/// A submission of this many records is a batch already.
const BATCH: usize = 64;
/// So many records, or bytes, are not gathered further: a request that large costs little per record.
const MANY: usize = 1000;
const MANY_BYTES: usize = 256 * 1024;

/// Whether there is load on a topic: many records at once. However fast it is, one client that awaits each
/// answer is none.
#[derive(Default)]
pub(super) struct Pace {
    loaded_until: Option<Instant>,
}

impl Pace {
    /// There are `pending` records of the topic under way.
    pub(super) fn note(&mut self, pending: usize, now: Instant) {
        if pending > FEW {
            self.loaded_until = Some(now + CALM_AFTER);
        }
    }

    /// Whether there is load.
    pub(super) fn is_loaded(&self, now: Instant) -> bool {
        self.loaded_until.is_some_and(|until| now < until)
    }
}

/// A record that is gathered.
pub(super) struct Gathered {
    /// Of its pending entry.
    pub(super) key: usize,
    /// The topic's key.
    pub(super) topic: usize,
    pub(super) record: Record,
    /// When it is given up; never is `None`.
    pub(super) until: Option<Instant>,
}

/// Records of all topics, in the order they came in.
pub(super) struct Gather {
    /// How long the first of them waits for others.
    linger: Duration,
    queue: VecDeque<Gathered>,
    bytes: usize,
    due: Option<Instant>,
}

impl Gather {
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            linger,
            queue: VecDeque::new(),
            bytes: 0,
            due: None,
        }
    }

    /// Whether `records` that come together wait for others.
    pub(super) fn is_for(&self, records: usize) -> bool {
        !self.linger.is_zero() && records < BATCH
    }

    pub(super) fn put(&mut self, gathered: Gathered, now: Instant) {
        // Not so long that its deadline passes while it waits here.
        let half = gathered
            .until
            .map(|until| until.saturating_duration_since(now) / 2);
        let due = now + half.map_or(self.linger, |half| half.min(self.linger));
        self.due = Some(self.due.map_or(due, |first| first.min(due)));
        self.bytes += gathered.record.size();
        self.queue.push_back(gathered);
    }

    /// When they are to go; `None` when there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they are to go now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now) || self.queue.len() >= MANY || self.bytes >= MANY_BYTES
    }

    /// All of them; the vector that is given back to [`Self::recycle`] is used again.
    pub(super) fn take(&mut self) -> VecDeque<Gathered> {
        self.due = None;
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }

    /// Takes an emptied vector back.
    pub(super) fn recycle(&mut self, emptied: VecDeque<Gathered>) {
        if self.queue.capacity() == 0 && emptied.is_empty() {
            self.queue = emptied;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_client_is_no_load_however_fast() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        for request in 0..1000 {
            let now = begin + Duration::from_micros(100 * request);
            assert!(!pace.is_loaded(now));
            pace.note(1, now);
        }
    }

    #[test]
    fn load_lasts_until_it_is_over() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        pace.note(3, begin);
        assert!(pace.is_loaded(begin + CALM_AFTER / 2));
        pace.note(1, begin + CALM_AFTER / 2);
        assert!(!pace.is_loaded(begin + CALM_AFTER));
    }

    #[test]
    fn what_is_gathered_goes_before_its_deadline() {
        let mut gather = Gather::new(Duration::from_secs(5));
        let begin = Instant::now();
        let until = Some(begin + Duration::from_millis(100));
        gather.put(
            Gathered {
                key: 0,
                topic: 0,
                record: Record::default(),
                until,
            },
            begin,
        );
        assert_eq!(gather.due(), Some(begin + Duration::from_millis(50)));
    }

    #[test]
    fn what_is_gathered_goes_when_it_is_due_or_much() {
        let one = |key| Gathered {
            key,
            topic: 0,
            record: Record::default(),
            until: None,
        };
        let mut gather = Gather::new(Duration::from_millis(1));
        let begin = Instant::now();
        assert!(gather.due().is_none() && !gather.is_due(begin));
        gather.put(one(0), begin);
        gather.put(one(1), begin + Duration::from_micros(900));
        assert!(!gather.is_due(begin + Duration::from_micros(999)));
        assert!(gather.is_due(begin + Duration::from_millis(1)));
        assert_eq!(
            gather
                .take()
                .iter()
                .map(|gathered| gathered.key)
                .collect::<Vec<_>>(),
            [0, 1]
        );
        assert!(!gather.is_due(begin + Duration::from_secs(1)));
        (0..MANY).for_each(|key| gather.put(one(key), begin));
        assert!(gather.is_due(begin));
    }
}

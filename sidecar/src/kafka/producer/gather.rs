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

/// How long the most records under way at once are remembered, at least.
const WINDOW: Duration = Duration::from_millis(20);

/// The load on a topic, as the records under way at once tell it.
///
/// However fast it is, one client that awaits each answer is no load. And clients that all await an answer send
/// nothing more: when as many records are under way as were lately at most, waiting for others is vain.
#[derive(Default)]
pub(super) struct Pace {
    loaded_until: Option<Instant>,
    window_until: Option<Instant>,
    /// The most records under way, in this window and in the one before.
    most: usize,
    most_before: usize,
}

impl Pace {
    /// There are `pending` records of the topic under way. Whether all that can be expected are.
    pub(super) fn note(&mut self, pending: usize, now: Instant) -> bool {
        if pending > FEW {
            self.loaded_until = Some(now + CALM_AFTER);
        }
        if self.window_until.is_none_or(|until| until <= now) {
            self.window_until = Some(now + WINDOW);
            self.most_before = self.most;
            self.most = 0;
        }
        self.most = self.most.max(pending);
        pending >= self.most_before
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

    /// Has them go now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(due) = &mut self.due {
            *due = now;
        }
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
    fn as_many_as_there_were_lately_are_all() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        for pending in 1..=4 {
            assert!(pace.note(pending, begin), "{pending}: nothing is known yet");
        }
        let next = begin + WINDOW;
        assert!(!pace.note(3, next));
        assert!(pace.note(4, next));
        // One of the four clients has left.
        assert!(!pace.note(3, next + WINDOW));
        assert!(pace.note(3, next + 2 * WINDOW));
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

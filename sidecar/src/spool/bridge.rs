//! Records that are spooled only while their cluster is away, or while they must follow one that is spooled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;

use super::entry::{Entry, Lane};
use super::follow::Place;
use super::state::{Queued, State, Waiting};
use super::{Incoming, MAX_QUEUED, Shared};
use crate::epoch::now_ms;
use crate::kafka::health::Health;
use crate::kafka::producer::Producer;
use crate::kafka::record::{Aside, Delivery, Failure, Receipt, Record, Submission};

/// How long a record waits for those of its key before it may be spooled, at most.
const WAIT: Duration = Duration::from_secs(1);

/// Where a record goes when nothing of its key is spooled any more.
pub struct Bridged {
    /// When it is answered then.
    pub delivery: Delivery,
    /// Its producer.
    pub producer: Arc<Producer>,
    /// The entry of the allowlist that lets its topic in.
    pub label: Arc<str>,
    /// Whose it is, as [`Submission::client`] has it.
    pub client: u64,
    /// Where it goes if the cluster goes away before it is handed over.
    pub aside: Arc<dyn Aside>,
}

/// Takes a record into the spool that its producer has not handed over when its cluster goes away.
pub(super) struct IntoSpool {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Lane,
    pub(super) deadline: Instant,
}

impl Aside for IntoSpool {
    fn take(&self, record: Record, receipt: Receipt) {
        let written = Written::new(Incoming {
            record,
            lane: self.lane.clone(),
            receipt,
            deadline: self.deadline,
        });
        let mut refused = Refused::new();
        let mut state = self.shared.lock();
        self.shared.append_first(&mut state, written, &mut refused);
        self.shared.tell_followed(&state);
        drop(state);
        self.shared.writer.notify_one();
        self.shared.refuse(refused);
    }
}

/// A record that waits until nothing of its key is spooled any more.
pub(super) struct Parked {
    incoming: Incoming,
    bridged: Bridged,
    /// When it may be spooled itself.
    late: Instant,
    size: u64,
}

/// Those that were not taken on, and why.
pub(super) type Refused = Vec<(Receipt, Failure)>;

/// A record that is to be spooled, encoded.
pub(super) struct Written {
    lane: Lane,
    receipt: Receipt,
    deadline: Instant,
    entry: Entry,
    encoded: Vec<u8>,
}

/// A record that is about to be taken on.
pub(super) enum Prepared {
    /// To be spooled.
    Written(Written),
    /// To be spooled if it must.
    Bridged(Incoming, Bridged),
}

impl Written {
    pub(super) fn new(mut incoming: Incoming) -> Self {
        incoming.record.detach();
        let entry = Entry::new(incoming.record, now_ms());
        let encoded = entry.seal();
        Self {
            lane: incoming.lane,
            receipt: incoming.receipt,
            deadline: incoming.deadline,
            entry,
            encoded,
        }
    }

    fn queue(self, state: &mut State, place: Option<Place>) {
        let Self {
            lane,
            receipt,
            deadline,
            entry,
            encoded,
        } = self;
        let waiting = state.waiting.insert(Waiting { receipt, deadline });
        state.queued += encoded.len() as u64;
        state.append.push(Queued {
            waiting,
            lane,
            entry,
            place,
            encoded,
        });
    }
}

impl Shared {
    /// Takes on a record that is not to be spooled unless it must.
    pub(super) fn bridge(
        &self,
        state: &mut State,
        incoming: Incoming,
        bridged: Bridged,
        refused: &mut Refused,
    ) {
        let place = state.place(&incoming.lane, incoming.record.key.as_ref());
        // What was there before the start has keys that nobody knows: it is followed to the disk.
        let waits = !state.resting && !state.unread.contains(&incoming.lane);
        match place.filter(|_| waits) {
            Some(place) => park(state, incoming, bridged, place, refused),
            None => self.append(state, Written::new(incoming), refused),
        }
    }

    /// Puts a record into the queue for the disk, behind those that wait for its key.
    pub(super) fn append(&self, state: &mut State, written: Written, refused: &mut Refused) {
        if let Some(failure) = self.refusal(state, written.encoded.len() as u64) {
            refused.push((written.receipt, failure));
            return;
        }
        let place = state.place(&written.lane, written.entry.key.as_ref());
        if let Some(place) = place {
            for parked in state.following.spool(place) {
                self.append_parked(state, parked, place, refused);
            }
        }
        written.queue(state, place);
    }

    /// The same for one that its producer had: those that wait for its key came after it.
    fn append_first(&self, state: &mut State, written: Written, refused: &mut Refused) {
        if let Some(failure) = self.refusal(state, written.encoded.len() as u64) {
            refused.push((written.receipt, failure));
            return;
        }
        let place = state.place(&written.lane, written.entry.key.as_ref());
        if let Some(place) = place {
            state.following.count(place);
        }
        written.queue(state, place);
        if let Some(place) = place {
            for parked in state.following.take_line(place) {
                self.append_parked(state, parked, place, refused);
            }
        }
    }

    /// The same for one that waited, and is counted already.
    fn append_parked(&self, state: &mut State, parked: Parked, place: Place, refused: &mut Refused) {
        state.queued = state.queued.saturating_sub(parked.size);
        let written = Written::new(parked.incoming);
        match self.refusal(state, written.encoded.len() as u64) {
            Some(failure) => {
                state.following.uncount(place);
                refused.push((written.receipt, failure));
            }
            None => written.queue(state, Some(place)),
        }
    }

    /// Spools those that waited for long, or whose cluster is away, and gives up those that may not wait any longer.
    pub(super) fn look_after_lines(&self, state: &mut State, now: Instant, refused: &mut Refused) {
        let lines: Vec<(Place, bool)> = state
            .following
            .lines()
            .into_iter()
            .filter_map(|(place, first)| Some((place, first?.is_away())))
            .collect();
        for (place, away) in lines {
            if away || state.resting {
                for parked in state.following.take_line(place) {
                    self.append_parked(state, parked, place, refused);
                }
                continue;
            }
            while let Some(parked) = state.following.take_late(place, |parked| parked.late <= now) {
                self.append_parked(state, parked, place, refused);
            }
            let over = state
                .following
                .take_over(place, |parked| parked.incoming.deadline <= now);
            for parked in over {
                state.queued = state.queued.saturating_sub(parked.size);
                let text = "records of its key are in the spool, and Kafka did not take them in time";
                refused.push((
                    parked.incoming.receipt,
                    Failure::new(ErrorClass::BufferFull, text),
                ));
            }
        }
    }

    /// Hands over records that waited, or spools them if their cluster is away again.
    pub(super) fn hand_over(&self, lines: Vec<(Place, Vec<Parked>)>) {
        for (place, parked) in lines {
            let away = parked.first().is_some_and(Parked::is_away);
            let mut refused = Refused::new();
            if away {
                let mut state = self.lock();
                for parked in parked {
                    state.following.count(place);
                    self.append_parked(&mut state, parked, place, &mut refused);
                }
                for parked in state.following.take_line(place) {
                    self.append_parked(&mut state, parked, place, &mut refused);
                }
            } else {
                let sizes: u64 = parked.iter().map(|parked| parked.size).sum();
                for (producer, mut submissions) in by_producer(parked) {
                    producer.submit(&mut submissions);
                }
                let mut state = self.lock();
                state.queued = state.queued.saturating_sub(sizes);
            }
            self.lock().following.left(place);
            if away {
                self.writer.notify_one();
            }
            self.refuse(refused);
        }
    }
}

fn park(state: &mut State, mut incoming: Incoming, bridged: Bridged, place: Place, refused: &mut Refused) {
    let size = incoming.record.size() as u64;
    if state.stopping {
        let text = "the sidecar is shutting down";
        refused.push((
            incoming.receipt,
            Failure::new(ErrorClass::SidecarUnavailable, text),
        ));
        return;
    }
    if state.queued + size > MAX_QUEUED && state.queued > 0 {
        let text = format!(
            "{} bytes wait for records of their keys that are in the spool, or for its disk, of {MAX_QUEUED} at most",
            state.queued
        );
        refused.push((incoming.receipt, Failure::new(ErrorClass::BufferFull, text)));
        return;
    }
    let now = Instant::now();
    let half = incoming.deadline.saturating_duration_since(now) / 2;
    state.queued += size;
    incoming.record.detach();
    let parked = Parked {
        incoming,
        bridged,
        late: now + half.min(WAIT),
        size,
    };
    state.following.wait(place, parked);
}

impl Parked {
    fn is_away(&self) -> bool {
        matches!(self.bridged.producer.health(), Health::Down(_))
    }
}

/// Submissions, those next to each other that have the same producer together.
fn by_producer(parked: Vec<Parked>) -> Vec<(Arc<Producer>, Vec<Submission>)> {
    let mut all: Vec<(Arc<Producer>, Vec<Submission>)> = Vec::new();
    for Parked {
        incoming, bridged, ..
    } in parked
    {
        let submission = Submission {
            record: incoming.record,
            delivery: bridged.delivery,
            receipt: incoming.receipt,
            label: bridged.label,
            client: bridged.client,
            aside: Some(bridged.aside),
        };
        match all.last_mut() {
            Some((producer, submissions)) if Arc::ptr_eq(producer, &bridged.producer) => {
                submissions.push(submission)
            }
            _ => all.push((bridged.producer, vec![submission])),
        }
    }
    all
}

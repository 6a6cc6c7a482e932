//! One worker's stream to one sidecar cluster, as a state machine: events in, [`Effects`] out.
//!
//! It knows no host and no clock. A record is *gathered* until it is handed to [`Effects::send`], *sent* from
//! then on, and *outstanding* until its fate is known or its stream is gone. Whoever waits for a record is
//! answered exactly once, or departs; a record that was sent stays outstanding even when nobody waits for it
//! any more, since Envoy may still hold it: Envoy buffers without bound what the sidecar does not read.

mod backoff;
mod gather;
mod life;
mod outcome;
mod shares;
mod slots;

use prost::Message as _;
use sluice_proto::v1::topic_fate::Result as Fate;
use sluice_proto::v1::{ErrorClass, ProduceReply, TopicFate};

use crate::config::StreamSettings;
use backoff::Backoff;
use gather::Gather;
use outcome::{
    CLIENT_FULL, CLOSED_SENT, FULL, GARBLED_SENT, LATE_SENT, LATE_UNSENT, ROUTE_FULL, TOO_LARGE, UNREACHABLE,
};
use slots::{Place, Slots};

pub use outcome::{Failed, Outcome};
pub use shares::Tag;

/// The host's name of an open gRPC stream.
pub type Token = u32;

/// How long gathered records wait at most for company, and how often ticks come meanwhile.
pub const GATHER_MS: u32 = 1;

/// How often ticks come while there are only deadlines to watch.
pub const WATCH_MS: u32 = 50;

/// How long a stream may take to open. Past it the sidecar counts as unreachable.
const OPEN_TIMEOUT_US: u64 = 2_000_000;

/// A stream that lived that long is healthy, whatever it did: its end is no reason to wait before the next.
const HEALTHY_US: u64 = 1_000_000;

/// So many messages may be under way before records are gathered. A reply, or [`GATHER_MS`], makes room.
const AT_ONCE: u32 = 2;

/// For so long after the sidecar refused a record for want of room clients are told apart.
const PRESSED_US: u64 = 2_000_000;

/// And while so large a part of the bounds is taken.
const PRESSED_PART: usize = 4;

/// How many streams that drain are kept for the fates they still owe.
const MAX_DRAINING: usize = 4;

/// What the stream does to the world. Calls come in the order in which they must take effect.
pub trait Effects<T> {
    /// Opens a stream; `None` if that fails at once.
    fn open(&mut self) -> Option<Token>;

    /// Sends one encoded `ProduceRequest` of `records` records, withdrawals not counted; `false` if it was not handed over.
    fn send(&mut self, stream: Token, message: &[u8], records: usize) -> bool;

    /// Ends a stream that owes nothing more.
    fn close(&mut self, stream: Token);

    /// Gives up a stream at once, whatever it still owes.
    fn cancel(&mut self, stream: Token);

    /// Tells `owner` what became of the record.
    fn answer(&mut self, owner: T, outcome: Outcome);
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<E> {
    /// The stream cannot take it.
    Stream(Failed),
    /// Whoever was to write it did not.
    Record(E),
}

/// A record that the stream took, as its owner remembers it.
pub type RecordId = u64;

#[derive(Debug, Clone, Copy)]
enum State {
    /// No stream; none is tried before `retry_us`.
    Closed { retry_us: u64 },
    /// No stream; the next tick opens one.
    Wanted,
    /// Opened, but nothing may be sent before the sidecar's initial metadata.
    Opening { token: Token, since_us: u64 },
    /// Records can be sent.
    Open {
        token: Token,
        since_us: u64,
        fates: bool,
    },
}

/// The stream. `T` is what it takes to answer whoever waits.
#[derive(Debug)]
pub struct Stream<T> {
    settings: StreamSettings,
    state: State,
    backoff: Backoff,
    slots: Slots<T>,
    gather: Gather,
    /// Streams that take nothing more, oldest first.
    draining: Vec<Token>,
    /// Messages sent since the last reply, and when the last of them was.
    unanswered: u32,
    last_send_us: u64,
    /// Until when clients are told apart.
    pressed_until_us: u64,
    /// Sent records that nobody waits for any more, and whose replies the sidecar waits for.
    withdrawn: Vec<(RecordId, Token)>,
    /// Whether records were gathered since the last tick: then the next tick is likely to find some.
    gathered_lately: bool,
    tick_ms: Option<u32>,
}

impl<T> Stream<T> {
    /// A stream that is not open; the first record opens it.
    pub fn new(settings: StreamSettings) -> Self {
        Self {
            settings,
            state: State::Closed { retry_us: 0 },
            backoff: Backoff::default(),
            slots: Slots::default(),
            gather: Gather::default(),
            draining: Vec::new(),
            unanswered: 0,
            last_send_us: 0,
            pressed_until_us: 0,
            withdrawn: Vec::new(),
            gathered_lately: false,
            tick_ms: None,
        }
    }

    /// The period in which [`Stream::tick`] is to be called, in milliseconds; `None`: not at all.
    pub fn tick_ms(&self) -> Option<u32> {
        self.tick_ms
    }

    /// How many records are outstanding.
    pub fn outstanding(&self) -> usize {
        self.slots.len()
    }

    /// Whether it matters now whose records come: there is little room, here or at the sidecar's.
    pub fn tells_clients_apart(&self, now_us: u64) -> bool {
        let much = |taken: usize, max: usize| taken.saturating_mul(PRESSED_PART) >= max;
        now_us < self.pressed_until_us
            || much(self.slots.len(), self.settings.max_outstanding_records)
            || much(self.slots.bytes(), self.settings.max_outstanding_bytes)
    }

    /// Whether `stream` is one of this machine's.
    pub fn has(&self, stream: Token) -> bool {
        self.current() == Some(stream) || self.draining.contains(&stream)
    }

    /// Takes a record: `write` appends its encoding (a `ProduceRequest` of this one record, under the id given)
    /// and says who is to be answered. Past `deadline_us` the answer is given without its fate. Its `tag` says whose it
    /// is, and its route may have `route_max` records outstanding.
    ///
    /// # Errors
    /// The record was not taken, will never be sent, and nobody is answered.
    pub fn produce<E>(
        &mut self,
        now_us: u64,
        deadline_us: u64,
        (tag, route_max): (Tag, usize),
        effects: &mut impl Effects<T>,
        write: impl FnOnce(&mut Vec<u8>, RecordId) -> Result<T, E>,
    ) -> Result<RecordId, Refused<E>> {
        if matches!(self.state, State::Closed { retry_us } if now_us < retry_us) {
            return Err(Refused::Stream(UNREACHABLE));
        }
        let (records, max_bytes) = (
            self.settings.max_outstanding_records,
            self.settings.max_outstanding_bytes,
        );
        if self.slots.len() >= records || self.slots.bytes() >= max_bytes {
            return Err(Refused::Stream(FULL));
        }
        if tag.route.as_ref().is_some_and(|route| route.get() >= route_max) {
            return Err(Refused::Stream(ROUTE_FULL));
        }
        let left = (records - self.slots.len(), max_bytes - self.slots.bytes());
        if self.slots.shares().is_spent(tag.client, left) {
            return Err(Refused::Stream(CLIENT_FULL));
        }
        let id = self.slots.next_id();
        let start = self.gather.bytes.len();
        let owner = write(&mut self.gather.bytes, id).map_err(|error| {
            self.gather.bytes.truncate(start);
            Refused::Record(error)
        })?;
        let len = self.gather.bytes.len().saturating_sub(start);
        if self.slots.bytes().saturating_add(len) > max_bytes {
            self.gather.bytes.truncate(start);
            let refused = if len > max_bytes { TOO_LARGE } else { FULL };
            return Err(Refused::Stream(refused));
        }
        let at = self.gather.push(id, len);
        self.slots.insert(id, (owner, tag), deadline_us, len, at);
        self.gathered(now_us, effects);
        Ok(id)
    }

    /// Nobody waits for the record any more. Whether somebody did. If it `awaits_reply`, the sidecar is told soon, so that it
    /// does not wait either.
    pub fn departed(&mut self, id: RecordId, awaits_reply: bool) -> bool {
        match self.slots.place(id) {
            Some(Place::Gathered(at)) => {
                let waited = self.slots.remove(id).is_some();
                self.forget(at);
                waited
            }
            Some(Place::Sent(token)) => {
                let waited = self.slots.abandon(id).is_some();
                if waited && awaits_reply {
                    self.withdrawn.push((id, token));
                    self.quicken();
                }
                waited
            }
            None => false,
        }
    }

    /// The sidecar's initial metadata arrived, with its header.
    pub fn opened(&mut self, stream: Token, now_us: u64, effects: &mut impl Effects<T>) {
        if let State::Opening { token, since_us } = self.state
            && token == stream
        {
            self.state = State::Open {
                token,
                since_us,
                fates: false,
            };
            self.unanswered = 0;
            self.flush(now_us, effects);
            self.quicken();
        }
    }

    /// A message arrived on `stream`.
    pub fn reply(&mut self, stream: Token, message: &[u8], now_us: u64, effects: &mut impl Effects<T>) {
        if !self.has(stream) {
            return;
        }
        let Ok(reply) = ProduceReply::decode(message) else {
            effects.cancel(stream);
            self.lost(stream, GARBLED_SENT, now_us, effects);
            return;
        };
        self.replied(stream, !reply.fates.is_empty());
        for fate in reply.fates {
            if fate.topics.iter().any(is_full) {
                self.pressed_until_us = now_us.saturating_add(PRESSED_US);
            }
            if self.slots.place(fate.id) == Some(Place::Sent(stream))
                && let Some(owner) = self.slots.remove(fate.id)
            {
                effects.answer(owner, fate.into());
            }
        }
        if reply.drain {
            self.drain(stream, now_us, effects);
        }
        self.flush(now_us, effects);
        self.retire(effects);
        self.quicken();
    }

    /// `stream` is gone.
    pub fn closed(&mut self, stream: Token, now_us: u64, effects: &mut impl Effects<T>) {
        if self.has(stream) {
            self.lost(stream, CLOSED_SENT, now_us, effects);
        }
    }

    /// The time of [`Stream::tick_ms`] has passed.
    pub fn tick(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        match self.state {
            State::Wanted => self.open(now_us, effects),
            State::Opening { token, since_us } if now_us.saturating_sub(since_us) >= OPEN_TIMEOUT_US => {
                effects.cancel(token);
                self.lost(token, CLOSED_SENT, now_us, effects);
            }
            _ => {}
        }
        self.flush(now_us, effects);
        self.expire(now_us, effects);
        if !self.withdrawn.is_empty() {
            self.withdraw(now_us, effects);
        }
        let lately = std::mem::take(&mut self.gathered_lately);
        self.tick_ms = self.needed_tick_ms().map(|period| {
            if lately && self.is_open() {
                period.min(GATHER_MS)
            } else {
                period
            }
        });
    }
}

impl<T> Stream<T> {
    /// The stream that records go to.
    fn current(&self) -> Option<Token> {
        match self.state {
            State::Opening { token, .. } | State::Open { token, .. } => Some(token),
            State::Closed { .. } | State::Wanted => None,
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// A record was gathered: send it now, or see to it that somebody does.
    fn gathered(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        match self.state {
            State::Closed { .. } => self.state = State::Wanted,
            State::Open { .. } => {
                let rested = now_us.saturating_sub(self.last_send_us) >= u64::from(GATHER_MS) * 1000;
                let full = self.gather.live_bytes() >= self.settings.gather_bytes;
                if rested || full || self.unanswered < AT_ONCE {
                    self.flush(now_us, effects);
                } else {
                    self.gathered_lately = true;
                }
            }
            State::Wanted | State::Opening { .. } => {}
        }
        self.quicken();
    }

    /// Sends what is gathered, in messages of at most `gather_bytes` unless one record is larger.
    fn flush(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        let State::Open { token, .. } = self.state else {
            return;
        };
        if self.gather.is_empty() {
            return;
        }
        self.tidy();
        while let Some(message) = self.gather.next_message(self.settings.gather_bytes) {
            if !effects.send(token, message.bytes, message.records.len()) {
                effects.cancel(token);
                self.lost(token, CLOSED_SENT, now_us, effects);
                return;
            }
            for record in message.records {
                self.slots.sent(record.id, token);
            }
            self.gather.sent();
            self.unanswered = self.unanswered.saturating_add(1);
        }
        self.gather.clear();
        self.last_send_us = now_us;
    }

    /// Forgets a gathered record, which will not be sent.
    fn forget(&mut self, at: usize) {
        self.gather.forget(at);
        if self.gather.is_mostly_dead() {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        let slots = &mut self.slots;
        self.gather.compact(|id, at| slots.moved(id, at));
    }

    /// A reply came on `stream`: it is alive, and there is room for more.
    fn replied(&mut self, stream: Token, any_fate: bool) {
        if let State::Open { token, fates, .. } = &mut self.state
            && *token == stream
        {
            self.unanswered = 0;
            if any_fate {
                *fates = true;
                self.backoff.reset();
            }
        }
    }

    /// Answers whoever waited too long.
    fn expire(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        for id in self.slots.expired(now_us) {
            let (owner, failed) = match self.slots.place(id) {
                Some(Place::Gathered(at)) => {
                    let owner = self.slots.remove(id);
                    self.forget(at);
                    (owner, LATE_UNSENT)
                }
                _ => (self.slots.abandon(id), LATE_SENT),
            };
            if let Some(owner) = owner {
                effects.answer(owner, Outcome::Failed(failed));
            }
        }
    }

    /// The slowest ticks that do.
    fn needed_tick_ms(&self) -> Option<u32> {
        let gathered = !self.gather.is_empty();
        match self.state {
            State::Wanted => Some(GATHER_MS),
            State::Open { .. } if gathered => Some(GATHER_MS),
            State::Opening { .. } => Some(WATCH_MS),
            _ if !self.withdrawn.is_empty() => Some(WATCH_MS),
            _ if self.slots.anyone_waits() => Some(WATCH_MS),
            _ => None,
        }
    }

    /// Makes ticks come as often as is needed. They become fewer in [`Stream::tick`] alone: changing the period
    /// costs more than a tick too many.
    fn quicken(&mut self) {
        let needed = self.needed_tick_ms();
        self.tick_ms = match (self.tick_ms, needed) {
            (Some(current), Some(needed)) => Some(current.min(needed)),
            (current, needed) => current.or(needed),
        };
    }
}

/// Whether the sidecar had no room.
fn is_full(fate: &TopicFate) -> bool {
    matches!(&fate.result, Some(Fate::Failure(failure)) if failure.class == ErrorClass::BufferFull as i32)
}

#[cfg(test)]
mod tests;

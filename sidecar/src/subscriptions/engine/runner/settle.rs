//! What must be written for an event before it is finished, or put off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::v1::{ErrorClass, Header};

use super::state::{At, Phase};
use super::{Board, Runner, Step, reply};
use crate::epoch::now_ms;
use crate::kafka::reader::Record;
use crate::kafka::record;
use crate::subscriptions::engine::held::{Held, Why};
use crate::subscriptions::engine::lanes::Ticket;
use crate::subscriptions::engine::outlet::{Outlet, header};
use crate::subscriptions::event::{Deliver, Reply};
use crate::subscriptions::spec::OnFailure;

/// The first pause before a write is tried again, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// An event that waits no longer than this does not have those behind it written.
const SPILL_AFTER: Duration = Duration::from_secs(1);
/// What the names of the headers begin with that say what a dead letter is, as the spool's.
const ERRORS: &str = "__sluice.errors.";

/// What becomes of an event once everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It waits for its time.
    Hold,
    /// It waits behind one that does.
    Spill,
    /// It waits for somebody.
    Park,
    /// It is a dead letter, and finished.
    DeadLetter,
    /// What the handler answered is written, and it is finished.
    Reply,
    /// It is finished.
    Finish,
}

enum Write {
    /// To the held topic.
    Held(Option<Held>),
    /// Elsewhere.
    Record(record::Record),
}

impl<D: Deliver> Runner<D> {
    /// An event that was given out is to be tried again then.
    pub(super) fn hold(&mut self, ticket: Ticket, at: Instant) {
        if self.is_new_and_full(ticket) {
            // It is tried again all the same, and holds up what is committed.
            let words = format!(
                "{} events are held, and max_held allows no more: nothing is committed past this one before it is finished",
                self.held_count()
            );
            let id = self.id_of(ticket);
            self.trouble(&words, Some(id));
            self.lanes.hold(ticket);
            return self.hold_until(ticket, at);
        }
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.due = Some(at);
        }
        self.settle(ticket, Effect::Hold, None);
    }

    /// An event waits behind one that is held: it is written too, unless it is not for long, so that it holds nothing up.
    pub(super) fn spill(&mut self, ticket: Ticket) {
        let now = Instant::now();
        let long = self
            .lanes
            .first(ticket)
            .and_then(|first| self.entries.get(&first));
        let long = long.is_some_and(|first| first.waits(now + SPILL_AFTER) && first.held.is_some());
        let by_key = self.spec.ordering == crate::subscriptions::spec::Ordering::Key;
        let queued = self
            .entries
            .get(&ticket)
            .is_some_and(|entry| entry.at == At::Queued && entry.tracked);
        if long && by_key && queued && !self.is_new_and_full(ticket) {
            self.settle(ticket, Effect::Spill, None);
        }
    }

    /// Writes what must be for an event.
    pub(super) fn settle(&mut self, ticket: Ticket, effect: Effect, reply: Option<Reply>) {
        let id = self.id_of(ticket);
        let Some(entry) = self.entries.get(&ticket) else {
            return;
        };
        let (held_at, record) = (entry.held, entry.record.clone());
        let due_ms = entry.due.map_or(0, |due| {
            let wait = due.saturating_duration_since(Instant::now()).as_millis();
            now_ms().saturating_add(i64::try_from(wait).unwrap_or(i64::MAX))
        });
        let marks = Held {
            attempts: entry.attempts,
            first_failed_ms: entry.first_failed_ms,
            due_ms,
            error: entry.error.clone(),
            status: entry.status.map(u32::from),
            key: entry.key.clone(),
            ..Held::default()
        };
        let is_held = held_at.is_some();
        if effect == Effect::Finish && !is_held {
            return self.settled(ticket, effect, Ok(None));
        }
        let at = match effect {
            Effect::Spill => At::Spilling { wanted: false },
            _ => At::Settling,
        };
        self.put(ticket, at);
        let topic = match (effect, &self.spec.on_failure) {
            (Effect::DeadLetter, OnFailure::DeadLetter { topic }) => topic.clone(),
            _ => String::new(),
        };
        let answered = reply.map(|reply| (reply, Arc::clone(&self.spec)));
        let (outlet, board) = (Arc::clone(&self.outlet), Arc::clone(&self.board));
        let failures = self.metrics.write_failures();
        self.steps.spawn(async move {
            let record = match (record, held_at, effect) {
                // Nothing but its id is needed.
                (_, _, Effect::Finish) => None,
                (Some(record), ..) => Some(record),
                (None, Some(at), _) => match read_back(&outlet, &board, &id, at).await {
                    Some(record) => Some(record),
                    // What is known of it is kept.
                    None if effect == Effect::Park => None,
                    None => {
                        let gone = "its record is there no more".to_owned();
                        return Step::Settled(ticket, effect, Err(gone));
                    }
                },
                (None, None, _) => None,
            };
            let answer = match (&record, answered) {
                (Some(record), Some((answered, spec))) => match reply::topic(&spec, &outlet, record) {
                    Ok(Some(topic)) => Some(reply::answer(&id, &topic, record, answered, outlet.replies())),
                    Ok(None) => None,
                    Err(why) => return Step::Settled(ticket, effect, Err(why)),
                },
                _ => None,
            };
            let writes = writes(effect, &id, &topic, record.as_deref(), marks, answer, is_held);
            let mut at = None;
            for write in writes {
                match carry_out(&outlet, &board, &failures, &id, write).await {
                    Ok(written) => at = written.or(at),
                    Err(why) => return Step::Settled(ticket, effect, Err(why)),
                }
            }
            Step::Settled(ticket, effect, Ok(at))
        });
    }

    /// Everything is written for an event, or will never be (`Err`).
    pub(super) fn settled(&mut self, ticket: Ticket, effect: Effect, result: Result<Option<i64>, String>) {
        let Some(entry) = self.entries.get(&ticket) else {
            return;
        };
        let number = entry.part;
        let closing = self
            .parts
            .get(&number)
            .is_none_or(|part| part.phase == Phase::Closing);
        let at = match result {
            Ok(at) => at,
            Err(why) => {
                let id = self.id_of(ticket);
                self.trouble(&why, Some(id));
                match effect {
                    // The topic for dead letters will never take it, or its record is there no more.
                    Effect::DeadLetter | Effect::Hold => return self.settle(ticket, Effect::Park, None),
                    // The handler took it, all the same.
                    Effect::Reply => return self.settle(ticket, Effect::Finish, None),
                    Effect::Spill | Effect::Park | Effect::Finish => {
                        self.metrics.skipped();
                        return self.forget(ticket);
                    }
                }
            }
        };
        match effect {
            Effect::DeadLetter => self.metrics.dead_lettered(),
            Effect::Park => self.metrics.parked(),
            Effect::Hold | Effect::Spill | Effect::Reply | Effect::Finish => {}
        }
        match (effect, at) {
            (Effect::Hold | Effect::Spill | Effect::Park, Some(at)) => {
                self.is_held(ticket, effect, at, closing)
            }
            _ => self.forget(ticket),
        }
    }

    fn is_held(&mut self, ticket: Ticket, effect: Effect, at: i64, closing: bool) {
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        let (first_time, wanted) = (
            entry.held.replace(at).is_none(),
            entry.at == At::Spilling { wanted: true },
        );
        let (number, offset, due) = (entry.part, entry.offset, entry.due);
        self.untrack(ticket);
        if let Some(part) = self.parts.get_mut(&number) {
            part.held.insert(offset, ticket);
        }
        if first_time {
            self.cache(ticket);
        }
        if closing {
            return self.leave_behind(ticket);
        }
        match effect {
            Effect::Spill => {
                self.put(ticket, At::Queued);
                if wanted {
                    self.lanes.again(ticket);
                }
            }
            Effect::Park => {
                self.put(ticket, At::Parked);
                self.lanes.done(ticket);
            }
            _ => {
                self.lanes.hold(ticket);
                self.hold_until(ticket, due.unwrap_or_else(Instant::now));
                for behind in self.lanes.behind(ticket) {
                    self.spill(behind);
                }
            }
        }
    }
}

/// What is to be written, in order. What is held goes last: while it is there, the event is not forgotten.
fn writes(
    effect: Effect,
    id: &str,
    topic: &str,
    record: Option<&Record>,
    marks: Held,
    reply: Option<record::Record>,
    is_held: bool,
) -> Vec<Write> {
    let held = |why| {
        let of = match record {
            Some(record) => Held::of(record, why),
            None => Held {
                state: why.into(),
                key: marks.key.clone(),
                elsewhere: true,
                ..Held::default()
            },
        };
        Some(Write::Held(Some(Held {
            attempts: marks.attempts,
            first_failed_ms: marks.first_failed_ms,
            due_ms: marks.due_ms,
            error: marks.error.clone(),
            status: marks.status,
            ..of
        })))
    };
    let forgotten = is_held.then_some(Write::Held(None));
    let writes = match effect {
        Effect::Hold => [held(Why::Retrying), None],
        Effect::Spill => [held(Why::Waiting), None],
        Effect::Park => [held(Why::Parked), None],
        Effect::Finish => [forgotten, None],
        Effect::DeadLetter => [
            record.map(|record| Write::Record(dead_letter(id, topic, record, &marks))),
            forgotten,
        ],
        Effect::Reply => [reply.map(Write::Record), forgotten],
    };
    writes.into_iter().flatten().collect()
}

/// The record as it was, and in headers behind its own why it is a dead letter, and where it is from.
fn dead_letter(id: &str, topic: &str, record: &Record, marks: &Held) -> record::Record {
    let mut headers: Vec<Header> = record
        .headers
        .iter()
        .map(|(name, value)| Header {
            name: String::from_utf8_lossy(name).into_owned(),
            value: value.clone(),
        })
        .collect();
    let named = |name: &str, value: String| header(&format!("{ERRORS}{name}"), value);
    headers.push(named("event", id.to_owned()));
    headers.push(named("topic", record.topic.to_string()));
    headers.push(named("partition", record.partition.to_string()));
    headers.push(named("offset", record.offset.to_string()));
    headers.push(named("message", marks.error.clone()));
    headers.push(named("attempts", marks.attempts.to_string()));
    headers.extend(marks.status.map(|status| named("status", status.to_string())));
    record::Record {
        topic: topic.to_owned(),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        timestamp_ms: record.timestamp.filter(|ms| *ms > 0),
    }
}

/// The record of an event that is held; none: it is there no more.
async fn read_back(outlet: &Outlet, board: &Board, id: &str, at: i64) -> Option<Arc<Record>> {
    let mut pause = PAUSE;
    loop {
        match outlet.fetch(id, at).await {
            Ok(record) => return Some(Arc::new(record)),
            Err(None) => return None,
            Err(Some(why)) => board.trouble(&why, Some(id.to_owned())),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Writes until it is written. Gives where, if it is held.
///
/// # Errors
/// It will never be taken: why.
async fn carry_out(
    outlet: &Outlet,
    board: &Board,
    failures: &prometheus_client::metrics::counter::Counter,
    id: &str,
    mut write: Write,
) -> Result<Option<i64>, String> {
    let mut pause = PAUSE;
    loop {
        let written = match &write {
            Write::Held(held) => outlet
                .hold(id, held.as_ref())
                .await
                .map(|at| held.as_ref().map(|_| at)),
            Write::Record(record) => outlet.write(record.clone()).await.map(|_| None),
        };
        let failure = match written {
            Ok(at) => return Ok(at),
            Err(failure) => failure,
        };
        failures.inc();
        let never = matches!(
            failure.class,
            ErrorClass::TooLarge | ErrorClass::BrokerRejected | ErrorClass::InvalidRequest
        );
        match write {
            Write::Held(Some(held)) if failure.class == ErrorClass::TooLarge && !held.elsewhere => {
                write = Write::Held(Some(held.without_value()));
                continue;
            }
            Write::Record(_) if never => return Err(failure.message.into_owned()),
            _ => {}
        }
        board.trouble(&failure.message, Some(id.to_owned()));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_event_without_its_record_is_parked_and_not_forgotten() {
        let marks = Held {
            attempts: 3,
            error: "gone".to_owned(),
            key: Some(Bytes::from_static(b"k")),
            ..Held::default()
        };
        let mut found = writes(Effect::Park, "s/t/0/1", "", None, marks, None, true);
        assert_eq!(found.len(), 1);
        let Some(Write::Held(Some(held))) = found.pop() else {
            panic!("what says that it is held no more is written");
        };
        assert_eq!((held.state(), held.attempts), (Why::Parked, 3));
        assert_eq!(
            (held.key.as_deref(), held.error.as_str()),
            (Some(&b"k"[..]), "gone")
        );
        // It is looked for where it is from, should somebody try it again.
        assert!(held.record(&Arc::from("t"), 0, 1).is_none());
    }
}

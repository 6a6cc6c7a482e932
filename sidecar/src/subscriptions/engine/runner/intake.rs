//! Partitions come and go, and their records come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{At, Entry, Part, Phase};
use super::{HAND_OVER, Known, Runner, Starts, Step};
use crate::epoch::now_ms;
use crate::kafka::group::{self, Partition, Revocation};
use crate::kafka::reader::Record;
use crate::subscriptions::engine::held::Why;
use crate::subscriptions::engine::lanes;
use crate::subscriptions::engine::outlet::{Found, Outlet};
use crate::subscriptions::engine::prefix::{Prefix, Taken};
use crate::subscriptions::engine::progress::Progresses;
use crate::subscriptions::event::Deliver;

/// The pause before what is held is looked for again, when that failed.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

/// Has it known which workflows of partitions were started.
async fn started(outlet: &Outlet, starts: Option<&Starts>, of: &[Partition]) -> Result<(), String> {
    let Some(Starts { service, runs }) = starts else {
        return Ok(());
    };
    let of = of.iter().map(|(_, partition)| *partition).collect();
    let mut found = outlet.started(service, &of).await?;
    for partition in of {
        runs.found(partition, found.take(partition));
    }
    Ok(())
}

/// Partitions on their way to another member.
pub(super) struct Closing {
    pub(super) parts: Vec<lanes::Part>,
    pub(super) until: Instant,
    revocation: Revocation,
}

impl<D: Deliver> Runner<D> {
    /// Partitions are ours now. Nothing of them is delivered before it is known what is held of them.
    pub(super) fn assigned(&mut self, partitions: &[Partition]) {
        let mut parts = Vec::new();
        for key in partitions {
            let number = self.number();
            let part = Part {
                topic: Arc::clone(&key.0),
                partition: key.1,
                prefix: Prefix::new(),
                phase: Phase::Loading,
                buffered: 0,
                bytes: 0,
                busy: 0,
                paused: false,
                end: None,
                committed: None,
                held: BTreeMap::new(),
                early: Vec::new(),
            };
            if let Some(old) = self.by_name.insert(key.clone(), number) {
                self.drop_part(old);
                self.by_name.insert(key.clone(), number);
            }
            self.parts.insert(number, part);
            self.enter_runs(key.1);
            parts.push(number);
        }
        self.joined();
        if parts.is_empty() {
            return;
        }
        let starts = self.starts.clone();
        let (outlet, board, id, member, of) = (
            Arc::clone(&self.outlet),
            Arc::clone(&self.board),
            Arc::clone(&self.id),
            Arc::clone(&self.member),
            partitions.to_vec(),
        );
        self.steps.spawn(async move {
            loop {
                let known = async {
                    started(&outlet, starts.as_ref(), &of).await?;
                    let held = outlet.load(&id, &of).await?;
                    let progress = member.progress(&of).await.map_err(|error| match error {
                        // Its partitions are nobody's of ours any more: an event says so.
                        group::Error::NotMember { .. } => None,
                        error => Some(error.to_string()),
                    })?;
                    Ok::<_, Option<String>>(Known { held, progress })
                };
                match known.await {
                    Ok(known) => return Step::Loaded(parts, known),
                    Err(Some(why)) => board.trouble(&why, None),
                    Err(None) => {}
                }
                tokio::time::sleep(LOAD_AGAIN).await;
            }
        });
    }

    /// It is known what is held of partitions, which comes before what was read since, and how far they are.
    pub(super) fn loaded(&mut self, parts: &[lanes::Part], mut known: Known) {
        for number in parts {
            let Some(part) = self.parts.get_mut(number) else {
                continue;
            };
            if part.phase != Phase::Loading {
                // It goes to another member already.
                continue;
            }
            part.phase = Phase::Active;
            let early = std::mem::take(&mut part.early);
            let key = (Arc::clone(&part.topic), part.partition);
            if let Some(progress) = known.progress.remove(&key) {
                part.prefix.go_on(progress);
            }
            for held in known.held.remove(&key).unwrap_or_default() {
                self.restore(*number, held);
            }
            for record in early {
                self.record(record);
            }
        }
    }

    fn restore(&mut self, number: lanes::Part, found: Found) {
        let Found { offset, at, held } = found;
        let ticket = self.number();
        let (now, state) = (Instant::now(), held.state());
        let wait = u64::try_from(held.due_ms - now_ms()).unwrap_or_default();
        let due = (state == Why::Retrying).then(|| now + Duration::from_millis(wait));
        let entry = Entry {
            part: number,
            offset,
            key: held.key,
            record: None,
            size: 0,
            at: match state {
                Why::Parked => At::Parked,
                Why::Retrying => At::Held,
                Why::Waiting | Why::Unspecified => At::Queued,
            },
            tracked: false,
            held: Some(at),
            attempts: held.attempts,
            first_failed_ms: held.first_failed_ms,
            due,
            alone: false,
            error: held.error,
            status: held.status.and_then(|status| u16::try_from(status).ok()),
            replay: None,
        };
        let lane = self.lane(ticket, number, entry.key.as_ref());
        self.entries.insert(ticket, entry);
        if let Some(part) = self.parts.get_mut(&number) {
            part.held.insert(offset, ticket);
        }
        match (state, due) {
            (Why::Parked, _) => {}
            (_, Some(due)) => {
                self.lanes.offer_held(ticket, lane);
                self.due.insert((due, ticket));
            }
            (_, None) => self.lanes.offer(ticket, lane),
        }
    }

    /// A record came.
    pub(super) fn record(&mut self, record: Arc<Record>) {
        let key = (Arc::clone(&record.topic), record.partition);
        let Some(number) = self.by_name.get(&key).copied() else {
            return;
        };
        let Some(part) = self.parts.get_mut(&number) else {
            return;
        };
        match part.phase {
            Phase::Closing => return,
            Phase::Loading => return part.early.push(record),
            Phase::Active => {}
        }
        let taken = part.prefix.take(record.offset);
        part.end = part.end.max(Some(record.offset + 1));
        match taken {
            Taken::New => {}
            Taken::Finished | Taken::Again => return,
        }
        if part.held.contains_key(&record.offset) {
            // It was held before its offset could be committed.
            part.prefix.finish(record.offset);
            return;
        }
        part.buffered += 1;
        part.bytes += record.size();
        let ticket = self.number();
        let lane = self.lane(ticket, number, record.key.as_ref());
        self.entries.insert(ticket, Entry::new(number, record));
        self.lanes.offer(ticket, lane);
        if self.lanes.is_held(ticket) {
            self.spill(ticket);
        }
    }

    /// There is nothing more in a partition, up to an offset.
    pub(super) fn ended(&mut self, key: &Partition, end: i64) {
        let part = self
            .by_name
            .get(key)
            .and_then(|number| self.parts.get_mut(number));
        if let Some(part) = part {
            // In a batch, what came after the end may be told before it.
            part.end = part.end.max(Some(end));
            if part.phase == Phase::Active && !part.paused {
                // Past transaction markers; and so that a group that starts at the end is not moved on by a restart. Never from
                // before a pause, which has what was fetched come again; the end is told anew after it.
                part.prefix.reach(end);
            }
        }
    }

    /// Partitions go to another member, once what is under way is finished.
    pub(super) fn revoked(&mut self, revocation: Revocation) {
        let mut parts = Vec::new();
        for key in &revocation.partitions {
            if let Some(number) = self.by_name.get(key).copied() {
                self.close_part(number);
                parts.push(number);
            }
        }
        self.closing.push(Closing {
            parts,
            until: Instant::now() + HAND_OVER,
            revocation,
        });
    }

    /// Whether an event's partition goes to another member.
    pub(super) fn is_leaving(&self, ticket: lanes::Ticket) -> bool {
        let part = self
            .entries
            .get(&ticket)
            .and_then(|entry| self.parts.get(&entry.part));
        part.is_none_or(|part| part.phase == Phase::Closing)
    }

    /// What came back of partitions that are being closed is not begun again.
    pub(super) fn sweep(&mut self) {
        if !std::mem::take(&mut self.unswept) {
            return;
        }
        let closing = self
            .closing
            .iter()
            .flat_map(|closing| closing.parts.iter().copied());
        for number in closing.collect::<Vec<_>>() {
            self.close_part(number);
        }
    }

    /// Nothing more of a partition is begun.
    fn close_part(&mut self, number: lanes::Part) {
        if let Some(part) = self.parts.get_mut(&number) {
            part.phase = Phase::Closing;
            part.early.clear();
        }
        let of_part = |entry: &Entry| entry.part == number;
        let idle = |entry: &Entry| matches!(entry.at, At::Queued | At::Held | At::Parked);
        let idle: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| of_part(entry) && idle(entry))
            .map(|(ticket, _)| *ticket)
            .collect();
        // Of a lane whose first event is under way, nothing else is to come.
        self.lanes.drop_waiting(number);
        for ticket in idle {
            self.leave_behind(ticket);
        }
    }

    /// Gives up partitions that nothing is under way for any more, or for too long: their positions are committed first.
    pub(super) fn close_what_is_done(&mut self) {
        let now = Instant::now();
        let mut at = 0;
        while let Some(closing) = self.closing.get(at) {
            let busy = closing
                .parts
                .iter()
                .any(|number| self.parts.get(number).is_some_and(|part| part.busy > 0));
            // Of two commits either may be the last.
            if (busy || self.committing) && now < closing.until {
                at += 1;
                continue;
            }
            let Closing {
                parts, revocation, ..
            } = self.closing.swap_remove(at);
            let mut progress = Progresses::new();
            for number in parts {
                progress.extend(self.parts.get(&number).and_then(Part::to_commit));
                self.drop_part(number);
            }
            self.handing_over += 1;
            let member = Arc::clone(&self.member);
            self.steps.spawn(async move {
                let committed = member.commit(&progress).await;
                drop(revocation);
                Step::Closed(committed.err())
            });
        }
    }

    /// Partitions are somebody else's already.
    pub(super) fn lost(&mut self, partitions: &[Partition]) {
        for key in partitions {
            if let Some(number) = self.by_name.get(key).copied() {
                self.drop_part(number);
            }
        }
    }

    /// Forgets a partition, and gives up what is under way for it.
    fn drop_part(&mut self, number: lanes::Part) {
        let under_way: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| {
                let entries = request
                    .tickets
                    .iter()
                    .filter_map(|ticket| self.entries.get(ticket));
                entries.into_iter().any(|entry| entry.part == number)
            })
            .map(|(request, _)| *request)
            .collect();
        for request in under_way {
            self.give_up(request);
        }
        let of_part = self.entries.iter().filter(|(_, entry)| entry.part == number);
        let tickets: Vec<_> = of_part.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.leave_behind(ticket);
        }
        self.lanes.drop_part(number);
        if let Some(part) = self.parts.remove(&number) {
            self.leave_runs(part.partition);
            let key = (part.topic, part.partition);
            if self.by_name.get(&key) == Some(&number) {
                self.by_name.remove(&key);
            }
        }
        self.replays.retain(|_, replay| replay.part != number);
    }

    /// Has the member take no more of partitions that have as much in memory as they may, and go on with others.
    pub(super) fn flow(&mut self) {
        let count = self.parts.len().max(1);
        let records = (self.spec.buffer.records / count).max(1);
        let bytes = (self.spec.buffer.bytes / count).max(1);
        let (mut stop, mut go) = (Vec::new(), Vec::new());
        for part in self.parts.values_mut() {
            let full = part.buffered >= records || part.bytes >= bytes;
            let some = part.buffered > records / 2 || part.bytes > bytes / 2;
            let pause = part.phase != Phase::Active || full || (part.paused && some);
            if pause != part.paused {
                part.paused = pause;
                let list = if pause { &mut stop } else { &mut go };
                list.push((Arc::clone(&part.topic), part.partition));
            }
        }
        for result in [
            (!stop.is_empty()).then(|| self.member.pause(&stop)),
            (!go.is_empty()).then(|| self.member.resume(&go)),
        ] {
            if let Some(Err(error)) = result {
                // A partition that is no longer ours: an event says so.
                tracing::debug!(subscription = &*self.id, %error, "cannot pause or resume");
            }
        }
    }
}

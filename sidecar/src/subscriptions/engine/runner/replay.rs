//! Delivering what was delivered before.

use std::sync::Arc;

use super::state::{Entry, Phase};
use super::{Runner, Step};
use crate::kafka::reader::{Batch, Limits, Record};
use crate::subscriptions::engine::lanes;
use crate::subscriptions::event::Deliver;
use crate::subscriptions::running::{Refused, Told};

/// Records of a replay that are in memory, and their bytes.
const PAGE: Limits = Limits {
    records: 200,
    bytes: 4 << 20,
};

/// A range of offsets that is delivered again.
pub(super) struct Replay {
    pub(super) part: lanes::Part,
    next: i64,
    to: i64,
    /// Its events that are not finished.
    pending: usize,
    /// More is being read.
    reading: bool,
}

impl<D: Deliver> Runner<D> {
    /// Begins to deliver a range of offsets of a partition again.
    pub(super) fn replay(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<Told, Refused> {
        if from < 0 || to <= from {
            let why = format!(
                "a range goes from an offset to a later one, which is not part of it: not from {from} to {to}"
            );
            return Err(Refused::Invalid(why));
        }
        let found = self.by_name.get(&(Arc::from(topic), partition)).copied();
        let active = |part: &lanes::Part| {
            self.parts
                .get(part)
                .is_some_and(|part| part.phase == Phase::Active)
        };
        let Some(part) = found.filter(active) else {
            return Err(Refused::Invalid(format!(
                "partition {partition} of topic {topic} is not with this sidecar: ask the one that has it"
            )));
        };
        let position = self.parts.get(&part).and_then(|part| part.prefix.position());
        if position.is_none_or(|position| to > position) {
            return Err(Refused::Invalid(format!(
                "offsets up to {to} were not all delivered yet: the position is {}",
                position.unwrap_or_default()
            )));
        }
        let number = self.number();
        let replay = Replay {
            part,
            next: from,
            to,
            pending: 0,
            reading: false,
        };
        self.replays.insert(number, replay);
        self.read_on(number);
        Ok(Told::Replaying(to - from))
    }

    /// Reads more of a replay, if there is room; forgets it when it is over.
    fn read_on(&mut self, number: u64) {
        let Some(replay) = self.replays.get_mut(&number) else {
            return;
        };
        if replay.next >= replay.to && replay.pending == 0 && !replay.reading {
            self.replays.remove(&number);
            return;
        }
        if replay.reading || replay.next >= replay.to || replay.pending > PAGE.records / 2 {
            return;
        }
        let Some(part) = self.parts.get(&replay.part) else {
            self.replays.remove(&number);
            return;
        };
        replay.reading = true;
        let (topic, partition, next) = (Arc::clone(&part.topic), part.partition, replay.next);
        let outlet = Arc::clone(&self.outlet);
        self.steps.spawn(async move {
            let page = outlet.reader().read(&topic, partition, next, PAGE).await;
            Step::Page(number, page.map_err(|error| error.to_string()))
        });
    }

    /// A page of a replay is there.
    pub(super) fn page(&mut self, number: u64, page: Result<Batch, String>) {
        let Some(replay) = self.replays.get_mut(&number) else {
            return;
        };
        replay.reading = false;
        let (part, to) = (replay.part, replay.to);
        match page {
            Ok(page) => {
                let stuck = page.next <= replay.next && page.records.is_empty();
                replay.next = if stuck { to } else { page.next };
                let wanted: Vec<Arc<Record>> = page
                    .records
                    .into_iter()
                    .filter(|record| record.offset < to)
                    .collect();
                for record in wanted {
                    self.deliver_again(number, part, record);
                }
            }
            Err(why) => {
                replay.next = to;
                self.trouble(&format!("a replay ended early: {why}"), None);
            }
        }
        self.read_on(number);
    }

    fn deliver_again(&mut self, number: u64, part: lanes::Part, record: Arc<Record>) {
        let held = |part: &super::Part| part.held.contains_key(&record.offset);
        if self.parts.get(&part).is_none_or(held) {
            // It will be delivered anyway, or somebody is to say so.
            return;
        }
        let ticket = self.number();
        let lane = self.lane(ticket, part, record.key.as_ref());
        let entry = Entry {
            tracked: false,
            replay: Some(number),
            ..Entry::new(part, record)
        };
        self.entries.insert(ticket, entry);
        self.lanes.offer(ticket, lane);
        if let Some(replay) = self.replays.get_mut(&number) {
            replay.pending += 1;
        }
    }

    /// An event of a replay is finished.
    pub(super) fn replayed(&mut self, number: u64) {
        if let Some(replay) = self.replays.get_mut(&number) {
            replay.pending = replay.pending.saturating_sub(1);
        }
        self.read_on(number);
    }
}

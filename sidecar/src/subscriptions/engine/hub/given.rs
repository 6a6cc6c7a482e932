//! What those that sit at a hub are given: partitions once the member has them of all topics, and their records.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Hub, Place, State, hold_on};
use crate::kafka::group::{Batch, Event, Member, Partition, Revocation};

impl Hub {
    pub(super) fn assigned(&self, member: &Member, partitions: Vec<Partition>) {
        let mut state = self.state();
        for partition in &partitions {
            state.finished.remove(partition);
            state.before.remove(partition);
            state.sought.remove(partition);
        }
        state.has.extend(partitions);
        let topics = self.together.topics();
        let complete = |state: &State, partition: &Partition| {
            topics
                .iter()
                .all(|topic| state.has.contains(&(Arc::from(topic.as_str()), partition.1)))
        };
        let (mut ready, mut not_yet) = (Vec::new(), Vec::new());
        for partition in &state.has {
            if state.given.contains(partition) {
                continue;
            }
            let read = state.seats.keys().any(|id| self.reads(id, &partition.0));
            if complete(&state, partition) && read {
                ready.push(partition.clone());
            } else {
                not_yet.push(partition.clone());
            }
        }
        hold_on(member.pause(&not_yet));
        state.held_back.extend(not_yet);
        let late = ready
            .iter()
            .filter(|partition| state.held_back.contains(*partition));
        let late: Vec<Partition> = late.cloned().collect();
        hold_on(member.resume(&late));
        for partition in &late {
            state.held_back.remove(partition);
        }
        state.given.extend(ready.iter().cloned());
        let ids: Vec<Arc<str>> = state.seats.keys().cloned().collect();
        for id in ids {
            let own = ready.iter().filter(|partition| self.reads(&id, &partition.0));
            let own = own.cloned().collect();
            state.tell_one(&id, Event::Assigned(own));
        }
        for partition in ready {
            if let Some(batch) = state.early.remove(&partition) {
                self.hand_on(&state, batch);
            }
        }
    }

    /// Takes partitions from the seats, and gives which each one had.
    pub(super) fn taken_away(
        &self,
        state: &mut State,
        partitions: &[Partition],
    ) -> Vec<(Arc<str>, Vec<Partition>)> {
        let mut gone = Vec::new();
        for partition in partitions {
            state.has.remove(partition);
            state.early.remove(partition);
            state.held_back.remove(partition);
            state.paused.remove(partition);
            if state.given.remove(partition) {
                gone.push(partition.clone());
            }
        }
        let seats = state.seats.keys().map(|id| {
            let own = gone.iter().filter(|partition| self.reads(id, &partition.0));
            (Arc::clone(id), own.cloned().collect::<Vec<_>>())
        });
        seats.filter(|(_, own)| !own.is_empty()).collect()
    }

    pub(super) fn revoked(&self, revocation: &Revocation) {
        let mut state = self.state();
        for (id, own) in self.taken_away(&mut state, &revocation.partitions) {
            state.tell_one(&id, Event::Revoked(revocation.part(own)));
        }
    }

    pub(super) fn batch(&self, batch: Batch) {
        let mut state = self.state();
        let mut given = Batch::default();
        for record in batch.records {
            let partition = (Arc::clone(&record.topic), record.partition);
            if state.given.contains(&partition) {
                given.records.push(record);
            } else if state.has.contains(&partition) {
                state.early.entry(partition).or_default().records.push(record);
            }
        }
        for (partition, end) in batch.ends {
            if state.given.contains(&partition) {
                given.ends.push((partition, end));
            } else if state.has.contains(&partition) {
                let early = state.early.entry(partition.clone()).or_default();
                early.ends.push((partition, end));
            }
        }
        self.hand_on(&state, given);
    }

    /// Hands records to those that read their topics.
    fn hand_on(&self, state: &State, batch: Batch) {
        let seats = state.seats.iter();
        let mut seats: Vec<(&Arc<str>, &Place, Batch)> =
            seats.map(|(id, place)| (id, place, Batch::default())).collect();
        for record in batch.records {
            let mut readers = self.readers(&mut seats, &record.topic);
            let Some(one) = readers.next() else { continue };
            for other in readers {
                other.records.push(Arc::clone(&record));
            }
            one.records.push(record);
        }
        for (partition, end) in batch.ends {
            for own in self.readers(&mut seats, &partition.0) {
                own.ends.push((partition.clone(), end));
            }
        }
        for (_, place, own) in seats {
            if own.records.is_empty() && own.ends.is_empty() {
                continue;
            }
            place.queued.fetch_add(1, Ordering::AcqRel);
            // Whoever has gone need not have it.
            drop(place.events.send(Event::Batch(own)));
        }
    }

    fn readers<'a>(
        &self,
        seats: &'a mut [(&Arc<str>, &Place, Batch)],
        topic: &str,
    ) -> impl Iterator<Item = &'a mut Batch> {
        let seats = seats.iter_mut().filter(move |(id, ..)| self.reads(id, topic));
        seats.map(|(.., own)| own)
    }
}

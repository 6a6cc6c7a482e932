//! What those that sit at a hub ask of its member.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Hub, hold_on};
use crate::kafka::group::{Error, Mark, Marks, Member, Partition};
use crate::kafka::reader::Offsets;
use crate::subscriptions::engine::progress::{self, Progress, Progresses};

impl Hub {
    fn member(&self) -> Result<Arc<Member>, Error> {
        self.state().member.clone().ok_or_else(|| Error::NotMember {
            group: self.together.group.clone(),
            why: "the member has left".to_owned(),
        })
    }

    /// How far a seat is: what all that read a partition have finished of it is committed, and beside it what each has.
    pub(super) async fn commit(&self, id: &Arc<str>, progress: &Progresses) -> Result<(), Error> {
        let _one = self.commits.lock().await;
        let marks = self.merged(id, progress);
        if marks.is_empty() {
            return Ok(());
        }
        self.member()?.commit_marks(&marks).await
    }

    fn merged(&self, id: &Arc<str>, progress: &Progresses) -> Marks {
        let mut state = self.state();
        let mut marks = Marks::new();
        for (partition, progress) in progress {
            if state.sought.contains(partition) {
                continue;
            }
            let before = state.before.get(partition).cloned();
            let finished = state.finished.entry(partition.clone()).or_default();
            finished.insert(Arc::clone(id), progress.clone());
            let of = |id: &str| {
                let told = finished.get(id).cloned();
                // One that does not run, or not yet, is where it was.
                told.or_else(|| before.as_ref().map(|mark| progress_of(mark, id)))
            };
            let readers = self.together.members.keys();
            let readers = readers.filter(|id| self.reads(id, &partition.0));
            let each: Option<BTreeMap<&str, Progress>> = readers.map(|id| Some((&**id, of(id)?))).collect();
            let merged = each.and_then(|each| mark(&each));
            marks.extend(merged.map(|mark| (partition.clone(), mark)));
        }
        marks
    }

    /// Commits positions for all that read the partitions: nothing is committed over them before the member joins anew.
    pub(super) async fn seek(&self, positions: &Offsets) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let _one = self.commits.lock().await;
        self.state().sought.extend(positions.keys().cloned());
        self.member()?.commit(positions).await
    }

    /// What is committed of partitions, and beside it.
    pub(super) async fn marks(&self, of: &[Partition]) -> Result<Marks, Error> {
        let marks = self.member()?.marks(of).await?;
        self.state().before.extend(marks.clone());
        Ok(marks)
    }

    pub(super) fn pause(&self, id: &Arc<str>, partitions: &[Partition]) -> Result<(), Error> {
        let mut state = self.state();
        for partition in partitions {
            let paused = state.paused.entry(partition.clone()).or_default();
            paused.insert(Arc::clone(id));
        }
        match &state.member {
            Some(member) => member.pause(partitions),
            None => Ok(()),
        }
    }

    pub(super) fn resume(&self, id: &str, partitions: &[Partition]) -> Result<(), Error> {
        let mut state = self.state();
        let mut free = Vec::new();
        for partition in partitions {
            if let Some(paused) = state.paused.get_mut(partition) {
                paused.remove(id);
                if paused.is_empty() {
                    state.paused.remove(partition);
                }
            }
            if !state.paused.contains_key(partition) && state.given.contains(partition) {
                free.push(partition.clone());
            }
        }
        match &state.member {
            Some(member) if !free.is_empty() => member.resume(&free),
            _ => Ok(()),
        }
    }

    /// A subscription reads no more. What nobody else reads is left there.
    pub(super) fn stand_up(&self, id: &Arc<str>, number: usize) {
        let mut state = self.state();
        if state.seats.get(id).is_none_or(|place| place.number != number) {
            return;
        }
        state.seats.remove(id);
        let (mut alone, mut others) = (Vec::new(), Vec::new());
        for partition in state.given.iter().filter(|(topic, _)| self.reads(id, topic)) {
            if state.seats.keys().any(|other| self.reads(other, &partition.0)) {
                others.push(partition.clone());
            } else {
                alone.push(partition.clone());
            }
        }
        if let Some(member) = &state.member {
            hold_on(member.pause(&alone));
        }
        drop(state);
        hold_on(self.resume(id, &others));
        self.changed.notify_one();
    }
}

/// How far a subscription was when this was committed.
pub(super) fn progress_of(mark: &Mark, id: &str) -> Progress {
    Progress {
        position: mark.offset,
        ahead: progress::read(&mark.note, id, mark.offset),
    }
}

/// What is committed of a partition that these read.
fn mark(readers: &BTreeMap<&str, Progress>) -> Option<Mark> {
    let least = readers.values().map(|progress| progress.position).min()?;
    let readers = readers.iter().map(|(id, progress)| (*id, progress));
    Some(Mark {
        offset: least,
        note: progress::write(least, readers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_slower_one_has_not_finished_is_the_position_and_each_goes_on_where_it_was() {
        let at = |position| Progress {
            position,
            ..Progress::default()
        };
        let told = mark(&[("fast", at(9)), ("slow", at(4))].into()).unwrap();
        assert_eq!(told.offset, 4);
        let (fast, slow) = (progress_of(&told, "fast"), progress_of(&told, "slow"));
        assert!((4..9).all(|offset| fast.ahead.contains(offset)));
        assert!(!fast.ahead.contains(9) && slow.ahead.is_empty());
        // Whoever does not run is told of again as it was.
        let again = mark(&[("fast", fast), ("slow", at(6))].into()).unwrap();
        assert_eq!(again.offset, 4);
        assert!(progress_of(&again, "fast").ahead.contains(8));
        let slow = progress_of(&again, "slow").ahead;
        assert!(slow.contains(4) && slow.contains(5) && !slow.contains(6));
        assert_eq!(mark(&BTreeMap::new()), None);
    }
}

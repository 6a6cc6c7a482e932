//! What a seat has, and how far each partition is: plain bookkeeping.

use std::collections::BTreeMap;

use crate::kafka::group::Partition;
use crate::kafka::reader::Offsets;
use crate::read::cursor::Cursor;

/// The partitions that are a seat's now. All offsets are those to be read next.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    parts: BTreeMap<Partition, Part>,
    turns: u64,
    /// What clients acknowledged and Kafka does not have yet.
    acknowledged: BTreeMap<Partition, i64>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// Which assignment it is of: a partition that went and came back is another.
    since: u64,
    /// What Kafka has.
    committed: Option<i64>,
    /// What the client was given.
    sent: Option<i64>,
}

impl Ledger {
    /// The group gives partitions, of which Kafka has this.
    pub(super) fn assign(&mut self, found: impl IntoIterator<Item = (Partition, Option<i64>)>) {
        self.turns += 1;
        for (key, committed) in found {
            let part = Part {
                since: self.turns,
                committed,
                sent: None,
            };
            self.parts.insert(key, part);
        }
    }

    /// The group takes partitions away.
    pub(super) fn revoke(&mut self, gone: &[Partition]) {
        for key in gone {
            self.parts.remove(key);
        }
    }

    /// Which there are, and since which assignment.
    pub(super) fn has(&self) -> BTreeMap<Partition, u64> {
        self.parts
            .iter()
            .map(|(key, part)| (key.clone(), part.since))
            .collect()
    }

    /// Where a reader goes on that has nothing of its own to go by: after what was given, or else what is committed.
    pub(super) fn position(&self, key: &Partition) -> Option<i64> {
        let part = self.parts.get(key)?;
        part.sent.max(part.committed)
    }

    /// What is committed, or acknowledged and about to be.
    pub(super) fn committed(&self, key: &Partition) -> Option<i64> {
        let acknowledged = self.acknowledged.get(key).copied();
        self.parts
            .get(key)
            .and_then(|part| part.committed)
            .max(acknowledged)
    }

    /// The client was given everything up to `cursor`, of what it has since `has`. A partition that went meanwhile is
    /// somebody else's.
    pub(super) fn sent(&mut self, cursor: &Cursor, has: &BTreeMap<Partition, u64>) {
        for (key, part) in &mut self.parts {
            if has.get(key) != Some(&part.since) {
                continue;
            }
            if let Some(seen) = cursor.seen(&key.0, key.1) {
                part.sent = Some(seen.saturating_add(1));
            }
        }
    }

    /// A client without a position goes on where Kafka says.
    pub(super) fn rewind(&mut self) {
        for part in self.parts.values_mut() {
            part.sent = None;
        }
    }

    /// What was given and is not committed, of these partitions or of all.
    pub(super) fn due(&self, of: Option<&[Partition]>) -> Offsets {
        let wanted = |key: &Partition| of.is_none_or(|of| of.contains(key));
        let parts = self.parts.iter().filter(|(key, _)| wanted(key));
        parts
            .filter_map(|(key, part)| {
                Some((
                    key.clone(),
                    part.sent.filter(|sent| Some(*sent) > part.committed)?,
                ))
            })
            .collect()
    }

    /// What of `cursor` is to be committed before it is given: the partitions that went meanwhile are the second part.
    pub(super) fn before(
        &self,
        cursor: &Cursor,
        has: &BTreeMap<Partition, u64>,
    ) -> (Offsets, Vec<Partition>) {
        let (mut due, mut gone) = (Offsets::new(), Vec::new());
        for (key, since) in has {
            let Some(next) = cursor.seen(&key.0, key.1).map(|seen| seen.saturating_add(1)) else {
                continue;
            };
            match self.parts.get(key).filter(|part| part.since == *since) {
                None => gone.push(key.clone()),
                Some(part) if Some(next) > part.committed => drop(due.insert(key.clone(), next)),
                Some(_) => {}
            }
        }
        (due, gone)
    }

    /// The client acknowledges what `cursor` names. Never goes back.
    pub(super) fn acknowledge(&mut self, cursor: &Cursor, topics: &[std::sync::Arc<str>]) {
        for (topic, partition, seen) in cursor.iter() {
            let Some(topic) = topics.iter().find(|known| ***known == *topic) else {
                continue;
            };
            let (key, next) = ((std::sync::Arc::clone(topic), partition), seen.saturating_add(1));
            if self.committed(&key).is_none_or(|known| next > known) && next > 0 {
                self.acknowledged.insert(key, next);
            }
        }
    }

    /// What was acknowledged and Kafka does not have: of the seat's own partitions, and of others'.
    pub(super) fn owed(&self) -> (Offsets, Offsets) {
        let all = self.acknowledged.iter().map(|(key, next)| (key.clone(), *next));
        all.partition(|(key, _)| self.parts.contains_key(key))
    }

    /// Kafka has these now.
    pub(super) fn done(&mut self, positions: &Offsets) {
        for (key, next) in positions {
            if let Some(part) = self.parts.get_mut(key) {
                part.committed = part.committed.max(Some(*next));
            }
            if self.acknowledged.get(key).is_some_and(|owed| owed <= next) {
                self.acknowledged.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn key(partition: i32) -> Partition {
        (Arc::from("t"), partition)
    }

    #[test]
    fn only_what_was_given_since_it_came_is_due() {
        let mut ledger = Ledger::default();
        ledger.assign([(key(0), Some(5)), (key(1), None)]);
        let has = ledger.has();
        let mut cursor = Cursor::of("t", 0, 9);
        cursor.see("t", 1, 3);
        ledger.revoke(&[key(1)]);
        ledger.assign([(key(1), Some(2))]);
        ledger.sent(&cursor, &has);
        assert_eq!(ledger.due(None), Offsets::from([(key(0), 10)]));
        assert_eq!(ledger.position(&key(1)), Some(2));
        assert_eq!(ledger.before(&cursor, &has).1, [key(1)]);
        ledger.done(&Offsets::from([(key(0), 10)]));
        assert!(ledger.due(None).is_empty());
    }

    #[test]
    fn an_acknowledgement_never_goes_back_and_is_owed_until_kafka_has_it() {
        let topics = [Arc::from("t")];
        let mut ledger = Ledger::default();
        ledger.acknowledge(&Cursor::of("t", 0, 9), &topics);
        ledger.acknowledge(&Cursor::of("t", 0, 4), &topics);
        ledger.acknowledge(&Cursor::of("other", 0, 4), &topics);
        ledger.acknowledge(&Cursor::of("t", 2, -1), &topics);
        assert_eq!(ledger.owed(), (Offsets::new(), Offsets::from([(key(0), 10)])));
        ledger.assign([(key(0), Some(3))]);
        assert_eq!(ledger.committed(&key(0)), Some(10));
        assert_eq!(ledger.owed(), (Offsets::from([(key(0), 10)]), Offsets::new()));
        ledger.done(&Offsets::from([(key(0), 10)]));
        assert_eq!(ledger.owed(), (Offsets::new(), Offsets::new()));
        ledger.acknowledge(&Cursor::of("t", 0, 9), &topics);
        assert_eq!(ledger.owed(), (Offsets::new(), Offsets::new()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Partition 0 to 2 comes, with what Kafka has.
        Come(i32),
        Go(i32),
        /// A reader looks at what it has.
        Look,
        /// It is given one more record of each partition that it thinks it has.
        Give,
        Commit,
        Acknowledge,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..3).prop_map(Step::Come),
            (0..3).prop_map(Step::Go),
            Just(Step::Look),
            Just(Step::Give),
            Just(Step::Commit),
            Just(Step::Acknowledge),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// However partitions come and go beside what a reader does: nothing is committed of a partition that is not the
        /// seat's, and never more than its reader was given since it came, or acknowledged; and positions never go back
        /// before what Kafka has.
        #[test]
        fn nothing_is_committed_that_was_not_given(steps in steps()) {
            let topics = [Arc::from("t")];
            let mut ledger = Ledger::default();
            // What Kafka has, and what was given at most.
            let (mut kafka, mut given) = ([0_i64; 3], [0_i64; 3]);
            let mut has = BTreeMap::new();
            let mut reader: BTreeMap<Partition, i64> = BTreeMap::new();
            let mut cursor = Cursor::default();
            for step in steps {
                match step {
                    Step::Come(p) if !ledger.has().contains_key(&key(p)) => {
                        ledger.assign([(key(p), Some(kafka[usize::try_from(p).unwrap()]))]);
                    }
                    Step::Come(_) => {}
                    Step::Go(p) => ledger.revoke(&[key(p)]),
                    Step::Look => {
                        let now = ledger.has();
                        for (key, since) in &now {
                            if has.get(key) != Some(since) {
                                reader.insert(key.clone(), ledger.position(key).unwrap_or_default());
                            }
                        }
                        reader.retain(|key, _| now.contains_key(key));
                        cursor = Cursor::default();
                        for (key, next) in &reader {
                            cursor.see(&key.0, key.1, next - 1);
                        }
                        has = now;
                    }
                    Step::Give => {
                        for (key, next) in &mut reader {
                            *next += 1;
                            cursor.see(&key.0, key.1, *next - 1);
                            let given = &mut given[usize::try_from(key.1).unwrap()];
                            *given = (*given).max(*next);
                        }
                        ledger.sent(&cursor, &has);
                    }
                    Step::Commit => {
                        let due = ledger.due(None);
                        for (key, next) in &due {
                            prop_assert!(ledger.has().contains_key(key));
                            let p = usize::try_from(key.1).unwrap();
                            prop_assert!(*next <= given[p]);
                            kafka[p] = kafka[p].max(*next);
                        }
                        ledger.done(&due);
                        prop_assert!(ledger.due(None).is_empty());
                    }
                    Step::Acknowledge => {
                        ledger.acknowledge(&cursor, &topics);
                        let (own, others) = ledger.owed();
                        for (key, next) in own.iter().chain(&others) {
                            prop_assert!(*next <= given[usize::try_from(key.1).unwrap()].max(kafka[usize::try_from(key.1).unwrap()]));
                        }
                        for (key, next) in &own {
                            let p = usize::try_from(key.1).unwrap();
                            kafka[p] = kafka[p].max(*next);
                        }
                        ledger.done(&own);
                        for (key, next) in &others {
                            let p = usize::try_from(key.1).unwrap();
                            kafka[p] = kafka[p].max(*next);
                        }
                        ledger.done(&others);
                        prop_assert_eq!(ledger.owed(), (Offsets::new(), Offsets::new()));
                    }
                }
                for (key, _) in ledger.has() {
                    prop_assert!(ledger.position(&key) >= ledger.committed(&key));
                }
            }
        }
    }
}

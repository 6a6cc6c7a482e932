//! Up to where everything of a partition is finished.

use std::collections::VecDeque;

/// The offsets of one partition that were taken and are not committed yet, and which of them are finished. Only what is finished
/// without a gap from the beginning on may be committed.
#[derive(Debug)]
pub(super) struct Prefix {
    /// In order; whether each is finished. The first one is not.
    taken: VecDeque<(i64, bool)>,
    /// Everything before this is finished.
    position: Option<i64>,
}

impl Prefix {
    /// Nothing is taken yet.
    pub(super) fn new() -> Self {
        Self {
            taken: VecDeque::new(),
            position: None,
        }
    }

    /// A record was taken. Whether it is a new one: not before, or among, those that were taken already.
    pub(super) fn take(&mut self, offset: i64) -> bool {
        let next = self.taken.back().map(|(last, _)| last + 1).or(self.position);
        if next.is_some_and(|next| offset < next) {
            return false;
        }
        // Before the first one everything was finished by somebody, or skipped.
        self.position.get_or_insert(offset);
        self.taken.push_back((offset, false));
        true
    }

    /// A record is finished. Whether that moved the position.
    pub(super) fn finish(&mut self, offset: i64) -> bool {
        let Ok(at) = self.taken.binary_search_by_key(&offset, |(taken, _)| *taken) else {
            return false;
        };
        if let Some(entry) = self.taken.get_mut(at) {
            entry.1 = true;
        }
        let mut moved = false;
        while let Some((offset, true)) = self.taken.front().copied() {
            self.taken.pop_front();
            self.position = Some(offset + 1);
            moved = true;
        }
        moved
    }

    /// There is nothing more before `next`.
    pub(super) fn reach(&mut self, next: i64) {
        if self.taken.is_empty() && self.position.is_none_or(|position| position < next) {
            self.position = Some(next);
        }
    }

    /// What is to be committed: the first offset that is not finished. None before anything was taken.
    pub(super) fn position(&self) -> Option<i64> {
        match self.taken.front() {
            // What lies between two records is nobody's.
            Some((offset, _)) => Some(*offset),
            None => self.position,
        }
    }

    /// How many were taken and are not in the prefix.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_in_the_offsets_are_nothing_to_wait_for() {
        let mut prefix = Prefix::new();
        assert_eq!(prefix.position(), None);
        for offset in [3, 7, 8] {
            assert!(prefix.take(offset));
        }
        assert_eq!(prefix.position(), Some(3));
        assert!(!prefix.finish(7));
        assert!(prefix.finish(3));
        assert_eq!((prefix.position(), prefix.pending()), (Some(8), 1));
        assert!(prefix.finish(8) && !prefix.finish(8));
        assert_eq!(prefix.position(), Some(9));
        assert!(!prefix.take(8) && prefix.take(9));
        prefix.reach(20);
        assert_eq!(prefix.position(), Some(9));
        prefix.finish(9);
        prefix.reach(20);
        prefix.reach(5);
        assert_eq!(prefix.position(), Some(20));
    }

    proptest! {
        /// Against the definition: the smallest offset that was taken and is not finished.
        #[test]
        fn nothing_unfinished_is_before_the_position(
            gaps in prop::collection::vec(1_i64..4, 1..60),
            order in any::<prop::sample::Index>(),
            seed in any::<u64>(),
        ) {
            let mut at = 0;
            let offsets: Vec<i64> = gaps.iter().map(|gap| { at += gap; at }).collect();
            let mut prefix = Prefix::new();
            let mut open: BTreeSet<i64> = BTreeSet::new();
            let (mut taken, mut random) = (0, seed | 1);
            let mut before = None;
            while taken < offsets.len() || !open.is_empty() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let take = taken < offsets.len() && (open.is_empty() || (random >> 40) % 2 == 0);
                if take {
                    prop_assert!(prefix.take(offsets[taken]));
                    open.insert(offsets[taken]);
                    taken += 1;
                } else {
                    let all: Vec<i64> = open.iter().copied().collect();
                    let which = (order.index(all.len()) + (random >> 33) as usize) % all.len();
                    prefix.finish(all[which]);
                    open.remove(&all[which]);
                }
                let expected = open.first().copied().unwrap_or(offsets[taken - 1] + 1);
                prop_assert_eq!(prefix.position(), Some(expected));
                prop_assert!(before <= prefix.position());
                before = prefix.position();
            }
            prop_assert_eq!(prefix.pending(), 0);
        }
    }
}

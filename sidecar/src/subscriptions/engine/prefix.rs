//! Up to where everything of a partition is finished.

use std::collections::VecDeque;

use super::progress::{Progress, Ranges};

/// The offsets of one partition that were taken and are not committed yet, and which of them are finished. Only what is finished
/// without a gap from the beginning on may be committed; what is finished after it goes beside that.
#[derive(Debug)]
pub(super) struct Prefix {
    /// In order; whether each is finished. The first one is not.
    taken: VecDeque<(i64, bool)>,
    /// Everything before this is finished.
    position: Option<i64>,
    /// What was committed when the partition was taken over: the position, and what had been finished after it. Of the latter
    /// there is only what comes after everything that was taken.
    before: Option<Progress>,
}

/// What a record is that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// One to be delivered.
    New,
    /// Whoever had the partition before has finished it.
    Finished,
    /// Before, or among, those that were taken already.
    Again,
}

impl Prefix {
    /// Nothing is taken yet.
    pub(super) fn new() -> Self {
        Self {
            taken: VecDeque::new(),
            position: None,
            before: None,
        }
    }

    /// What is known of the partition before anything is taken of it.
    pub(super) fn go_on(&mut self, before: Progress) {
        self.before = Some(before);
    }

    /// A record was taken.
    pub(super) fn take(&mut self, offset: i64) -> Taken {
        let next = self.taken.back().map(|(last, _)| last + 1).or(self.position);
        if next.is_some_and(|next| offset < next) {
            return Taken::Again;
        }
        self.begin(offset);
        // Before the first one everything was finished by somebody, or skipped.
        self.position.get_or_insert(offset);
        let finished = self.before.as_mut().is_some_and(|before| {
            let finished = before.ahead.contains(offset);
            before.ahead.drop_before(offset + 1);
            finished
        });
        if finished && self.taken.is_empty() {
            self.position = Some(offset + 1);
        } else {
            self.taken.push_back((offset, finished));
        }
        if finished { Taken::Finished } else { Taken::New }
    }

    /// A partition that begins before what was committed of it is another one than it was.
    fn begin(&mut self, at: i64) {
        let other = |before: &Progress| self.position.is_none() && at < before.position;
        if self.before.as_ref().is_some_and(other) {
            self.before = None;
        }
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
        self.begin(next);
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

    /// How far it is: the position, and what is finished after it.
    pub(super) fn progress(&self) -> Option<Progress> {
        let position = self.position()?;
        let (mut ahead, mut goes_on) = (Ranges::default(), false);
        for (offset, finished) in &self.taken {
            if *finished {
                // What lies between two records is nobody's.
                ahead.go_on(*offset, goes_on);
            }
            goes_on = *finished;
        }
        for range in self.before.iter().flat_map(|before| before.ahead.iter()) {
            ahead.push(range.start.max(position)..range.end);
        }
        Some(Progress { position, ahead })
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

    use super::super::progress;
    use super::*;

    #[test]
    fn gaps_in_the_offsets_are_nothing_to_wait_for() {
        let mut prefix = Prefix::new();
        assert_eq!(prefix.position(), None);
        for offset in [3, 7, 8] {
            assert_eq!(prefix.take(offset), Taken::New);
        }
        assert_eq!(prefix.position(), Some(3));
        assert!(!prefix.finish(7));
        assert!(prefix.finish(3));
        assert_eq!((prefix.position(), prefix.pending()), (Some(8), 1));
        assert!(prefix.finish(8) && !prefix.finish(8));
        assert_eq!(prefix.position(), Some(9));
        assert_eq!([prefix.take(8), prefix.take(9)], [Taken::Again, Taken::New]);
        prefix.reach(20);
        assert_eq!(prefix.position(), Some(9));
        prefix.finish(9);
        prefix.reach(20);
        prefix.reach(5);
        assert_eq!(prefix.position(), Some(20));
    }

    #[test]
    fn a_partition_that_begins_anew_has_nothing_finished() {
        let mut first = Prefix::new();
        for offset in 10..13 {
            first.take(offset);
        }
        first.finish(11);
        let told = first.progress().unwrap();
        assert_eq!(told.position, 10);
        for begins in [0, 10, 11] {
            let mut next = Prefix::new();
            next.go_on(told.clone());
            let found: Vec<Taken> = (begins..13).map(|offset| next.take(offset)).collect();
            let finished = found.iter().filter(|taken| **taken == Taken::Finished).count();
            assert_eq!(finished, usize::from(begins > 0), "{begins}");
        }
        let mut next = Prefix::new();
        next.go_on(told);
        next.reach(5);
        assert_eq!(next.take(11), Taken::New);
    }

    proptest! {
        /// Whoever takes a partition over, however often, is given each record until it is finished, and not again.
        #[test]
        fn nothing_is_delivered_that_was_finished_and_everything_else_is(
            gaps in prop::collection::vec(1_i64..4, 1..60),
            owners in prop::collection::vec((0_usize..40, prop::collection::vec(any::<prop::sample::Index>(), 0..40)), 1..6),
        ) {
            let mut at = 0;
            let offsets: Vec<i64> = gaps.iter().map(|gap| { at += gap; at }).collect();
            let mut done: BTreeSet<i64> = BTreeSet::new();
            let mut committed: Option<(i64, String)> = None;
            for (count, finishes) in owners {
                let mut prefix = Prefix::new();
                let mut from = 0;
                if let Some((position, text)) = &committed {
                    from = *position;
                    prefix.go_on(Progress { position: *position, ahead: progress::read(text, "a", *position) });
                }
                let mut open = Vec::new();
                for offset in offsets.iter().filter(|offset| **offset >= from).take(count) {
                    match prefix.take(*offset) {
                        Taken::New => {
                            prop_assert!(!done.contains(offset), "{} again", offset);
                            open.push(*offset);
                        }
                        Taken::Finished => prop_assert!(done.contains(offset), "{} was not finished", offset),
                        Taken::Again => prop_assert!(false, "{} was not taken", offset),
                    }
                }
                for which in finishes {
                    if open.is_empty() {
                        break;
                    }
                    let offset = open.swap_remove(which.index(open.len()));
                    prefix.finish(offset);
                    done.insert(offset);
                }
                if let Some(progress) = prefix.progress() {
                    let first = offsets.iter().find(|offset| !done.contains(offset));
                    prop_assert!(first.is_none_or(|first| progress.position <= *first));
                    let text = progress::write(progress.position, [("a", &progress)].into_iter());
                    committed = Some((progress.position, text));
                }
            }
        }
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
                    prop_assert_eq!(prefix.take(offsets[taken]), Taken::New);
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

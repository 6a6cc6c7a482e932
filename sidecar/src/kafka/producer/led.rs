//! What the leaders of a topic's partitions have acknowledged by themselves (acks=1). A leader may die before the others
//! have it; the next one then gives its offsets to other records, which is how a producer learns of it.

use std::collections::{HashMap, VecDeque};

/// Ranges that are remembered of a partition. There are several where others write to it, too.
const RANGES: usize = 64;

/// Offsets of acknowledged records, by partition.
#[derive(Default)]
pub(super) struct Led(HashMap<i32, VecDeque<Range>>);

/// From the first one to before the last.
type Range = std::ops::Range<i64>;

impl Led {
    /// A record is at this offset; `counts` if somebody relies on it. Returns how many of those that did are not where
    /// they were any more: it has the place of one of them, and who gave it that has nothing behind it.
    pub(super) fn acknowledged(&mut self, partition: i32, offset: i64, counts: bool) -> u64 {
        let ranges = self.0.entry(partition).or_default();
        let mut lost = 0;
        let behind = ranges.iter().rev().take_while(|range| offset < range.end);
        if behind.last().is_some_and(|range| range.contains(&offset)) {
            while let Some(range) = ranges.back_mut().filter(|range| offset < range.end) {
                let kept = range.start..offset.max(range.start);
                lost += range.end.abs_diff(kept.end);
                *range = kept;
                if range.is_empty() {
                    ranges.pop_back();
                }
            }
        }
        if !counts {
            return lost;
        }
        // In their order, though reports of two brokers may come in another.
        let at = ranges.partition_point(|range| range.start < offset);
        match at.checked_sub(1).and_then(|before| ranges.get_mut(before)) {
            Some(before) if before.end == offset => before.end += 1,
            _ => ranges.insert(at, offset..offset + 1),
        }
        if ranges.len() > RANGES {
            ranges.pop_front();
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(led: &mut Led, offsets: impl IntoIterator<Item = i64>) -> u64 {
        offsets
            .into_iter()
            .map(|offset| led.acknowledged(0, offset, true))
            .sum()
    }

    #[test]
    fn what_goes_on_loses_nothing() {
        let mut led = Led::default();
        assert_eq!(
            of(&mut led, (0..100).chain(103..110).chain([111, 110, 102, 120])),
            0
        );
        assert_eq!(led.acknowledged(1, 50, true), 0);
    }

    #[test]
    fn an_offset_that_is_given_again_has_lost_what_was_behind_it() {
        let mut led = Led::default();
        // Others' records are at 10 to 19.
        assert_eq!(of(&mut led, (0..10).chain(20..30)), 0);
        assert_eq!(of(&mut led, 25..40), 5);
        assert_eq!(of(&mut led, 25..26), 15);
        assert_eq!(of(&mut led, [12, 22, 5]), 4 + (3 + 1 + 5));
        assert_eq!(of(&mut led, [0]), 6);
        assert_eq!(of(&mut led, 1..10), 0);
    }

    #[test]
    fn a_record_that_nobody_relies_on_tells_of_others_and_is_not_missed_itself() {
        let mut led = Led::default();
        assert_eq!(of(&mut led, 0..10), 0);
        assert_eq!(led.acknowledged(0, 6, false), 4);
        assert_eq!(led.acknowledged(0, 7, false), 0);
        assert_eq!(of(&mut led, 6..9), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut led = Led::default();
        assert_eq!(of(&mut led, (0..1000).map(|number| number * 2)), 0);
        assert_eq!(led.0[&0].len(), RANGES);
        assert_eq!(led.acknowledged(0, (1000 - 64) * 2, true), 64);
    }
}

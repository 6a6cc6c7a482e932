//! How far a partition is: everything before its position is finished, and of what comes after it some may be too.
//!
//! Kafka keeps one position of a partition, and beside it a text of whoever committed it (`metadata` of OffsetCommit, 4096
//! characters at most unless the brokers' `offset.metadata.max.bytes` says otherwise). What is finished behind the position is
//! written there, so that whoever takes the partition over does not deliver it again. It is committed with the position it
//! belongs to, in one go: whoever sets another position, a seek or another program, takes it away.
//!
//! The text is `sluice1`, and for each subscription that reads the partition ` {id}={code}`: in base64url, numbers one behind the
//! other, how many offsets are not finished, how many then are, and so on, from the position on. A number `n` is Elias' gamma
//! code: as many zero bits as `n` has bits after its first one, and then `n`. So offsets that are finished by turns take one bit
//! each, and long runs take few. What does not fit is left out, from the end: it is delivered again.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::kafka::group::Partition;

/// The most characters of the text. Kafka's own default for `offset.metadata.max.bytes`.
const MOST: usize = 4096;
/// What the text begins with.
const VERSION: &str = "sluice1";
/// The longest gamma code of a number that there can be: of one below 2^63.
const LONGEST: u32 = 62;

/// How far partitions are.
pub(super) type Progresses = BTreeMap<Partition, Progress>;

/// How far a partition is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything before this offset is finished.
    pub(super) position: i64,
    /// What is finished after it.
    pub(super) ahead: Ranges,
}

/// Offsets: ranges in order that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(VecDeque<Range<i64>>);

impl Ranges {
    /// Adds a range that does not begin before the last one does.
    pub(super) fn push(&mut self, range: Range<i64>) {
        match self.0.back_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.0.push_back(range),
        }
    }

    /// Has the last range end there, or begins one with that offset.
    pub(super) fn go_on(&mut self, offset: i64, goes_on: bool) {
        match self.0.back_mut() {
            Some(last) if goes_on => last.end = offset + 1,
            _ => self.push(offset..offset + 1),
        }
    }

    /// Forgets what is before an offset.
    pub(super) fn drop_before(&mut self, offset: i64) {
        while let Some(first) = self.0.front_mut() {
            if first.end > offset {
                first.start = first.start.max(offset);
                return;
            }
            self.0.pop_front();
        }
    }

    /// Whether an offset is among them.
    pub(super) fn contains(&self, offset: i64) -> bool {
        let at = self.0.partition_point(|range| range.end <= offset);
        self.0.get(at).is_some_and(|range| range.contains(&offset))
    }

    /// Them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<i64>> {
        self.0.iter()
    }

    /// Whether there are none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Progress {
    /// What is finished from `base` on, which is not after the position.
    fn since(&self, base: i64) -> Ranges {
        let mut all = Ranges::default();
        all.push(base..self.position);
        for range in self.ahead.iter() {
            all.push(range.clone());
        }
        all
    }
}

/// The text that goes with the position `base`, up to which all who read the partition have finished it; empty if nobody is further.
pub(super) fn write<'a>(
    base: i64,
    readers: impl ExactSizeIterator<Item = (&'a str, &'a Progress)>,
) -> String {
    let room = (MOST - VERSION.len()) / readers.len().max(1);
    let mut text = String::new();
    for (id, progress) in readers {
        let finished = progress.since(base);
        let code = encode(base, &finished, room.saturating_sub(id.len() + 2));
        if !code.is_empty() {
            text += &format!(" {id}={code}");
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("{VERSION}{text}")
}

/// What the text beside the position `base` says that the subscription `id` has finished. Whatever it is that somebody else
/// wrote there says nothing.
pub(super) fn read(text: &str, id: &str, base: i64) -> Ranges {
    let mut words = text.split(' ');
    if words.next() != Some(VERSION) {
        return Ranges::default();
    }
    let code = words.find_map(|word| word.strip_prefix(id)?.strip_prefix('='));
    code.and_then(|code| decode(base, code)).unwrap_or_default()
}

/// The code of ranges, in `most` characters at most.
fn encode(base: i64, ranges: &Ranges, most: usize) -> String {
    // Six bits a character, in whole bytes.
    let most = most / 4 * 24;
    let mut bits = Bits::default();
    let mut at = base;
    for range in ranges.iter() {
        // Only the first gap can be none.
        let gap = range.start - at + i64::from(at == base);
        let run = range.end - range.start;
        if bits.len + gamma_len(gap) + gamma_len(run) > most {
            break;
        }
        bits.gamma(gap);
        bits.gamma(run);
        at = range.end;
    }
    URL_SAFE_NO_PAD.encode(bits.bytes)
}

/// None: it is no such code.
fn decode(base: i64, code: &str) -> Option<Ranges> {
    let bytes = URL_SAFE_NO_PAD.decode(code).ok()?;
    let mut bits = Read { bytes: &bytes, at: 0 };
    let (mut ranges, mut at) = (Ranges::default(), base);
    while let Some(gap) = bits.gamma() {
        let run = bits.gamma()?;
        let start = at.checked_add(gap - i64::from(at == base))?;
        at = start.checked_add(run)?;
        ranges.push(start..at);
    }
    // What is left fills the last byte.
    (bits.left() < 8).then_some(ranges)
}

fn gamma_len(n: i64) -> usize {
    usize::try_from(2 * n.max(1).ilog2() + 1).unwrap_or_default()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.len % 8);
        }
        self.len += 1;
    }

    fn gamma(&mut self, n: i64) {
        let n = n.max(1);
        let after = n.ilog2();
        (0..after).for_each(|_| self.push(false));
        (0..=after).rev().for_each(|bit| self.push((n >> bit) & 1 == 1));
    }
}

struct Read<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Read<'_> {
    fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = (byte >> (7 - self.at % 8)) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    /// None at the end, or if it is none; then it is where it was.
    fn gamma(&mut self) -> Option<i64> {
        let begun = self.at;
        let mut read = || {
            let mut after = 0;
            while !self.bit()? {
                after += 1;
            }
            let mut n = 1_i64;
            for _ in 0..(after <= LONGEST).then_some(after)? {
                n = (n << 1) | i64::from(self.bit()?);
            }
            Some(n)
        };
        let n = read();
        if n.is_none() {
            self.at = begun;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ranges: &[Range<i64>]) -> Ranges {
        let mut all = Ranges::default();
        for range in ranges {
            all.push(range.clone());
        }
        all
    }

    fn progress(position: i64, ahead: &[Range<i64>]) -> Progress {
        Progress {
            position,
            ahead: of(ahead),
        }
    }

    #[test]
    fn what_is_written_is_short_and_comes_back_to_whom_it_is_of() {
        let (a, b) = (progress(100, &[101..103, 110..111]), progress(105, &[]));
        let text = write(100, [("a", &a), ("a.b", &b)].into_iter());
        assert_eq!(read(&text, "a", 100), a.ahead);
        assert_eq!(read(&text, "a.b", 100), b.since(100));
        assert_eq!(read(&text, "c", 100), Ranges::default());
        // 010 010 00111 1, and 1 00101.
        assert_eq!(text, "sluice1 a=SPA a.b=lA");
        assert_eq!(write(100, [("a", &progress(100, &[]))].into_iter()), "");
        // By turns, as a key that waits has the others: a bit each.
        let by_turns: Vec<Range<i64>> = (0..5000).map(|n| 2 * n + 1..2 * n + 2).collect();
        let text = write(0, [("a", &progress(0, &by_turns))].into_iter());
        assert!(text.len() < 1700, "{}", text.len());
        assert_eq!(read(&text, "a", 0), of(&by_turns));
    }

    #[test]
    fn any_16_000_offsets_fit() {
        for run in 1..9 {
            let mut all = Ranges::default();
            for start in (run..16_000 - run).step_by(2 * usize::try_from(run).unwrap()) {
                all.push(start..start + run);
            }
            let told = Progress {
                position: 0,
                ahead: all,
            };
            let text = write(0, [("a-subscription-with-a-name", &told)].into_iter());
            assert_eq!(read(&text, "a-subscription-with-a-name", 0), told.ahead, "{run}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_says_nothing() {
        for text in [
            "",
            "sluice1",
            "sluice2 a=SPA",
            "a=SPA",
            "sluice1 a=U!w",
            "sluice1 b=SPA",
            "sluice1 a=AAAA",
            "sluice1 a=gA",
        ] {
            assert_eq!(read(text, "a", 0), Ranges::default(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_comes_back_whole_or_with_its_end_missing(
            base in 0_i64..1 << 40,
            first in 0_i64..3,
            steps in prop::collection::vec((prop_oneof![1_i64..4, 1_i64..1 << 30], prop_oneof![1_i64..4, 1_i64..1 << 30]), 0..200),
            most in 0_usize..600,
        ) {
            let (mut ranges, mut at) = (Ranges::default(), base);
            for (n, (gap, run)) in steps.into_iter().enumerate() {
                let start = at + if n == 0 { first } else { gap };
                ranges.push(start..start + run);
                at = start + run;
            }
            let code = encode(base, &ranges, most);
            prop_assert!(code.len() <= most);
            let back = decode(base, &code).unwrap();
            prop_assert!(ranges.iter().zip(back.iter()).all(|(a, b)| a == b));
            prop_assert!(back.iter().count() <= ranges.iter().count());
            let whole = encode(base, &ranges, 1 << 20);
            prop_assert_eq!(&decode(base, &whole), &Some(ranges));
            if whole.len() + 4 <= most {
                prop_assert_eq!(code, whole);
            }
        }

        #[test]
        fn foreign_text_is_nothing_or_something(text in ".{0,40}", code in "[A-Za-z0-9_-]{0,40}", base in 0_i64..100) {
            drop(read(&text, "a", base));
            let found = read(&format!("sluice1 a={code}"), "a", base);
            let mut before = base;
            for range in found.iter() {
                prop_assert!(before <= range.start && range.start < range.end);
                before = range.end + 1;
            }
        }
    }
}

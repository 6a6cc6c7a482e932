//! The comparison of what was answered with what the topic holds.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sluice_e2e::kafka::Record;

use crate::ledger::{Answer, Entry, id_in};

/// What became of a run's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were sent.
    pub sent: usize,
    /// Requests for which there was no connection: nothing was asked, and nothing is owed.
    pub not_sent: usize,
    /// Answered 2xx.
    pub success: usize,
    /// Answered 503.
    pub refused: usize,
    /// Answered 504 `outcome_unknown`.
    pub unknown: usize,
    /// Answered otherwise, without being meant to be.
    pub other: usize,
    /// The statuses of [`Counts::other`].
    pub others: std::collections::BTreeMap<u16, usize>,
    /// Poisonous ones that were refused, as they should be.
    pub poison_refused: usize,
    /// Sent, and nothing was answered.
    pub unanswered: usize,
    /// Answered 2xx and not in the topic.
    pub lost: usize,
    /// Answered 2xx and not in the topic, since the topic was deleted after that.
    pub gone: usize,
    /// Of the lost ones, those that were not answered while the fault lasted.
    pub lost_elsewhen: usize,
    /// Records that are in the topic more than once, by how many too many.
    pub duplicates: usize,
    /// Of those, of records whose answer did not say where they are: 202 and 504.
    pub unplaced_duplicates: usize,
    /// Of those, of records that were not under way while the fault lasted.
    pub duplicates_elsewhen: usize,
    /// Answered as an error that says "not stored", and in the topic.
    pub stored_though_failed: usize,
    /// Answered 504, and in the topic: allowed, and what the client must find out.
    pub unknown_stored: usize,
    /// Answered 2xx with a place where another record or none is.
    pub misplaced: usize,
    /// Records that come before another of their key which was sent only after they had been answered 2xx.
    pub order_broken: usize,
    /// Records that nobody sent, or whose key is not theirs.
    pub foreign: usize,
    /// Examples of what must not be, for people.
    pub examples: Vec<String>,
    /// All that must not be in every mode, and some of which may be in some: what it is, and the record's id.
    pub offences: Vec<(&'static str, u64)>,
}

/// How many examples of a kind are kept.
const EXAMPLES: usize = 3;

impl Counts {
    fn example(&mut self, what: &'static str, entry: &Entry, places: &[(i32, i64)]) {
        self.offences.push((what, entry.id));
        let alike = self.examples.iter().filter(|example| example.starts_with(what));
        if alike.count() < EXAMPLES {
            self.examples.push(format!("{what}: {entry:?} is at {places:?}"));
        }
    }
}

/// What happened meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meanwhile {
    /// The topic was deleted, and made again.
    pub deleted: Option<Deleted>,
    /// From when to when something was broken.
    pub fault: Option<(Duration, Duration)>,
}

/// When a topic was deleted: what it held is gone.
#[derive(Debug, Clone, Copy)]
pub struct Deleted {
    /// It took no record any more.
    pub gone: Duration,
    /// It was there again.
    pub again: Duration,
}

impl Meanwhile {
    /// Whether the record was in the topic when that was deleted, going by its answer: one that says where it is was
    /// there then, one that was only accepted went there soon after it was sent.
    fn took(&self, entry: &Entry, placed: bool) -> bool {
        let until = |deleted: &Deleted| if placed { deleted.again } else { deleted.gone };
        self.deleted.is_some_and(|deleted| entry.sent < until(&deleted))
    }

    fn during(&self, entry: &Entry) -> bool {
        self.fault
            .is_none_or(|(from, to)| entry.answered >= from && entry.sent <= to)
    }
}

/// Compares.
pub fn compare(ledger: &[Entry], records: &[Record], meanwhile: &Meanwhile) -> Counts {
    let mut counts = Counts::default();
    let known: HashMap<u64, &Entry> = ledger.iter().map(|entry| (entry.id, entry)).collect();
    let mut places: HashMap<u64, Vec<(i32, i64)>> = HashMap::new();
    for record in records {
        let found = record.value.as_deref().and_then(id_in);
        let ours = found.filter(|(id, key, _)| {
            let asked = known.get(id).is_some_and(|entry| entry.key == *key);
            asked && record.key.as_deref() == Some(key.as_bytes())
        });
        match ours {
            Some((id, ..)) => places
                .entry(id)
                .or_default()
                .push((record.partition, record.offset)),
            None => counts.foreign += 1,
        }
    }
    for entry in ledger {
        let found = places.get(&entry.id).map(Vec::as_slice).unwrap_or_default();
        if entry.answer == Answer::NotSent && found.is_empty() {
            counts.not_sent += 1;
            continue;
        }
        counts.sent += 1;
        if found.len() > 1 {
            let more = found.len() - 1;
            counts.duplicates += more;
            if matches!(entry.status(), Some(202 | 504)) {
                counts.unplaced_duplicates += more;
            }
            if !meanwhile.during(entry) {
                counts.duplicates_elsewhen += more;
            }
            counts.example("twice", entry, found);
        }
        count_answer(&mut counts, entry, found, meanwhile);
    }
    let out_of_order = order_broken(&known, records);
    counts.order_broken = out_of_order.len();
    counts
        .offences
        .extend(out_of_order.into_iter().map(|id| ("out of order", id)));
    counts
}

fn count_answer(counts: &mut Counts, entry: &Entry, found: &[(i32, i64)], meanwhile: &Meanwhile) {
    let Answer::Status { status, code, place } = &entry.answer else {
        counts.unanswered += 1;
        counts.example("unanswered", entry, found);
        return;
    };
    match status {
        200..300 => {
            counts.success += 1;
            let may_be_gone = (place.is_some() || *status == 202) && meanwhile.took(entry, place.is_some());
            if found.is_empty() && may_be_gone {
                counts.gone += 1;
            } else if found.is_empty() {
                counts.lost += 1;
                counts.lost_elsewhen += usize::from(!meanwhile.during(entry));
                counts.example("lost", entry, found);
            } else if place.is_some_and(|place| !found.contains(&place)) {
                counts.misplaced += 1;
                counts.example("elsewhere", entry, found);
            }
            return;
        }
        504 if code == "outcome_unknown" => {
            counts.unknown += 1;
            counts.unknown_stored += usize::from(!found.is_empty());
            return;
        }
        503 => counts.refused += 1,
        413 if entry.poison => counts.poison_refused += 1,
        _ => {
            counts.other += 1;
            *counts.others.entry(*status).or_default() += 1;
        }
    }
    if !found.is_empty() {
        counts.stored_though_failed += 1;
        counts.example("stored though failed", entry, found);
    }
}

/// Records that a later request's record of the same key has come before, in their partition. Requests that
/// overlapped have no order.
fn order_broken(known: &HashMap<u64, &Entry>, records: &[Record]) -> Vec<u64> {
    let mut in_order: Vec<&Record> = records.iter().collect();
    in_order.sort_unstable_by_key(|record| (record.partition, record.offset));
    // By partition and key: when the latest of the records so far was sent.
    let mut latest: HashMap<(i32, &str), Duration> = HashMap::new();
    let mut seen = HashSet::new();
    let mut broken = Vec::new();
    for record in in_order {
        let Some((id, ..)) = record.value.as_deref().and_then(id_in) else {
            continue;
        };
        let Some(entry) = known.get(&id) else { continue };
        // A duplicate is counted as one, and not as a record out of order.
        if !seen.insert(id) {
            continue;
        }
        let before = latest.entry((record.partition, &entry.key)).or_default();
        if entry.is_success() && *before > entry.answered {
            broken.push(id);
        }
        *before = entry.sent.max(*before);
    }
    broken
}

/// What a client saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whole seconds of the run in which no 2xx was answered.
    pub silent_seconds: u64,
    /// From the fault's end until requests were all answered 2xx within [`PROMPT`] again.
    pub recovered_after: Duration,
    /// Of all requests that were answered 2xx, from when they were due.
    pub p50: Duration,
    /// The same.
    pub p99: Duration,
    /// The longest of all answers, whatever they were.
    pub longest: Duration,
}

/// What is answered later than this is not yet as before the fault.
pub const PROMPT: Duration = Duration::from_secs(1);

/// What a client saw in a run of `lasted`, in which the fault ended at `healed`.
pub fn seen(ledger: &[Entry], healed: Duration, lasted: Duration) -> Seen {
    let mut answered: HashSet<u64> = HashSet::new();
    let mut times = Vec::new();
    let mut seen = Seen::default();
    for entry in ledger {
        seen.longest = seen.longest.max(entry.took());
        if entry.is_success() {
            answered.insert(entry.answered.as_secs());
            times.push(entry.took());
        }
        let as_before = (entry.is_success() || entry.poison) && entry.took() <= PROMPT;
        if entry.due > healed && !as_before {
            seen.recovered_after = seen.recovered_after.max(entry.due - healed);
        }
    }
    seen.silent_seconds = (0..lasted.as_secs())
        .filter(|second| !answered.contains(second))
        .count() as u64;
    times.sort_unstable();
    (seen.p50, seen.p99) = (percentile(&times, 50), percentile(&times, 99));
    seen
}

/// Of sorted times, the one that so many in a hundred are below.
pub fn percentile(sorted: &[Duration], part: usize) -> Duration {
    sorted.get(sorted.len() * part / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ledger::value;

    const S: Duration = Duration::from_secs(1);

    fn entry(id: u64, status: u16, place: Option<(i32, i64)>) -> Entry {
        let code = if status == 504 { "outcome_unknown" } else { "" };
        let at = S * u32::try_from(id).unwrap();
        Entry {
            id,
            key: "k".to_owned(),
            due: at,
            sent: at,
            answered: at + S / 2,
            answer: Answer::Status {
                status,
                code: code.to_owned(),
                place,
            },
            poison: false,
        }
    }

    fn record(id: u64, offset: i64) -> Record {
        Record {
            partition: 0,
            offset,
            key: Some(b"k".to_vec()),
            value: Some(value(id, "k", id, 40).into_bytes()),
            headers: BTreeMap::new(),
            timestamp_ms: 0,
        }
    }

    fn counts(ledger: &[Entry], records: &[Record]) -> Counts {
        let mut counts = compare(ledger, records, &Meanwhile::default());
        counts.examples.clear();
        counts.offences.clear();
        counts
    }

    #[test]
    fn all_well() {
        let ledger = [
            entry(0, 200, Some((0, 0))),
            entry(1, 503, None),
            entry(2, 504, None),
            entry(3, 504, None),
            entry(4, 202, None),
        ];
        let expected = Counts {
            sent: 5,
            success: 2,
            refused: 1,
            unknown: 2,
            unknown_stored: 1,
            ..Counts::default()
        };
        assert_eq!(
            counts(&ledger, &[record(0, 0), record(2, 1), record(4, 2)]),
            expected
        );
    }

    #[test]
    fn acknowledged_and_missing() {
        assert_eq!(counts(&[entry(0, 200, Some((0, 0)))], &[]).lost, 1);
        assert_eq!(counts(&[entry(0, 202, None)], &[]).lost, 1);
    }

    #[test]
    fn a_deleted_topic_takes_what_was_placed_in_it_and_nothing_else() {
        let ledger = [
            entry(0, 200, Some((0, 0))),
            entry(1, 200, None),
            entry(2, 202, None),
            entry(4, 202, None),
            entry(9, 200, Some((0, 1))),
        ];
        let meanwhile = Meanwhile {
            deleted: Some(Deleted {
                gone: S * 3,
                again: S * 5,
            }),
            fault: None,
        };
        let counts = compare(&ledger, &[], &meanwhile);
        assert_eq!((counts.gone, counts.lost), (2, 3));
    }

    #[test]
    fn what_is_lost_or_twice_while_nothing_is_broken_is_told_apart() {
        let ledger = [entry(0, 202, None), entry(4, 202, None), entry(9, 202, None)];
        let meanwhile = |from, to| Meanwhile {
            deleted: None,
            fault: Some((S * from, S * to)),
        };
        let of = |from, to| compare(&ledger, &[record(9, 0), record(9, 1)], &meanwhile(from, to));
        let counts = of(4, 10);
        assert_eq!(
            (counts.lost, counts.lost_elsewhen, counts.duplicates_elsewhen),
            (2, 1, 0)
        );
        let counts = of(0, 4);
        assert_eq!(
            (counts.lost, counts.lost_elsewhen, counts.duplicates_elsewhen),
            (2, 0, 1)
        );
    }

    #[test]
    fn twice_elsewhere_and_though_failed() {
        let twice = [record(0, 0), record(0, 1), record(0, 2)];
        assert_eq!(counts(&[entry(0, 200, Some((0, 0)))], &twice).duplicates, 2);
        let of = |status, place| {
            let counts = counts(&[entry(0, status, place)], &twice);
            (counts.duplicates, counts.unplaced_duplicates)
        };
        assert_eq!(of(504, None), (2, 2));
        assert_eq!(of(202, None), (2, 2));
        assert_eq!(of(200, Some((0, 0))), (2, 0));
        assert_eq!(of(503, None), (2, 0));
        assert_eq!(counts(&[entry(0, 200, Some((0, 7)))], &twice[..1]).misplaced, 1);
        assert_eq!(
            counts(&[entry(0, 503, None)], &twice[..1]).stored_though_failed,
            1
        );
        assert_eq!(
            counts(&[entry(0, 413, None)], &twice[..1]).stored_though_failed,
            1
        );
    }

    #[test]
    fn a_504_is_only_one_if_it_says_that_nobody_knows() {
        let mut one = entry(0, 504, None);
        one.answer = Answer::Status {
            status: 504,
            code: "upstream_timeout".to_owned(),
            place: None,
        };
        let counts = counts(&[one], &[]);
        assert_eq!((counts.unknown, counts.other), (0, 1));
    }

    #[test]
    fn nothing_was_answered() {
        let mut one = entry(0, 0, None);
        one.answer = Answer::Nothing("reset".to_owned());
        let mut other = entry(1, 0, None);
        other.answer = Answer::NotSent;
        let counts = counts(&[one, other], &[]);
        assert_eq!((counts.sent, counts.unanswered, counts.not_sent), (1, 1, 1));
    }

    #[test]
    fn what_nobody_sent_or_has_another_key() {
        let mut other_key = record(0, 1);
        other_key.key = Some(b"other".to_vec());
        let mut no_key = record(0, 2);
        no_key.key = None;
        let mut nonsense = record(0, 3);
        nonsense.value = None;
        let records = [record(7, 0), other_key, no_key, nonsense];
        assert_eq!(counts(&[entry(0, 503, None)], &records).foreign, 4);
    }

    #[test]
    fn order_counts_between_requests_that_did_not_overlap() {
        let ledger = [entry(0, 200, None), entry(1, 200, None), entry(2, 504, None)];
        let of = |ids: [u64; 3]| {
            let records: Vec<Record> = (0..).zip(ids).map(|(at, id)| record(id, at)).collect();
            counts(&ledger, &records).order_broken
        };
        assert_eq!(of([0, 1, 2]), 0);
        assert_eq!(of([1, 0, 2]), 1);
        assert_eq!(of([2, 0, 1]), 2);
        let mut overlapping = ledger.clone();
        overlapping[0].answered = S * 2;
        assert_eq!(
            counts(&overlapping, &[record(1, 0), record(0, 1)]).order_broken,
            0
        );
        let mut other_key = ledger;
        other_key[1].key = "l".to_owned();
        let mut first = record(1, 0);
        first.key = Some(b"l".to_vec());
        first.value = Some(value(1, "l", 0, 0).into_bytes());
        assert_eq!(counts(&other_key, &[first, record(0, 1)]).order_broken, 0);
    }

    #[test]
    fn what_a_client_saw() {
        let mut slow = entry(5, 200, None);
        slow.answered = S * 7;
        let ledger = [
            entry(0, 200, None),
            entry(3, 503, None),
            entry(4, 503, None),
            slow,
            entry(6, 200, None),
        ];
        let seen = seen(&ledger, S * 3, S * 8);
        assert_eq!(seen.recovered_after, S * 2);
        assert_eq!(seen.longest, S * 2);
        // Answers in the seconds 0, 6 and 7.
        assert_eq!(seen.silent_seconds, 5);
        assert_eq!(seen.p50, S / 2);
    }
}

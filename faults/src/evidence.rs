//! What is kept of a run in which something was not as it should be: beside the logs of all parts, for each record
//! concerned what was asked and answered, where it is, who wrote it there, and what happened around it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use sluice_e2e::kafka::{Batch, Record};
use sluice_e2e::scenario::Scenario;
use sluice_e2e::{Context, Result};

use crate::compare::Counts;
use crate::ledger::{Entry, id_in};

/// Something that was done, and when.
pub type Event = (SystemTime, String);

/// How long before a record's request and after its answer something may have to do with it.
const AROUND: Duration = Duration::from_secs(15);
/// Of how many records more is told than that there are so many.
const TOLD: usize = 500;

/// A mode's records in a run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// When the ledger's times begin.
    pub began: SystemTime,
    /// What was asked and answered.
    pub ledger: &'a [Entry],
    /// What the topic holds.
    pub records: &'a [Record],
    /// The same in batches.
    pub batches: &'a [Batch],
    /// What came of the comparison.
    pub counts: &'a Counts,
    /// What was done meanwhile, in its order.
    pub events: &'a [Event],
}

impl Run<'_> {
    /// Writes it to `evidence-<name>.txt` in the scenario's directory, which is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, scenario: &Scenario, name: &str) -> Result<()> {
        scenario.keep();
        let path = scenario.dir().join(format!("evidence-{name}.txt"));
        std::fs::write(&path, self.text()).with_context(|| format!("write {}", path.display()))
    }

    fn text(&self) -> String {
        let mut text = String::from("What was done:\n");
        for (at, what) in self.events {
            line(&mut text, format_args!("  {} {what}", format_rfc3339_millis(*at)));
        }
        let offences = &self.counts.offences;
        line(&mut text, format_args!("\n{} records:", offences.len()));
        let entries: HashMap<u64, &Entry> = self.ledger.iter().map(|entry| (entry.id, entry)).collect();
        let mut places: HashMap<u64, Vec<&Record>> = HashMap::new();
        for record in self.records {
            if let Some((id, ..)) = record.value.as_deref().and_then(id_in) {
                places.entry(id).or_default().push(record);
            }
        }
        for (what, id) in offences.iter().take(TOLD) {
            line(&mut text, format_args!("\n{what}: record {id}"));
            let Some(entry) = entries.get(id) else { continue };
            self.tell(&mut text, entry, places.get(id).map_or(&[], Vec::as_slice));
        }
        text
    }

    fn tell(&self, text: &mut String, entry: &Entry, places: &[&Record]) {
        let at = |time: Duration| format_rfc3339_millis(self.began + time);
        let (sent, answered) = (self.began + entry.sent, self.began + entry.answered);
        line(
            text,
            format_args!(
                "  {} due {}, sent {}, answered {}: {:?}",
                entry.key,
                at(entry.due),
                at(entry.sent),
                at(entry.answered),
                entry.answer
            ),
        );
        for record in places {
            let (partition, offset) = (record.partition, record.offset);
            let stamp = u64::try_from(record.timestamp_ms).unwrap_or_default();
            let stamp = SystemTime::UNIX_EPOCH + Duration::from_millis(stamp);
            line(
                text,
                format_args!(
                    "  partition {partition} offset {offset}, of {}",
                    format_rfc3339_millis(stamp)
                ),
            );
            let mut batches = self.batches.iter();
            let of =
                |batch: &&Batch| batch.partition == partition && (batch.first..=batch.last).contains(&offset);
            if let Some(batch) = batches.find(of) {
                line(text, format_args!("    in {batch:?}"));
            }
        }
        let near = |at: SystemTime| at + AROUND >= sent && at <= answered + AROUND;
        for (at, what) in self.events.iter().filter(|(at, _)| near(*at)) {
            line(
                text,
                format_args!("  meanwhile {} {what}", format_rfc3339_millis(*at)),
            );
        }
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _always = writeln!(text, "{words}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Meanwhile, compare};
    use crate::ledger::{Answer, value};

    #[test]
    fn a_record_that_is_twice_is_told_with_who_wrote_it_and_what_was_done() {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let second = Duration::from_secs(1);
        let entry = Entry {
            id: 7,
            key: "k".to_owned(),
            due: second,
            sent: second,
            answered: second * 2,
            answer: Answer::Status {
                status: 202,
                code: String::new(),
                place: None,
            },
            poison: false,
        };
        let record = |offset| Record {
            partition: 2,
            offset,
            key: Some(b"k".to_vec()),
            value: Some(value(7, "k", 0, 20).into_bytes()),
            headers: Default::default(),
            timestamp_ms: 1_001_000,
        };
        let batch = |first, producer_epoch| Batch {
            partition: 2,
            first,
            last: first + 1,
            leader_epoch: 3,
            producer: 4001,
            producer_epoch,
            sequence: 9,
        };
        let (ledger, records) = ([entry], [record(11), record(20)]);
        let counts = compare(&ledger, &records, &Meanwhile::default());
        let run = Run {
            began,
            ledger: &ledger,
            records: &records,
            batches: &[batch(10, 0), batch(20, 1)],
            counts: &counts,
            events: &[
                (began, "broker 2 is killed".to_owned()),
                (began + second * 60, "much later".to_owned()),
            ],
        };
        let text = run.text();
        for part in [
            "twice: record 7\n  k due 1970-01-01T00:16:41.000Z",
            "partition 2 offset 11, of 1970-01-01T00:16:41.000Z\n    in Batch { partition: 2, first: 10",
            "partition 2 offset 20",
            "producer: 4001, producer_epoch: 1",
            "meanwhile 1970-01-01T00:16:40.000Z broker 2 is killed",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("meanwhile 1970-01-01T00:17:40"), "{text}");
    }
}

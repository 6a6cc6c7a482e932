//! Outcomes on their way out of the lock they were decided under.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kafka::record::{Aside, Failure, Outcome, Receipt, Record};

/// Collects outcomes under the lock; tells the recipients after it.
#[derive(Default)]
pub(super) struct Bag {
    settled: Vec<(Receipt, Outcome)>,
    /// Accepted into memory and then not stored: topic, reason, how many.
    lost: BTreeMap<(Arc<str>, String), usize>,
    /// Acknowledged by a leader whose successor does not have them: topic, partition, how many.
    led: Vec<(Arc<str>, i32, u64)>,
    /// Records that go elsewhere, in their order.
    aside: Vec<(Arc<dyn Aside>, Record, Receipt)>,
}

impl Bag {
    /// Has `outcome` told to the receipt's recipient.
    pub(super) fn settle(&mut self, receipt: Receipt, outcome: Outcome) {
        self.settled.push((receipt, outcome));
    }

    /// Has a record go elsewhere.
    pub(super) fn put_aside(&mut self, aside: Arc<dyn Aside>, record: Record, receipt: Receipt) {
        self.aside.push((aside, record, receipt));
    }

    /// How many go elsewhere.
    pub(super) fn aside(&self) -> usize {
        self.aside.len()
    }

    /// Has the loss of a record that was answered as accepted logged.
    pub(super) fn lose(&mut self, topic: &Arc<str>, failure: &Failure) {
        let reason = failure.message.clone().into_owned();
        *self.lost.entry((Arc::clone(topic), reason)).or_default() += 1;
    }

    /// Has the loss of records that a partition's leader had acknowledged logged.
    pub(super) fn lose_led(&mut self, topic: &Arc<str>, partition: i32, records: u64) {
        self.led.push((Arc::clone(topic), partition, records));
    }

    /// Tells everybody: neighbours with the same recipient in one call. The lock must not be held.
    pub(super) fn send(self) {
        for ((topic, reason), records) in self.lost {
            tracing::error!(%topic, reason, records, "accepted records are lost");
        }
        for (topic, partition, records) in self.led {
            tracing::error!(
                %topic,
                partition,
                records,
                "records are lost that the partition's leader had acknowledged (acks=1): another leads now, without them"
            );
        }
        for (aside, record, receipt) in self.aside {
            aside.take(record, receipt);
        }
        let mut settled = self.settled.into_iter().peekable();
        let mut batch = Vec::with_capacity(settled.len());
        while let Some((receipt, outcome)) = settled.next() {
            batch.push((receipt.token, outcome));
            let last = settled
                .peek()
                .is_none_or(|(next, _)| !Arc::ptr_eq(&next.recipient, &receipt.recipient));
            if last {
                receipt.recipient.settle(&mut batch);
                batch.clear();
            }
        }
    }
}

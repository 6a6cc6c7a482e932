//! Records with an idempotency key: to the keys, and from there on.

use std::sync::Arc;
use std::time::Instant;

use sluice_proto::v1::{self, ErrorClass};

use super::routes::{not_allowed, profile_of};
use super::{FateSink, Gateway};
use crate::idempotency::{Ask, Landings, Onward};
use crate::kafka::record::Failure;

impl Gateway {
    /// What a record with an idempotency key asks for, if it may go where it is to go.
    pub(super) fn keyed<S: FateSink + 'static>(
        &self,
        mut record: v1::Record,
        received: Instant,
        sink: &Arc<S>,
    ) -> Result<Ask, Failure> {
        let Some(keys) = &self.idempotency else {
            let text = "the record has an idempotency key and the sidecar keeps none: set idempotency.directory in its \
                        configuration";
            return Err(Failure::new(ErrorClass::RouteMisconfigured, text));
        };
        let (route, producer) = self.routes.of_record(&record)?;
        if route.callers.is_some() {
            // Repeats are answered from the disk, and whose they are is not known there.
            let text = format!(
                "the record has an idempotency key, and cluster {:?} is written with its callers' own tokens: use one of \
                 the two",
                route.name
            );
            return Err(Failure::new(ErrorClass::RouteMisconfigured, text));
        }
        // Nobody needs it any more, and it is not to come near a disk.
        record.bearer_token.clear();
        self.way(
            &record,
            (route, &producer),
            profile_of(&record.producer),
            received,
            None,
        )?;
        // What may be written nowhere needs no key.
        if record
            .topics
            .iter()
            .all(|topic| route.allowed.entry(topic).is_none())
        {
            let topic = record.topics.first().map_or("", String::as_str);
            return Err(not_allowed(topic));
        }
        let deadline = received + self.wait(&record);
        let waiter = (Arc::clone(sink) as Arc<dyn FateSink>, record.id);
        Ask::new(record, &route.name, keys.window(), waiter, deadline)
    }
}

impl Onward for Gateway {
    fn hand_on(&self, records: Vec<(v1::Record, Instant)>, to: &Arc<Landings>) {
        let records = records.into_iter().map(|(record, until)| (record, Some(until)));
        self.produce(records, Instant::now(), to);
    }
}

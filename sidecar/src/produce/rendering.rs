//! Records with a template: to the engine, and from there on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sluice_proto::v1;

use super::{FateSink, Gateway};
use crate::kafka::record::Outcome;
use crate::templates::Rendered;

/// How often it is looked whether templates are still evaluated, at the end.
const LOOK: Duration = Duration::from_millis(5);

impl Gateway {
    /// Makes the records, and takes them on in their order once the last of them is made.
    pub(super) fn render<S: FateSink + 'static>(
        self: &Arc<Self>,
        records: Vec<v1::Record>,
        received: Instant,
        sink: &Arc<S>,
    ) {
        let mut admitted = Vec::with_capacity(records.len());
        let mut refused = Vec::new();
        for record in records {
            match self.templates.admit(&record) {
                Ok(waiting) => admitted.push((record, waiting)),
                Err(failure) => {
                    self.metrics.refused(failure.class);
                    refused.push((record.id, Outcome::Failed(failure)));
                }
            }
        }
        if !refused.is_empty() {
            sink.settle(&mut refused);
        }
        if admitted.is_empty() {
            return;
        }
        let (this, sink) = (Arc::clone(self), Arc::clone(sink));
        tokio::spawn(async move {
            let one = |(record, waiting)| {
                let this = &this;
                async move {
                    let record: v1::Record = record;
                    let id = record.id;
                    let deadline = received + this.wait(&record);
                    (id, this.templates.render(record, deadline).await, waiting)
                }
            };
            let all = join_all(admitted.into_iter().map(one)).await;
            let (mut made, mut refused, mut held) = (Vec::with_capacity(all.len()), Vec::new(), Vec::new());
            for (id, rendered, waiting) in all {
                held.push(waiting);
                match rendered {
                    Ok(Rendered { record, topic }) => {
                        if let Some(topic) = topic {
                            sink.chose(id, &topic);
                        }
                        made.push(record);
                    }
                    Err(failure) => {
                        this.metrics.refused(failure.class);
                        refused.push((id, Outcome::Failed(failure)));
                    }
                }
            }
            this.take_on(made, received, &sink);
            // Counted until the producers count them: a shutdown looks at both.
            drop(held);
            if !refused.is_empty() {
                sink.settle(&mut refused);
            }
        });
    }

    /// Waits until no record waits for its template, or until `until`.
    pub(super) async fn rendered(&self, until: Instant) {
        while !self.templates.is_idle() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
    }
}

//! Whether the sources of one service can be read so that each key is in one place.
//!
//! An exclusive handler is called for one record of a key at a time, whatever subscription it comes by. That can only hold if
//! all records of a key can be read in one place: if the topics have as many partitions as each other, so that a key is in the
//! same partition of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::Control;
use super::together::{exclusive, members, together};
use super::view::View;
use crate::json_api::Error;
use crate::kafka::reader::{self, Reader};
use crate::subscriptions::spec::Spec;

/// Whether `spec`, which has or will have this id, can be there beside what there is.
///
/// # Errors
/// Why its source, or an option of it, cannot be that of its service; or nobody can tell now.
pub(super) async fn check(control: &Control, view: &View, id: &str, spec: &Spec) -> Result<(), Error> {
    let Some(service) = exclusive(view, spec) else {
        return Ok(());
    };
    let all = members(&control.fixed, view, service, (id, spec));
    let together =
        together(service, &all, &view.clusters).map_err(|problem| Error::Invalid(vec![problem]))?;
    let topics = together.topics();
    if topics.len() < 2 {
        return Ok(());
    }
    let name = spec.source.cluster.as_str();
    let made = || view.clusters.get(name).cloned().map(Arc::new);
    let cluster = control.connected(name).or_else(made);
    let cluster = cluster.ok_or_else(|| Error::field("source", "its cluster is not there any more"))?;
    let reader = Reader::new(&cluster, 1, Gauge::default());
    let mut counts: BTreeMap<i32, &str> = BTreeMap::new();
    for topic in &topics {
        match reader.partitions(topic).await {
            Ok(count) => counts.insert(count, topic),
            Err(error @ (reader::Error::Unavailable(_) | reader::Error::OutOfRange { .. })) => {
                return Err(Error::Unavailable(format!(
                    "how many partitions {topic} has cannot be told: {error}"
                )));
            }
            Err(error) => {
                return Err(Error::field(
                    "source",
                    format!(
                        "{error}: {service} handles one record of a key at a time, so that its topics must be there"
                    ),
                ));
            }
        };
    }
    let mut differing = counts.iter();
    if let (Some((few, one)), Some((many, other))) = (differing.next(), differing.next()) {
        return Err(Error::field(
            "source",
            format!(
                "topic {one} has {few} partitions, and {other}, which {service} is called for too, {many}: a key would be in \
                 different places, and two of its records could be handled at once; give them as many as each other"
            ),
        ));
    }
    Ok(())
}

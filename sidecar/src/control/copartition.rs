//! Whether the sources of one service can be read so that each key is in one place.
//!
//! An exclusive handler is called for one record of a key at a time, whatever subscription it comes by. That can only hold if
//! all records of a key can be read in one place: if the topics have as many partitions as each other, so that a key is in the
//! same partition of each.

use std::collections::BTreeMap;

use prometheus_client::metrics::gauge::Gauge;

use super::api::error::Error;
use super::manifest::Mode;
use super::view::View;
use crate::kafka::reader::{self, Reader};
use crate::subscriptions::spec::{Sink, Spec, Topics};

/// Whether `spec`, which has or will have this id, can be there beside what there is.
///
/// # Errors
/// Why its source cannot be that of its service; or nobody can tell now.
pub(super) async fn check(view: &View, id: &str, spec: &Spec) -> Result<(), Error> {
    let Some(service) = exclusive(view, spec) else {
        return Ok(());
    };
    let mut all: Vec<(&str, &Spec)> = vec![(id, spec)];
    for (other, made) in &view.subscriptions {
        if let Ok(made) = &made.read
            && other != id
            && exclusive(view, made) == Some(service)
        {
            all.push((other.as_str(), made.as_ref()));
        }
    }
    let topics = topics(service, &all)?;
    if topics.len() < 2 {
        return Ok(());
    }
    let cluster = view.clusters.get(&spec.source.cluster);
    let cluster = cluster.ok_or_else(|| Error::field("source", "its cluster is not there any more"))?;
    let reader = Reader::new(cluster, 1, Gauge::default());
    let mut counts: BTreeMap<i32, &str> = BTreeMap::new();
    for topic in topics {
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

/// The service that a subscription calls one record of a key at a time.
fn exclusive<'a>(view: &View, spec: &'a Spec) -> Option<&'a str> {
    let Sink::Service { service, handler } = &spec.sink else {
        return None;
    };
    let mode = view.services.resolve(service, handler).ok()?.mode;
    (mode != Mode::Shared).then_some(service.as_str())
}

/// The topics of all of them, if they are known and on one cluster.
fn topics<'a>(service: &str, all: &[(&str, &'a Spec)]) -> Result<Vec<&'a String>, Error> {
    let mut topics = Vec::new();
    let mut cluster: Option<(&str, &str)> = None;
    for &(id, spec) in all {
        match cluster {
            Some((first, other)) if other != spec.source.cluster => {
                return Err(Error::field(
                    "source",
                    format!(
                        "{first} is on cluster {other}, and {id} on {}: {service} handles one record of a key at a time, \
                         which holds within one cluster only",
                        spec.source.cluster
                    ),
                ));
            }
            Some(_) => {}
            None => cluster = Some((id, &spec.source.cluster)),
        }
        match &spec.source.topics {
            Topics::Names(names) => topics.extend(
                names
                    .iter()
                    .filter(|name| !topics.contains(name))
                    .collect::<Vec<_>>(),
            ),
            Topics::Pattern(..) => {
                return Err(Error::field(
                    "source",
                    format!(
                        "is a pattern: {service} handles one record of a key at a time, which only holds for topics that are \
                         named, since they must have as many partitions as each other"
                    ),
                ));
            }
        }
    }
    Ok(topics)
}

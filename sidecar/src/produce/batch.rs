//! Records on their way to producers and the spool, in the order in which they came.

use std::sync::Arc;
use std::time::Instant;

use crate::kafka::producer::Producer;
use crate::kafka::record::{Delivery, Submission};
use crate::spool::{Bridged, Incoming, Lane};

/// When a record is answered, and where it goes until then.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    Producer(Delivery),
    Spool(Spooling<'a>),
    /// To the producer, unless its cluster is away or the spool holds records that it must not overtake.
    Either(Delivery, Spooling<'a>, &'a Arc<Producer>),
}

/// What the spool is told of a record.
#[derive(Clone, Copy)]
pub(super) struct Spooling<'a> {
    pub(super) cluster: &'a str,
    pub(super) profile: &'a str,
    /// When it is answered at the latest.
    pub(super) deadline: Instant,
}

impl Spooling<'_> {
    pub(super) fn lane(self, topic: &str) -> Lane {
        Lane {
            cluster: self.cluster.to_owned(),
            producer: self.profile.to_owned(),
            topic: topic.to_owned(),
        }
    }
}

/// Neighbouring records that go to the same producer.
pub(super) struct Batch {
    pub(super) producer: Option<Arc<Producer>>,
    pub(super) submissions: Vec<Submission>,
    /// Records for the spool, wherever they go from there.
    pub(super) spooled: Vec<(Incoming, Option<Bridged>)>,
}

impl Batch {
    /// Sends what is there first when it goes elsewhere: the order of arrival is kept.
    pub(super) fn go_to(&mut self, producer: &Arc<Producer>) {
        match &self.producer {
            Some(current) if Arc::ptr_eq(current, producer) => {}
            _ => {
                self.send();
                self.producer = Some(Arc::clone(producer));
            }
        }
    }

    /// Sends what is there.
    pub(super) fn send(&mut self) {
        if let Some(producer) = &self.producer
            && !self.submissions.is_empty()
        {
            producer.submit(&mut self.submissions);
        }
    }
}

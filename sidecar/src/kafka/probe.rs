//! Whether a cluster can be reached, and what is wrong if not: for the commands, which have nobody to look at a log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

use super::connection::{Connection, Error};
use super::error;
use super::native::{Native, Polled, Renewal, TopicInfo};
use super::properties::Kind as Clients;
use super::trouble::{Kind, Trouble, Troubles};

/// How long one question may take before what went wrong is looked at.
const SLICE: Duration = Duration::from_millis(200);

/// What a topic is like for who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Exists,
    /// It is not there.
    Unknown,
    /// It may not be seen, or not be written.
    NotAuthorised,
    /// Nobody says: it has no leader, say.
    Unclear,
}

/// A cluster that answered.
pub struct Reached(Native);

/// Connects to a cluster as its producers do. Blocks, for `within` at most, and for less where waiting does not help.
///
/// # Errors
/// What is wrong with the way to it; [`Error::Kafka`] when librdkafka makes no client of the properties.
pub fn reach(connection: &Connection, within: Duration) -> Result<Reached, Error> {
    let deadline = Instant::now() + within;
    let config = connection.whole_config(Clients::Consumer);
    let login = (connection.token.as_ref(), connection.delegation.as_ref());
    let native = Native::new(&config, login, &Arc::new(Notify::new()));
    let native = native.map_err(Error::Kafka)?;
    let mut troubles = Troubles::default();
    let (mut deliveries, mut down) = (Vec::new(), false);
    loop {
        while let Some(polled) = native.poll(&mut deliveries) {
            match polled {
                Polled::Trouble(trouble) => troubles.add(trouble, Instant::now()),
                Polled::AllDown(_) => down = true,
                Polled::TokenDue => native.renew_token(Renewal::Due),
                Polled::Fatal(why) => return Err(Error::Kafka(why)),
                Polled::Deliveries | Polled::Nothing => {}
            }
        }
        let trouble = troubles.most_telling();
        let lasting =
            trouble.filter(|trouble| trouble.kind == Kind::Token || (down && trouble.kind.is_lasting()));
        if let Some(trouble) = lasting {
            return Err(Error::Trouble {
                brokers: connection.brokers(),
                trouble: trouble.clone(),
            });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Unreachable {
                brokers: connection.brokers(),
                within,
                trouble: trouble.cloned(),
            });
        }
        match native.any_answer(SLICE.min(left)) {
            Ok(()) => return Ok(Reached(native)),
            Err(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::Authentication,
            ) => {}
            Err(code) => {
                return Err(Error::Trouble {
                    brokers: connection.brokers(),
                    trouble: Trouble::new(code, &code.to_string(), None),
                });
            }
        }
    }
}

impl Reached {
    /// What the cluster says of a topic. Blocks, for `within` at most.
    pub fn topic(&self, name: &str, within: Duration) -> Standing {
        use sluice_proto::v1::ErrorClass;
        match self.0.topic_info(name, within) {
            Ok(TopicInfo::Partitions(_)) => match self.0.may_write(name, within) {
                Some(false) => Standing::NotAuthorised,
                Some(true) | None => Standing::Exists,
            },
            Ok(TopicInfo::Error(code)) | Err(code) => match error::class_of(code) {
                ErrorClass::UnknownTopic => Standing::Unknown,
                ErrorClass::NotAuthorised => Standing::NotAuthorised,
                _ => Standing::Unclear,
            },
        }
    }
}

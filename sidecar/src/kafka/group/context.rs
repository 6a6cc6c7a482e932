//! What librdkafka calls back into, on the member's own thread.

use std::sync::{Arc, Mutex, mpsc as blocking};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;

use super::native::Records;
use super::{Event, Partition, Revocation, Settings, lock, of_kafka};
use crate::kafka::connection::{Connection, Context};
use crate::kafka::properties::Kind;

/// The context of a member's client.
pub(super) struct GroupContext {
    connection: Context,
    group: String,
    events: mpsc::UnboundedSender<Event>,
    hand_over: Duration,
    /// None: the member takes no records, or is closed.
    records: Mutex<Option<Records>>,
    /// The last error that librdkafka told in its own words: those of its events are without.
    last: Mutex<Option<String>>,
}

impl GroupContext {
    pub(super) fn new(
        connection: &Connection,
        settings: &Settings,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, String> {
        let context = connection.context(Kind::Producer);
        Ok(Self {
            connection: context.map_err(|error| error.to_string())?,
            group: settings.group.clone(),
            events,
            hand_over: settings.hand_over,
            records: Mutex::default(),
            last: Mutex::default(),
        })
    }

    pub(super) fn connection(&self) -> &Context {
        &self.connection
    }

    /// Gives it the queue that records come by.
    pub(super) fn fill(&self, records: Records) {
        *lock(&self.records) = Some(records);
    }

    /// Takes the queue away.
    pub(super) fn empty(&self) {
        drop(lock(&self.records).take());
    }

    pub(super) fn with_records<T>(&self, work: impl FnOnce(&Records) -> T) -> Option<T> {
        lock(&self.records).as_ref().map(work)
    }

    /// What librdkafka said last went wrong, once.
    pub(super) fn last(&self) -> Option<String> {
        lock(&self.last).take()
    }

    fn assign(&self, client: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let mut reads = false;
        self.with_records(|records| {
            reads = true;
            for element in list.elements() {
                records.divert(client.client().native_ptr(), element.topic(), element.partition());
            }
        });
        match client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => client.incremental_assign(list)?,
            RebalanceProtocol::Eager | RebalanceProtocol::None => client.assign(list)?,
        }
        if !reads && list.count() > 0 {
            client.pause(list)?;
        }
        Ok(())
    }

    /// Tells whoever reads them that partitions go, and waits until they are handed over.
    fn hand_over(&self, partitions: Vec<Partition>) {
        let (done, handed_over) = blocking::channel();
        let told = self.events.send(Event::Revoked(Revocation {
            partitions,
            _done: done,
        }));
        if told.is_err() {
            return;
        }
        // Nothing is ever sent: it ends when the revocation is dropped.
        if let Err(blocking::RecvTimeoutError::Timeout) = handed_over.recv_timeout(self.hand_over) {
            tracing::warn!(
                group = self.group,
                "partitions were not handed over within {} s, and go without",
                self.hand_over.as_secs()
            );
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens to a member that is being dropped.
        drop(self.events.send(event));
    }
}

impl ClientContext for GroupContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.connection.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *lock(&self.last) = Some(reason.to_owned());
        self.connection.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.connection.generate_oauth_token(config)
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, client: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions(list);
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            match self.assign(client, list) {
                Ok(()) => self.tell(Event::Assigned(partitions)),
                Err(error) => self.tell(Event::Failed(of_kafka(&error, &self.group))),
            }
            return;
        }
        if client.assignment_lost() {
            self.tell(Event::Lost(partitions));
        } else if !partitions.is_empty() {
            self.hand_over(partitions);
        }
        let given_up = match client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => client.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => client.unassign(),
        };
        if let Err(error) = given_up {
            self.tell(Event::Failed(of_kafka(&error, &self.group)));
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let elements = list.elements();
    let mut topic: Arc<str> = Arc::from("");
    elements
        .iter()
        .map(|element| {
            if *topic != *element.topic() {
                topic = Arc::from(element.topic());
            }
            (Arc::clone(&topic), element.partition())
        })
        .collect()
}

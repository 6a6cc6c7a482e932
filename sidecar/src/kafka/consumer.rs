//! Reading one topic's records in order of arrival, for `sluice tail`: every partition or one, from the beginning
//! or from now on. No group, no commits.

pub(super) mod headers;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::connection::{Connection, Context, Error, PATIENCE};

/// How often partitions are looked for that were added to the topic.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(5);

/// What to read.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The topic.
    pub topic: String,
    /// One partition, or all of them, those added later included.
    pub partition: Option<i32>,
    /// From the first record that is there, or from the ones written after [`Reader::open`].
    pub from_beginning: bool,
}

/// A record as it was read. Nothing in it needs to be text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
    /// Milliseconds since 1970, if the record has a time.
    pub timestamp: Option<i64>,
    /// The key; none and an empty one are two things.
    pub key: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What [`Reader::next`] has.
#[derive(Debug)]
pub enum Next {
    /// A record.
    Record(Record),
    /// Something that librdkafka goes on after by itself: a broker is down, say.
    Trouble(String),
    /// Nothing in the time given.
    Nothing,
}

/// Reads what a [`Selection`] selects.
pub struct Reader {
    client: BaseConsumer<Context>,
    connection: Connection,
    selection: Selection,
    reading: BTreeSet<i32>,
    looked: Instant,
}

impl Reader {
    /// Finds the topic and where its partitions end now: every record that is written after this returns will be
    /// read. Blocks, for some seconds at most.
    ///
    /// # Errors
    /// No broker answers, or there is no such topic or partition.
    pub fn open(connection: Connection, selection: Selection) -> Result<Self, Error> {
        let client = connection.reader()?;
        let all = connection.topic(&client, &selection.topic, ids)?;
        let reading = match selection.partition {
            None => all,
            Some(one) if all.contains(&one) => BTreeSet::from([one]),
            Some(partition) => {
                return Err(Error::UnknownPartition {
                    topic: selection.topic,
                    partition,
                    last: all.last().copied().unwrap_or_default(),
                });
            }
        };
        let deadline = Instant::now() + PATIENCE;
        let mut assignment = TopicPartitionList::new();
        for partition in &reading {
            let start = if selection.from_beginning {
                Offset::Beginning
            } else {
                let left = deadline.saturating_duration_since(Instant::now());
                match client.fetch_watermarks(&selection.topic, *partition, left) {
                    Ok((_, end)) => Offset::Offset(end),
                    // Without a leader there is no end to ask for; nothing can be written either.
                    Err(error) => {
                        tracing::debug!(%error, partition, "no end offset");
                        Offset::End
                    }
                }
            };
            assignment.add_partition_offset(&selection.topic, *partition, start)?;
        }
        client.assign(&assignment)?;
        Ok(Self {
            client,
            connection,
            selection,
            reading,
            looked: Instant::now(),
        })
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> &BTreeSet<i32> {
        &self.reading
    }

    /// Waits up to `wait` for a record.
    ///
    /// # Errors
    /// The topic is gone, or reading it is not allowed (any more).
    pub fn next(&mut self, wait: Duration) -> Result<Next, Error> {
        if self.selection.partition.is_none() && self.looked.elapsed() > LOOK_FOR_PARTITIONS {
            self.looked = Instant::now();
            if let Some(trouble) = self.add_partitions()? {
                return Ok(Next::Trouble(trouble));
            }
        }
        match self.client.poll(wait) {
            None => Ok(Next::Nothing),
            Some(Ok(message)) => Ok(Next::Record(read(&message))),
            Some(Err(error)) => self.explain(error),
        }
    }

    /// Starts on partitions that the topic did not have, from their first record. Gives what is wrong if the
    /// cluster cannot be asked now.
    fn add_partitions(&mut self) -> Result<Option<String>, Error> {
        let topic = &self.selection.topic;
        let now = match self.connection.topic(&self.client, topic, ids) {
            Ok(now) => now,
            Err(gone @ Error::UnknownTopic(_)) => return Err(gone),
            Err(error) => return Ok(Some(error.to_string())),
        };
        let mut added = TopicPartitionList::new();
        for partition in now.difference(&self.reading) {
            added.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        if added.count() > 0 {
            self.client.incremental_assign(&added)?;
            self.reading.extend(now);
        }
        Ok(None)
    }

    fn explain(&self, error: KafkaError) -> Result<Next, Error> {
        use RDKafkaErrorCode as Code;
        let topic = || self.selection.topic.clone();
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                Err(Error::UnknownTopic(topic()))
            }
            Some(Code::TopicAuthorizationFailed) => {
                Err(Error::Kafka(format!("not authorised on topic {}", topic())))
            }
            // The group has a name and no members: it does not matter who coordinates it, or whether we may.
            Some(Code::GroupAuthorizationFailed | Code::CoordinatorNotAvailable | Code::NotCoordinator) => {
                Ok(Next::Nothing)
            }
            Some(Code::Fatal) => Err(error.into()),
            Some(code) => Ok(Next::Trouble(code.to_string())),
            None => Ok(Next::Trouble(error.to_string())),
        }
    }
}

fn ids(topic: &rdkafka::metadata::MetadataTopic) -> BTreeSet<i32> {
    topic
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect()
}

fn read(message: &BorrowedMessage<'_>) -> Record {
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers: headers::read(message),
        value: message.payload().map(<[u8]>::to_vec),
    }
}

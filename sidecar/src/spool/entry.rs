//! What is written: the encodings of the spool's rows.
//!
//! They are protobuf messages for the contract's own reason: fields are only added, numbers are never reused, and
//! unknown ones are ignored, so that a spool survives an upgrade of the sidecar. What cannot be done that way raises
//! [`super::store::VERSION`].

use bytes::Bytes;
use prost::Message;
use sluice_proto::v1::Header;

use crate::database::sealed::Seal;
use crate::kafka::record::Record;

/// Where a record goes: records of one lane are delivered in their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The sidecar's name of the cluster.
    pub cluster: String,
    /// The sidecar's name of the producer profile.
    pub producer: String,
    /// The topic.
    pub topic: String,
}

/// A lane's row: its name, and what is in it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LaneRow {
    #[prost(string, tag = "1")]
    pub(super) cluster: String,
    #[prost(string, tag = "2")]
    pub(super) producer: String,
    #[prost(string, tag = "3")]
    pub(super) topic: String,
    #[prost(uint64, tag = "4")]
    pub(super) records: u64,
    /// Of the encoded entries.
    #[prost(uint64, tag = "5")]
    pub(super) bytes: u64,
}

impl LaneRow {
    pub(super) fn new(lane: &Lane) -> Self {
        Self {
            cluster: lane.cluster.clone(),
            producer: lane.producer.clone(),
            topic: lane.topic.clone(),
            records: 0,
            bytes: 0,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        Lane {
            cluster: self.cluster.clone(),
            producer: self.producer.clone(),
            topic: self.topic.clone(),
        }
    }

    /// The lane's row in the file.
    pub(super) fn seal(&self) -> Vec<u8> {
        OTHERS.close(self)
    }

    /// What is in a row of the file.
    ///
    /// # Errors
    /// When the row is not as it was written; in words.
    pub(super) fn open(row: &[u8]) -> Result<Self, String> {
        OTHERS.open(row)
    }
}

/// A record of a lane, whose name is not repeated in each.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The partition that was asked for.
    #[prost(int32, optional, tag = "1")]
    pub partition: Option<i32>,
    /// Absent is no key.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub key: Option<Bytes>,
    /// Absent is a tombstone.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    #[prost(message, repeated, tag = "4")]
    pub headers: Vec<Header>,
    /// The record's time, in milliseconds since the epoch: the client's, or when it was spooled.
    #[prost(int64, tag = "5")]
    pub timestamp_ms: i64,
    /// When it was spooled, in milliseconds since the epoch.
    #[prost(int64, tag = "6")]
    pub spooled_ms: i64,
}

/// The first version wrote no checksum, and no row of its began so.
const ENTRY: Seal = Seal::field(7);
/// Rows of lanes and dead letters have had one since later.
const OTHERS: Seal = Seal::field(15);

impl Entry {
    /// The entry's row.
    pub(super) fn seal(&self) -> Vec<u8> {
        ENTRY.close(self)
    }

    /// The entry of a row.
    ///
    /// # Errors
    /// When the row is not as it was written; in words.
    pub(super) fn open(row: &[u8]) -> Result<Self, String> {
        ENTRY.open(row)
    }

    /// The entry of a record that is spooled now.
    pub(super) fn new(record: Record, now_ms: i64) -> Self {
        Self {
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: record.timestamp_ms.unwrap_or(now_ms),
            spooled_ms: now_ms,
        }
    }

    /// The record as a producer takes it.
    pub(super) fn record(&self, topic: &str) -> Record {
        Record {
            topic: topic.to_owned(),
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp_ms: Some(self.timestamp_ms.max(1)),
        }
    }
}

/// A record that was given up.
#[derive(Clone, PartialEq, Message)]
pub struct DeadLetter {
    /// The sidecar's name of the cluster that it was for.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// The sidecar's name of the producer profile.
    #[prost(string, tag = "2")]
    pub producer: String,
    /// The topic that it was for.
    #[prost(string, tag = "3")]
    pub topic: String,
    /// The record.
    #[prost(message, required, tag = "4")]
    pub entry: Entry,
    /// The `code` of the last failure's class, or `expired`.
    #[prost(string, tag = "5")]
    pub code: String,
    /// What happened, for people.
    #[prost(string, tag = "6")]
    pub reason: String,
    /// When it was given up, in milliseconds since the epoch.
    #[prost(int64, tag = "7")]
    pub given_up_ms: i64,
}

impl DeadLetter {
    /// The letter's row in the file.
    pub(super) fn seal(&self) -> Vec<u8> {
        OTHERS.close(self)
    }

    /// What is in a row of the file.
    ///
    /// # Errors
    /// When the row is not as it was written; in words.
    pub(super) fn open(row: &[u8]) -> Result<Self, String> {
        OTHERS.open(row)
    }

    /// The lane that it was in.
    pub fn lane(&self) -> Lane {
        Lane {
            cluster: self.cluster.clone(),
            producer: self.producer.clone(),
            topic: self.topic.clone(),
        }
    }
}

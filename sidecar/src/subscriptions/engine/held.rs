//! What is in the held topic: one record for each event that is held, under the event's id.
//!
//! The topic is compacted: the newest record of an id counts, and one without a value means that the event is held no more. A
//! plain topic would forget what is parked when its retention ends, or keep everything that ever failed.
//!
//! Values are protobuf messages, so that fields can be added: whoever does not know one ignores it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;

use crate::kafka::reader::Record;

/// Why an event is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Why {
    /// Never written.
    Unspecified = 0,
    /// One before it in its key's order is held.
    Waiting = 1,
    /// It failed, and is tried again.
    Retrying = 2,
    /// It is given up until somebody says otherwise.
    Parked = 3,
}

/// An event that is held.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Held {
    #[prost(enumeration = "Why", tag = "1")]
    pub(super) state: i32,
    /// How often it was tried.
    #[prost(uint32, tag = "2")]
    pub(super) attempts: u32,
    /// Milliseconds since 1970; 0 while it has not failed.
    #[prost(int64, tag = "3")]
    pub(super) first_failed_ms: i64,
    /// When it is tried again, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub(super) due_ms: i64,
    /// What went wrong last, for people.
    #[prost(string, tag = "5")]
    pub(super) error: String,
    /// The handler's last status.
    #[prost(uint32, optional, tag = "6")]
    pub(super) status: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(super) key: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub(super) value: Option<Bytes>,
    #[prost(message, repeated, tag = "9")]
    pub(super) headers: Vec<HeldHeader>,
    #[prost(int64, optional, tag = "10")]
    pub(super) timestamp: Option<i64>,
    /// It has no value and no headers here, since with them it is too large: they are where the record is from.
    #[prost(bool, tag = "11")]
    pub(super) elsewhere: bool,
}

/// A header of a record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeldHeader {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) value: Option<Vec<u8>>,
}

impl Held {
    /// `record`, held for a reason.
    pub(super) fn of(record: &Record, why: Why) -> Self {
        let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| HeldHeader {
            name: name.clone(),
            value: value.clone(),
        };
        Self {
            state: why.into(),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.iter().map(header).collect(),
            timestamp: record.timestamp,
            ..Self::default()
        }
    }

    /// The same without what may be large.
    pub(super) fn without_value(mut self) -> Self {
        self.value = None;
        self.headers = Vec::new();
        self.elsewhere = true;
        self
    }

    /// The record, unless its value is elsewhere.
    pub(super) fn record(self, topic: &Arc<str>, partition: i32, offset: i64) -> Option<Record> {
        if self.elsewhere {
            return None;
        }
        Some(Record {
            topic: Arc::clone(topic),
            partition,
            offset,
            timestamp: self.timestamp,
            key: self.key,
            headers: self
                .headers
                .into_iter()
                .map(|header| (header.name, header.value))
                .collect(),
            value: self.value,
            shown: OnceLock::new(),
            shown_unframed: OnceLock::new(),
        })
    }

    /// What a record of the topic holds.
    ///
    /// # Errors
    /// It is no such message.
    pub(super) fn read(value: &Bytes) -> Result<Self, String> {
        Self::decode(value.clone()).map_err(|error| error.to_string())
    }

    /// As a record's value.
    pub(super) fn write(&self) -> Bytes {
        Bytes::from(self.encode_to_vec())
    }
}

/// An event's id, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id<'a> {
    pub(super) subscription: &'a str,
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl<'a> Id<'a> {
    /// Reads `{subscription}/{topic}/{partition}/{offset}`; none of the parts has a slash in it.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split('/');
        let id = Self {
            subscription: parts.next()?,
            topic: parts.next()?,
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
        };
        let whole = parts.next().is_none() && id.partition >= 0 && id.offset >= 0;
        (whole && !id.subscription.is_empty() && !id.topic.is_empty()).then_some(id)
    }
}

/// Which of the held topic's partitions has the events of a source's partition: those of one are in one.
pub(super) fn partition_of(subscription: &str, topic: &str, partition: i32, partitions: i32) -> i32 {
    let hash = crc32fast::hash(format!("{subscription}/{topic}/{partition}").as_bytes());
    let partitions = u32::try_from(partitions).unwrap_or(1).max(1);
    i32::try_from(hash % partitions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_an_id_is_none() {
        let id = Id::read("sub_1/orders.eu/3/42").unwrap();
        assert_eq!(
            (id.subscription, id.topic, id.partition, id.offset),
            ("sub_1", "orders.eu", 3, 42)
        );
        for text in [
            "",
            "a/b/1",
            "a/b/1/2/3",
            "a/b/x/2",
            "a/b/1/-2",
            "/b/1/2",
            "a//1/2",
            "a/b/-1/2",
        ] {
            assert_eq!(Id::read(text), None, "{text}");
        }
    }

    proptest! {
        /// No key, an empty key, no value and an empty value stay what they are.
        #[test]
        fn a_record_comes_back_as_it_was(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            headers in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..5), prop::option::of(prop::collection::vec(any::<u8>(), 0..5))), 0..4,
            ),
            timestamp in prop::option::of(any::<i64>()),
        ) {
            let record = Record {
                topic: Arc::from("t"), partition: 1, offset: 2, timestamp, key: key.map(Bytes::from), headers,
                value: value.map(Bytes::from), shown: OnceLock::new(), shown_unframed: OnceLock::new(),
            };
            let written = Held { attempts: 3, ..Held::of(&record, Why::Retrying) }.write();
            prop_assert!(!written.is_empty());
            let held = Held::read(&written).unwrap();
            prop_assert_eq!((held.state(), held.attempts), (Why::Retrying, 3));
            let back = held.record(&record.topic, 1, 2).unwrap();
            prop_assert_eq!(&back.key, &record.key);
            prop_assert_eq!(&back.value, &record.value);
            prop_assert_eq!(&back.headers, &record.headers);
            prop_assert_eq!(back.timestamp, record.timestamp);
            prop_assert!(Held::of(&record, Why::Parked).without_value().record(&record.topic, 1, 2).is_none());
        }

        #[test]
        fn foreign_bytes_are_an_error_or_something(bytes in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,30}") {
            drop(Held::read(&Bytes::from(bytes)));
            if let Some(Id { subscription, topic, partition, offset }) = Id::read(&text) {
                prop_assert!(!subscription.is_empty() && !topic.is_empty() && partition >= 0 && offset >= 0);
            }
        }
    }
}

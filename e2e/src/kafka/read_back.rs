//! Reading topics back, with a client that did not write them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};

use super::Kafka;
use crate::wait;

/// A record as rskafka gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition that it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Absent and empty differ.
    pub key: Option<Vec<u8>>,
    /// Absent (a tombstone) and empty differ.
    pub value: Option<Vec<u8>>,
    /// rskafka keeps one of several headers of a name, and no order: [`Kafka::console_consume`] shows both.
    pub headers: BTreeMap<String, Vec<u8>>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
}

impl Record {
    /// The value as text.
    ///
    /// # Errors
    /// When there is none, or it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        let value = self.value.as_deref().context("the value is null")?;
        std::str::from_utf8(value).context("the value is not UTF-8")
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<serde_json::Value> {
        let text = self.text()?;
        serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl Kafka {
    /// Every record of a topic up to each partition's high watermark, by partition and offset.
    ///
    /// rskafka fetches with protocol version 4, to which a broker does not give zstd-compressed batches.
    ///
    /// # Errors
    /// When the topic is unknown or a broker does not answer.
    pub async fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let reading = tokio::time::timeout(Duration::from_secs(60), self.read(topic));
        reading
            .await
            .map_err(|_| anyhow!("it took too long"))
            .flatten()
            .with_context(|| format!("read {topic}"))
    }

    async fn read(&self, topic: &str) -> Result<Vec<Record>> {
        let client = self.client().await?;
        let mut records = Vec::new();
        for partition in self.partitions(&client, topic).await? {
            let reader = client
                .partition_client(topic, partition, UnknownTopicHandling::Retry)
                .await?;
            let end = reader.get_offset(OffsetAt::Latest).await?;
            let mut next = reader.get_offset(OffsetAt::Earliest).await?;
            while next < end {
                let (batch, _) = reader.fetch_records(next, 1..16 << 20, 500).await?;
                for found in batch {
                    next = found.offset + 1;
                    records.push(Record {
                        partition,
                        offset: found.offset,
                        key: found.record.key,
                        value: found.record.value,
                        headers: found.record.headers,
                        timestamp_ms: found.record.timestamp.timestamp_millis(),
                    });
                }
            }
        }
        Ok(records)
    }

    /// The one record of a topic.
    ///
    /// # Errors
    /// When there is none, or more.
    pub async fn only_record(&self, topic: &str) -> Result<Record> {
        let mut records = self.records(topic).await?;
        ensure!(
            records.len() == 1,
            "{topic} has {} records, not one",
            records.len()
        );
        records.pop().context("no record")
    }

    /// Waits until a topic has `count` records (a write that nobody waited for may still be on its way), and
    /// gives them.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn wait_for_records(&self, topic: &str, count: usize) -> Result<Vec<Record>> {
        wait::until(
            &format!("{count} records in {topic}"),
            Duration::from_secs(30),
            async || {
                let records = self.records(topic).await?;
                ensure!(records.len() >= count, "it has {}", records.len());
                Ok(records)
            },
        )
        .await
    }
}

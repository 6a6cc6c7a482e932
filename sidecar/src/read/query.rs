//! What a request asks for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;

use super::access::Granted;
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::feed::Selection;
use super::from::From;
use super::item::Format;
use super::ws::{Frames, MAX_IN_FLIGHT};
use crate::config::{self, MAX_LIMIT, MAX_MAX_BYTES, MAX_MAX_WAIT, Read};
use crate::kafka::reader::Limits;

/// How often a stream without records says that it is there, in milliseconds.
const HEARTBEAT: u64 = 5000;
/// How often a quiet client of a WebSocket is asked whether it is there, in milliseconds.
const PING: u64 = 20_000;
const MIN_HEARTBEAT: u64 = 2000;
/// As `max_wait`: proxies are told how long nothing may come (envoy.yaml).
const MAX_HEARTBEAT: u64 = MAX_MAX_WAIT.unsigned_abs();
/// The most topics that one request reads.
const MAX_TOPICS: usize = 256;

/// The query of a read or a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) cluster_name: Option<String>,
    topics: Option<String>,
    topics_pattern: Option<String>,
    partition: Option<i32>,
    limit: Option<i64>,
    max_wait: Option<String>,
    max_bytes: Option<i64>,
    from: Option<String>,
    cursor: Option<String>,
    #[serde(default)]
    pub(super) format: Format,
    /// The same as the header, for those who cannot set one.
    #[serde(rename = "Last-Event-ID", alias = "last-event-id", alias = "lastEventId")]
    last_event_id: Option<String>,
    #[serde(rename = "heartbeatIntervalInMs")]
    heartbeat_interval_in_ms: Option<u64>,
    #[serde(rename = "metadataAsComment", default)]
    pub(super) metadata_as_comment: bool,
    #[serde(rename = "headersAsComment", default)]
    pub(super) headers_as_comment: bool,
    /// What a record comes in, on a WebSocket.
    pub(super) frames: Option<Frames>,
    max_in_flight: Option<usize>,
    /// Whether a WebSocket starts as if it had been paused.
    paused: Option<bool>,
}

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Page,
    Events,
    Socket,
}

/// A request that may be served.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) selection: Selection,
    pub(super) limits: Limits,
    pub(super) max_wait: Duration,
    pub(super) encoded_ids: bool,
    /// Whether a topic that is not there is an error.
    pub(super) must_exist: bool,
}

impl Asked {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Failure> {
        let Query(asked) = Query::try_from_uri(uri)
            .map_err(|error| Failure::invalid(format!("query: {}", error.body_text())))?;
        Ok(asked)
    }

    /// Checks what is asked for: `topic` is the path's.
    pub(super) async fn check(
        &self,
        topic: Option<&str>,
        granted: &Granted<'_>,
        headers: &HeaderMap,
    ) -> Result<Wanted, Failure> {
        let (topics, entry) = self.topics(topic, granted).await?;
        let cursor = self.cursor(headers)?;
        let from = self.from.as_deref().map(From::parse).transpose();
        let from = from.map_err(|why| Failure::invalid(format!("from {why}")))?;
        for (what, names) in [
            ("cursor", cursor.as_ref()),
            (
                "from",
                match &from {
                    Some(From::At(cursor)) => Some(cursor),
                    _ => None,
                },
            ),
        ] {
            let stray = names.and_then(|names| {
                names
                    .iter()
                    .find(|(name, _, _)| !topics.iter().any(|t| **t == **name))
            });
            if let Some((name, _, _)) = stray {
                return Err(Failure::invalid(format!(
                    "{what} names topic {name}, which the request does not read"
                )));
            }
        }
        if let Some(partition) = self.partition.filter(|partition| *partition < 0) {
            return Err(Failure::invalid(format!("partition {partition} is negative")));
        }
        let number = |name: &str, asked: Option<i64>, usual: usize, low: i64, high: i64| match asked {
            None => Ok(usual),
            Some(number) if (low..=high).contains(&number) => Ok(usize::try_from(number).unwrap_or(usual)),
            Some(number) => Err(Failure::invalid(format!(
                "{name} {number} is not from {low} to {high}"
            ))),
        };
        Ok(Wanted {
            selection: Selection {
                topics,
                partition: self.partition,
                cursor,
                from,
                reset: entry.auto_offset_reset,
            },
            limits: Limits {
                records: number("limit", self.limit, entry.limit, 1, MAX_LIMIT)?,
                bytes: number("max_bytes", self.max_bytes, entry.max_bytes, 1, MAX_MAX_BYTES)?,
            },
            max_wait: self.max_wait(entry)?,
            encoded_ids: entry.encode_message_id,
            must_exist: entry.check_topic_existence,
        })
    }

    /// The topics, and the entry that says how they are read: that of the first.
    async fn topics<'a>(
        &self,
        topic: Option<&str>,
        granted: &Granted<'a>,
    ) -> Result<(Vec<Arc<str>>, &'a Read), Failure> {
        let mut names: Vec<String> = match (topic, &self.topics, &self.topics_pattern) {
            (Some(topic), None, None) => vec![topic.to_owned()],
            (None, Some(list), None) => list.split(',').map(|name| name.trim().to_owned()).collect(),
            (None, None, Some(pattern)) => self.matching(pattern, granted).await?,
            (Some(_), _, _) => {
                return Err(Failure::invalid(
                    "topics and topics_pattern are for /records, /stream and /ws: the path names a topic already",
                ));
            }
            (None, Some(_), Some(_)) => {
                return Err(Failure::invalid("topics and topics_pattern are both there"));
            }
            (None, None, None) => {
                return Err(Failure::invalid(
                    "topics is required, as topics=a,b, or topics_pattern",
                ));
            }
        };
        names.sort();
        names.dedup();
        if names.len() > MAX_TOPICS {
            return Err(Failure::invalid(format!(
                "the request reads {} topics, and may read {MAX_TOPICS}",
                names.len()
            )));
        }
        let mut how: Option<&Read> = None;
        for name in &names {
            config::check_topic(name).map_err(Failure::invalid)?;
            let entry = granted.check(name)?;
            how = how.or(Some(entry));
        }
        let how = how.ok_or_else(|| {
            Failure::new(
                Kind::UnknownTopic,
                "no topic that the caller may read has a name that topics_pattern matches",
            )
        })?;
        Ok((names.into_iter().map(Arc::from).collect(), how))
    }

    /// The topics that match and may be read.
    async fn matching(&self, pattern: &str, granted: &Granted<'_>) -> Result<Vec<String>, Failure> {
        granted.anything()?;
        let pattern = config::topics_pattern(pattern)
            .map_err(|why| Failure::invalid(format!("topics_pattern {why}")))?;
        let all = granted.reader.topics().await?;
        let may = |name: &String| pattern.is_match(name) && granted.entry(name).is_some();
        Ok(all.into_iter().filter(may).collect())
    }

    /// `cursor`, or where a stream ended before.
    fn cursor(&self, headers: &HeaderMap) -> Result<Option<Cursor>, Failure> {
        let header = match headers.get("last-event-id") {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .map_err(|_| Failure::invalid("Last-Event-ID is not ASCII"))?,
            ),
        };
        // A browser sends the header when it comes back, with the address that it had at first: the header is the newer.
        let given = [
            ("Last-Event-ID", header),
            ("Last-Event-ID", self.last_event_id.as_deref()),
            ("cursor", self.cursor.as_deref()),
        ];
        for (name, text) in given {
            // An event stream that sends no id is asked for with an empty one.
            if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
                let cursor = Cursor::parse(text);
                return cursor
                    .map(Some)
                    .map_err(|why| Failure::invalid(format!("{name} {why}")));
            }
        }
        Ok(None)
    }

    fn max_wait(&self, entry: &Read) -> Result<Duration, Failure> {
        let Some(text) = &self.max_wait else {
            return Ok(entry.max_wait);
        };
        let wait = match text.parse::<u64>() {
            Ok(ms) => Some(Duration::from_millis(ms)),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        let most = Duration::from_millis(MAX_MAX_WAIT.unsigned_abs());
        wait.filter(|wait| *wait <= most).ok_or_else(|| {
            Failure::invalid(format!(
                "max_wait {text:?} is no time, in milliseconds or as 5s, of at most {MAX_MAX_WAIT} ms"
            ))
        })
    }

    /// Refuses what means nothing to who is answered in this way.
    pub(super) fn refuse_strangers(&self, way: Way) -> Result<(), Failure> {
        use Way::{Events, Page, Socket};
        const STREAMS: &str = "is for streams: /stream, or Accept: text/event-stream; or /ws";
        const EVENTS: &str = "is for event streams: /stream, or Accept: text/event-stream";
        const PAGES: &str = "means nothing to a stream, which has no end";
        const SOCKETS: &str = "is for WebSockets: /ws";
        let rows: [(&str, bool, &[Way], &str); 9] = [
            (
                "heartbeatIntervalInMs",
                self.heartbeat_interval_in_ms.is_some(),
                &[Events, Socket],
                STREAMS,
            ),
            ("metadataAsComment", self.metadata_as_comment, &[Events], EVENTS),
            ("headersAsComment", self.headers_as_comment, &[Events], EVENTS),
            ("limit", self.limit.is_some(), &[Page], PAGES),
            ("max_wait", self.max_wait.is_some(), &[Page], PAGES),
            ("max_bytes", self.max_bytes.is_some(), &[Page], PAGES),
            ("frames", self.frames.is_some(), &[Socket], SOCKETS),
            ("max_in_flight", self.max_in_flight.is_some(), &[Socket], SOCKETS),
            ("paused", self.paused.is_some(), &[Socket], SOCKETS),
        ];
        let stranger = rows
            .into_iter()
            .find(|(_, given, ways, _)| *given && !ways.contains(&way));
        match stranger {
            Some((name, _, _, why)) => Err(Failure::invalid(format!("{name} {why}"))),
            None => Ok(()),
        }
    }

    /// How many records a WebSocket's client may have that it has not acknowledged.
    pub(super) fn max_in_flight(&self) -> Result<Option<usize>, Failure> {
        match self.max_in_flight {
            Some(max) if !(1..=MAX_IN_FLIGHT).contains(&max) => Err(Failure::invalid(format!(
                "max_in_flight {max} is not from 1 to {MAX_IN_FLIGHT}"
            ))),
            max => Ok(max),
        }
    }

    /// Whether a WebSocket starts without records.
    pub(super) fn paused(&self) -> bool {
        self.paused.unwrap_or_default()
    }

    /// How often a WebSocket's client is asked whether it is there.
    pub(super) fn ping(&self) -> Result<Duration, Failure> {
        self.heartbeat_or(PING)
    }

    /// How often a stream says that it is there.
    pub(super) fn heartbeat(&self) -> Result<Duration, Failure> {
        self.heartbeat_or(HEARTBEAT)
    }

    fn heartbeat_or(&self, usual: u64) -> Result<Duration, Failure> {
        let ms = self.heartbeat_interval_in_ms.unwrap_or(usual);
        if (MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&ms) {
            return Ok(Duration::from_millis(ms));
        }
        Err(Failure::invalid(format!(
            "heartbeatIntervalInMs {ms} is not from {MIN_HEARTBEAT} to {MAX_HEARTBEAT}"
        )))
    }
}

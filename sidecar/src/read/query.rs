//! What a request asks for.

mod filters;
mod selection;
mod strangers;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use serde::Deserialize;
use tokio::time::Instant;

use self::filters::Repeated;
use super::access::Granted;
use super::choice::{self, Request};
use super::failure::Failure;
use super::feed::Selection;
use super::fields::Fields;
use super::filter::Filters;
use super::from::From;
use super::groups::Wish;
use super::item::{Format, Style};
use super::view::Bounds;
use super::ws::{Frames, MAX_IN_FLIGHT};
use crate::config::{self, MAX_LIMIT, MAX_MAX_BYTES, MAX_MAX_WAIT, Qos, Read};
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
    pub(super) group: Option<String>,
    qos: Option<String>,
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
    fields: Option<String>,
    pub(super) view: Option<ViewName>,
    /// What a query may have several times.
    #[serde(skip)]
    filters: Repeated,
}

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Page,
    Events,
    Socket,
}

/// `view`: what of a topic is shown instead of its records one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ViewName {
    /// The newest record of each key.
    Latest,
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
    /// How values are written.
    pub(super) style: Style,
    /// When the token ends by which something of it is read.
    pub(super) until: Option<Instant>,
    /// The group whose position it is.
    pub(super) group: Option<Wish>,
    pub(super) filters: Filters,
    /// What of each record is wanted; none: all of it.
    pub(super) fields: Option<Fields>,
    /// What a view of the topic may hold.
    pub(super) view: Bounds,
}

/// What [`Asked`] knows, some of it by several names.
const KNOWN: [&str; 27] = [
    "cluster_name",
    "topics",
    "topics_pattern",
    "partition",
    "limit",
    "max_wait",
    "max_bytes",
    "from",
    "cursor",
    "format",
    "Last-Event-ID",
    "last-event-id",
    "lastEventId",
    "group",
    "qos",
    "fields",
    "view",
    "key",
    "header",
    "where",
    "jq",
    "heartbeatIntervalInMs",
    "metadataAsComment",
    "headersAsComment",
    "frames",
    "max_in_flight",
    "paused",
];

impl Asked {
    /// Reads the query, but for `others`, which choose something in some entry.
    pub(super) fn parse(uri: &Uri, others: &BTreeSet<String>) -> Result<Self, Failure> {
        let own = |name: &str| KNOWN.contains(&name) || !others.contains(name);
        let wrong = |text: String| Failure::invalid(format!("query: {text}"));
        let query = uri.query().unwrap_or_default();
        let mut filters = Repeated::default();
        let mut kept = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| own(name)) {
            if !filters.take(&name, &value) {
                kept.append_pair(&name, &value);
            }
        }
        let kept = format!("/?{}", kept.finish());
        let kept: Uri = kept.parse().map_err(|_| wrong("it is too long".to_owned()))?;
        let Query(asked) = Query::<Self>::try_from_uri(&kept).map_err(|error| wrong(error.body_text()))?;
        Ok(Self { filters, ..asked })
    }

    /// Checks what is asked for: `topic` is the path's.
    pub(super) async fn check(
        &self,
        topic: Option<&str>,
        granted: &Granted<'_>,
        request: &Request<'_>,
        others: &BTreeSet<String>,
    ) -> Result<Wanted, Failure> {
        let (topics, entry) = self.topics(topic, granted).await?;
        let others = others.iter().filter(|name| !KNOWN.contains(&name.as_str()));
        choice::refuse_strangers(others, entry, request)?;
        let first = topics.first().map_or("", |topic| &**topic);
        let filters = self.filters(&topics, entry, granted).await?;
        let fields = self.fields.as_deref().map(Fields::parse).transpose();
        let fields = fields.map_err(|why| Failure::invalid(format!("fields {why}")))?;
        if fields.is_some() && (self.metadata_as_comment || self.headers_as_comment) {
            return Err(Failure::invalid(
                "fields is beside metadataAsComment or headersAsComment: each says what the data has",
            ));
        }
        // A view has cursors of its own.
        let cursor = if self.view.is_none() {
            self.cursor(request.headers)?
        } else {
            None
        };
        let from = self.from(entry, granted, first)?;
        let from = from.map(From::parse).transpose();
        let from = from.map_err(|why| Failure::invalid(format!("from {why}")))?;
        let reset = match &entry.chosen_reset {
            None => entry.auto_offset_reset,
            Some(choice) => {
                let word = granted.chosen(choice, "auto_offset_reset", first)?;
                config::reset(word).unwrap_or(entry.auto_offset_reset)
            }
        };
        let ends = topics.iter().filter_map(|topic| granted.caller_of(topic));
        let left = ends.map(|caller| caller.left()).min();
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
        let group = self.wish(entry, granted, first)?;
        if group.is_some() && self.partition.is_some() {
            return Err(Failure::invalid(
                "partition and group are both there: the group says which partitions a reader has",
            ));
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
                reset,
            },
            limits: Limits {
                records: number("limit", self.limit, entry.limit, 1, MAX_LIMIT)?,
                bytes: number("max_bytes", self.max_bytes, entry.max_bytes, 1, MAX_MAX_BYTES)?,
            },
            max_wait: self.max_wait(entry)?,
            encoded_ids: entry.encode_message_id,
            must_exist: entry.check_topic_existence,
            style: Style {
                format: self.format,
                unframed: entry.remove_confluent_header,
            },
            until: left.and_then(|left| Instant::now().checked_add(left)),
            group,
            filters,
            fields,
            view: Bounds {
                keys: entry.max_view_keys,
                bytes: entry.max_view_bytes,
            },
        })
    }

    /// The group, and what is to hold for its records.
    fn wish(&self, entry: &Read, granted: &Granted<'_>, topic: &str) -> Result<Option<Wish>, Failure> {
        let qos = match self.qos.as_deref() {
            None => None,
            Some(name) => Some(Qos::of(name).ok_or_else(|| {
                Failure::invalid(format!(
                    "qos {name:?} is none of none, auto, balanced, at-best, at-most-once and at-least-once"
                ))
            })?),
        };
        match granted.group(entry, topic, self.group.as_deref())? {
            Some(group) => Ok(Some(Wish {
                group,
                qos: qos.unwrap_or(entry.groups.qos),
            })),
            None if qos.is_some_and(|qos| qos != Qos::None) => Err(Failure::invalid(
                "qos is for readers of a group: name it in group",
            )),
            None => Ok(None),
        }
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

    /// Where a view's page starts.
    pub(super) fn view_cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The key whose record alone is asked for.
    pub(super) fn view_key(&self) -> Option<&str> {
        match &self.filters.keys[..] {
            [key] => Some(key),
            _ => None,
        }
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

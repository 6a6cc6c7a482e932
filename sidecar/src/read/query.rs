//! What a request asks for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Granted;
use super::choice::{self, Request};
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::feed::Selection;
use super::fields::Fields;
use super::filter::{Filter, Filters};
use super::from::From;
use super::groups::Wish;
use super::item::{Format, Style};
use super::view::Bounds;
use super::ws::{Frames, MAX_IN_FLIGHT};
use crate::config::{self, ChosenFrom, MAX_LIMIT, MAX_MAX_BYTES, MAX_MAX_WAIT, Qos, Read};
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

/// The query's arguments that may be there several times: `key`, `header`, `where` and `jq`.
#[derive(Debug, Default, Clone)]
struct Repeated {
    keys: Vec<String>,
    headers: Vec<String>,
    places: Vec<String>,
    programs: Vec<String>,
}

impl Repeated {
    fn is_empty(&self) -> bool {
        [&self.keys, &self.headers, &self.places, &self.programs]
            .iter()
            .all(|list| list.is_empty())
    }

    /// Takes an argument that is one of them; false if it is none.
    fn take(&mut self, name: &str, value: &str) -> bool {
        let list = match name {
            "key" => &mut self.keys,
            "header" => &mut self.headers,
            "where" => &mut self.places,
            "jq" => &mut self.programs,
            _ => return false,
        };
        list.push(value.to_owned());
        true
    }
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

    /// What the entries and the request leave of the topics' records.
    async fn filters(
        &self,
        topics: &[Arc<str>],
        entry: &Read,
        granted: &Granted<'_>,
    ) -> Result<Filters, Failure> {
        let mut forced = HashMap::new();
        for topic in topics {
            let filters = granted.forced(granted.check(topic)?, topic)?;
            if !filters.is_empty() {
                forced.insert(Arc::clone(topic), filters);
            }
        }
        let Repeated {
            keys,
            headers,
            places,
            programs,
        } = self.filters.clone();
        let parse = move || Filter::parse(&keys, &headers, &places, &programs);
        let own = if self.filters.programs.is_empty() {
            parse()
        } else {
            // To compile a program takes some milliseconds.
            tokio::task::spawn_blocking(parse)
                .await
                .map_err(|why| Failure::new(Kind::Overloaded, format!("jq cannot be compiled: {why}")))?
        };
        let own = own.map_err(|(name, why)| Failure::invalid(format!("{name} {why}")))?;
        Ok(Filters {
            own: Arc::new(own),
            forced,
            unframed: entry.remove_confluent_header,
        })
    }

    /// Where reading starts: what the request says, or what it chooses where the entry does not let it say.
    fn from<'c>(
        &'c self,
        entry: &'c Read,
        granted: &Granted<'_>,
        topic: &str,
    ) -> Result<Option<&'c str>, Failure> {
        let Some(choice) = &entry.from else {
            return Ok(self.from.as_deref());
        };
        if self.from.is_some() && choice.from != ChosenFrom::Query("from".to_owned()) {
            return Err(Failure::invalid(format!(
                "from: {} chooses it for this topic, and not the argument",
                choice.from
            )));
        }
        granted.chosen(choice, "from", topic).map(Some)
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
            (None, None, None) => match granted.topic()? {
                Some(topic) => vec![topic],
                None => {
                    return Err(Failure::invalid(
                        "topics is required, as topics=a,b, or topics_pattern",
                    ));
                }
            },
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

    /// Refuses everything but the cluster's name, and the group where its position is told: no records are asked for.
    pub(super) fn refuse_all_but_the_cluster(&self, group_too: bool) -> Result<(), Failure> {
        let Self {
            cluster_name: _,
            topics,
            topics_pattern,
            partition,
            limit,
            max_wait,
            max_bytes,
            from,
            cursor,
            format,
            last_event_id,
            heartbeat_interval_in_ms,
            metadata_as_comment,
            headers_as_comment,
            group,
            qos,
            fields,
            view,
            frames,
            max_in_flight,
            paused,
            filters,
        } = self;
        let given = [
            ("topics", topics.is_some()),
            ("topics_pattern", topics_pattern.is_some()),
            ("partition", partition.is_some()),
            ("limit", limit.is_some()),
            ("max_wait", max_wait.is_some()),
            ("max_bytes", max_bytes.is_some()),
            ("from", from.is_some()),
            ("cursor", cursor.is_some()),
            ("format", *format != Format::default()),
            ("Last-Event-ID", last_event_id.is_some()),
            ("heartbeatIntervalInMs", heartbeat_interval_in_ms.is_some()),
            ("metadataAsComment", *metadata_as_comment),
            ("headersAsComment", *headers_as_comment),
            ("group", group.is_some() && !group_too),
            ("qos", qos.is_some()),
            ("fields", fields.is_some()),
            ("view", view.is_some()),
            ("frames", frames.is_some()),
            ("max_in_flight", max_in_flight.is_some()),
            ("paused", paused.is_some()),
            ("key, header, where or jq", !filters.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::invalid(format!("query: {name} means nothing here"))),
            None => Ok(()),
        }
    }

    /// Refuses what means nothing to who is answered in this way.
    pub(super) fn refuse_strangers(&self, way: Way) -> Result<(), Failure> {
        use Way::{Events, Page, Socket};
        const STREAMS: &str = "is for streams: /stream, or Accept: text/event-stream; or /ws";
        const EVENTS: &str = "is for event streams: /stream, or Accept: text/event-stream";
        const PAGES: &str = "means nothing to a stream, which has no end";
        const SOCKETS: &str = "is for WebSockets: /ws";
        let rows: [(&str, bool, &[Way], &str); 10] = [
            (
                "view",
                self.view.is_some(),
                &[Page],
                "is for reads: read it, and stream from its position on",
            ),
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

    /// Refuses what means nothing to a view.
    pub(super) fn refuse_for_view(&self) -> Result<(), Failure> {
        let strangers = [
            ("topics_pattern", self.topics_pattern.is_some()),
            ("partition", self.partition.is_some()),
            ("from", self.from.is_some()),
            ("max_wait", self.max_wait.is_some()),
            ("Last-Event-ID", self.last_event_id.is_some()),
            ("group", self.group.is_some()),
            ("qos", self.qos.is_some()),
        ];
        match strangers.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::invalid(format!(
                "{name} means nothing to a view, which is of all of a topic (to wait, send If-None-Match and Prefer: wait=10)"
            ))),
            None => Ok(()),
        }
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

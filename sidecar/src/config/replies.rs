//! `replies:`, the topics where replies to records come, and how a reply becomes an HTTP answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sluice_settings::Section;

use super::read::{Context, check_topic, named_cluster};
use super::secret::{self, Inline};
use super::{Cluster, Secret, TopicAllowlist, clusters};

/// The longest that a request may wait for a reply, in milliseconds: an hour.
const MAX_WAIT_MS: i64 = 3_600_000;
/// The longest that a reply can be asked for, in milliseconds: a week.
const MAX_RETENTION_MS: i64 = 7 * 24 * 3_600_000;
/// The shortest key that signs Locations, in bytes.
const MIN_KEY: usize = 16;

/// The headers that Spring Kafka's `ReplyingKafkaTemplate` writes and `@SendTo` goes by
/// (`org.springframework.kafka.support.KafkaHeaders`).
pub(crate) const CORRELATION: &str = "kafka_correlationId";
pub(crate) const REPLY_TOPIC: &str = "kafka_replyTopic";
/// The headers of replies that say what the answer is.
pub(crate) const STATUS: &str = "http-status";
pub(crate) const CONTENT_TYPE: &str = "content-type";

/// What a reply's header cannot be an answer's: what is between two ends of a connection (RFC 9110, section 7.6.1), says how
/// long the answer is, or is said by the record in another way.
const NOT_FORWARDED: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "preference-applied",
];

/// Where replies come, and how they are waited for.
#[derive(Debug, Clone)]
pub struct Replies {
    /// How many requests may wait for replies at once, those that poll included.
    pub max_waiting: usize,
    /// What is before a token in a Location: a path, or a URL; it ends with `/`.
    pub location: String,
    /// What signs Locations, the same in every sidecar that is to answer them; without it they are not signed.
    pub token_key: Option<Secret>,
    /// The topics.
    pub topics: Vec<Arc<ReplyTopic>>,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            max_waiting: 10_000,
            location: "/replies/".to_owned(),
            token_key: None,
            topics: Vec::new(),
        }
    }
}

/// A topic where replies come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTopic {
    /// Its cluster.
    pub cluster: String,
    /// Its name.
    pub topic: String,
    /// The topics whose records, when they come by the REST face and prefer to be waited for, are replied to here.
    pub requests: TopicAllowlist,
    /// The longest that a request waits, whatever it asks for.
    pub max_wait: Duration,
    /// How long after its request a reply can be asked for.
    pub retention: Duration,
    /// The record header that holds the correlation id, in requests and replies.
    pub correlation_header: String,
    /// The header of requests that names the topic; none: they have no such header.
    pub reply_topic_header: Option<String>,
    /// The header of replies that says the status of the answer.
    pub status_header: String,
    /// The header of replies that says the media type of the answer.
    pub content_type_header: String,
    /// The headers of replies that are headers of the answer.
    pub headers: Vec<String>,
}

/// Reads the section of the root.
pub(super) fn read(
    root: &Section<'_>,
    known: (&BTreeMap<String, Cluster>, Option<&str>),
    context: &Context<'_>,
) -> Replies {
    let mut replies = Replies::default();
    let Some(section) = root.section("replies") else {
        return replies;
    };
    if let Some(most) = section.integer("max_waiting", 1..=1_000_000) {
        replies.max_waiting = usize::try_from(most).unwrap_or(replies.max_waiting);
    }
    if let Some(location) = section.name("location") {
        let begins = ["/", "http://", "https://"]
            .iter()
            .any(|start| location.starts_with(start));
        let plain = location
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte));
        if !begins || !location.ends_with('/') || !plain {
            section.problem(
                "location",
                format!("{location:?} is neither a path nor a URL that ends with `/`, as /replies/"),
            );
        }
        replies.location = location;
    }
    replies.token_key = secret::field(&section, "token_key", Inline::Warned, context);
    if let Some(key) = &replies.token_key
        && key.expose().len() < MIN_KEY
    {
        section.problem(
            "token_key",
            format!("is shorter than {MIN_KEY} bytes, and could be guessed"),
        );
    }
    let mut names = BTreeSet::new();
    for topic in section.sections("topics").unwrap_or_default() {
        let place = topic.path().to_owned();
        let Some(one) = one(topic, known) else { continue };
        if !names.insert((one.cluster.clone(), one.topic.clone())) {
            context.problems.report(
                place,
                format!("topic {:?} of cluster {:?} is here twice", one.topic, one.cluster),
            );
        }
        replies.topics.push(Arc::new(one));
    }
    if section.raw("topics").is_none() {
        section.problem(
            "topics",
            "is required: where replies come, as [{topic: orders.replies}]",
        );
    }
    section.finish();
    replies
}

fn one(section: Section<'_>, known: (&BTreeMap<String, Cluster>, Option<&str>)) -> Option<ReplyTopic> {
    let cluster = named_cluster(&section, known);
    match &cluster {
        Some((name, Some(found))) if found.callers.is_some() => section.problem(
            "cluster",
            format!(
                "{name:?} is written with its callers' own tokens (`credentials: from_request`), and reading replies has none \
                 to show: name a cluster with credentials of its own"
            ),
        ),
        Some((name, Some(found))) if !found.consumes => section.problem(
            "cluster",
            format!("clusters.{name}.consumer.enabled is false, and replies are read"),
        ),
        _ => {}
    }
    let topic = section.name("topic");
    match &topic {
        None if section.raw("topic").is_none() => section.problem("topic", "is required"),
        None => {}
        Some(topic) => {
            if let Err(why) = check_topic(topic) {
                section.problem("topic", why);
            }
        }
    }
    let requests = clusters::allowlist(&section, "requests");
    let max_wait = section.millis("max_wait", 1..=MAX_WAIT_MS);
    let retention = section.millis("retention", 1000..=MAX_RETENTION_MS);
    let correlation_header = header(&section, "correlation_header", CORRELATION);
    let reply_topic_header = match section
        .raw("reply_topic_header")
        .map(|raw| raw.as_str() == Some("none"))
    {
        Some(true) => None,
        _ => Some(header(&section, "reply_topic_header", REPLY_TOPIC)),
    };
    if reply_topic_header.as_ref() == Some(&correlation_header) {
        section.problem("reply_topic_header", "is the correlation_header, too");
    }
    let status_header = header(&section, "status_header", STATUS);
    let content_type_header = header(&section, "content_type_header", CONTENT_TYPE);
    let headers = section.strings("headers").unwrap_or_default();
    for (i, name) in headers.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let place = format!("headers[{i}]");
        if axum::http::HeaderName::from_bytes(lower.as_bytes()).is_err() {
            section.problem(&place, format!("{name:?} is no name of an HTTP header"));
        } else if NOT_FORWARDED.contains(&lower.as_str()) || lower.starts_with("x-kafka-") {
            section.problem(
                &place,
                format!("{name:?} is not a reply's to say: it is the connection's, or Sluice's own"),
            );
        }
    }
    section.finish();
    Some(ReplyTopic {
        cluster: cluster?.0,
        topic: topic?,
        requests,
        max_wait: max_wait.unwrap_or(Duration::from_secs(60)),
        retention: retention.unwrap_or(Duration::from_secs(3600)),
        correlation_header,
        reply_topic_header,
        status_header,
        content_type_header,
        headers,
    })
}

/// The name of a record header.
fn header(section: &Section<'_>, key: &str, default: &str) -> String {
    let name = section.name(key).unwrap_or_else(|| default.to_owned());
    if name.len() > 255 || name.contains('\0') {
        section.problem(
            key,
            "is no header's name: it is longer than 255 bytes, or has a zero byte",
        );
    }
    name
}

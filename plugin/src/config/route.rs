//! What a request's merged configuration says, checked: the types that the rest of the filter works with.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::template::PathTemplate;
use crate::reply_to;
use crate::request::Head;

/// The settings of one route that produces. Built once per distinct merged configuration and cached.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Where each record goes: one or more topics. None where the request names or chooses them.
    pub topics: Vec<String>,
    /// Where the request chooses its topic, and among which.
    pub topic_choice: Option<Choice>,
    /// A query argument that names topics instead (a comma list), each of which must be allowed.
    pub topics_query_arg: Option<String>,
    /// The topics that `topics_query_arg` may name, besides those of `topics`.
    pub allowed_topics: Vec<String>,
    /// What becomes the record's value.
    pub value: Value,
    /// Exceptions to `value` by request method (upper case).
    pub value_by_method: Vec<(String, Value)>,
    /// What the envelope carries.
    pub forward: Forward,
    /// Further media types to treat as `application/json`: exact (`application/problem+json`) or by suffix
    /// (`application/*+json`), lower case.
    pub json_content_types: Vec<String>,
    /// How deep a JSON body may nest.
    pub max_json_depth: u32,
    /// Where the record key comes from.
    pub key: Option<Key>,
    /// Where an explicit partition comes from.
    pub partition: Option<PartitionSource>,
    /// Which request headers become record headers.
    pub headers: HeaderRules,
    /// Credential headers (lower case) that may leave like any other header.
    pub credential_headers: Vec<String>,
    /// CloudEvents handling.
    pub cloudevents: CloudEvents,
    /// When the client is answered.
    pub delivery: Delivery,
    /// Whether the sidecar's spool takes the record while its cluster is away.
    pub spool_on_outage: bool,
    /// Whether the sidecar is told the bearer token of the request's `Authorization`.
    pub forward_bearer_token: bool,
    /// Where the key comes from under which a record is written once; `None`: each request is a record.
    pub idempotency: Option<Idempotency>,
    /// The status of a success; `None` is 200 when stored, 202 when accepted.
    pub success_status: Option<u16>,
    /// The message of a success; `None` is `message sent` when stored, `message accepted` when accepted.
    pub success_message: Option<String>,
    /// The largest request body, in bytes; more is 413.
    pub max_body_bytes: usize,
    /// How long a request waits for its record's fate.
    pub answer_timeout: Duration,
    /// Envoy's name of the cluster that leads to the sidecar.
    pub sidecar_cluster: String,
    /// The sidecar's name of the Kafka cluster; empty is its default.
    pub cluster_name: Named,
    /// The sidecar's name of the producer profile; empty is its default.
    pub producer: Named,
    /// What happens once the record is stored.
    pub then: Then,
    /// With [`Then::Continue`]: what happens when it is not.
    pub on_error: OnError,
    /// Whether replies carry `x-kafka-topic`, `x-kafka-partition` and `x-kafka-offset`.
    pub reply_headers: bool,
    /// Whether OPTIONS requests are records too; otherwise they pass through.
    pub produce_options: bool,
    /// How records travel to the sidecar.
    pub transport: Transport,
    /// How many of its records may be without a fate, of one worker.
    pub outstanding: Option<Outstanding>,
    /// What the sidecar makes of the record by expressions; `None`: nothing.
    pub template: Option<Box<Template>>,
    /// Where a reply to the record comes, and how long it is waited for; `None`: it is not.
    pub reply: Option<Box<Reply>>,
}

/// How a reply is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The topic where replies come.
    pub topic: String,
    /// How long a request waits that does not say.
    pub wait: Duration,
    /// The longest that a request may wait, whatever it says.
    pub max_wait: Duration,
    /// Where the client's own correlation id comes from; `None`: the sidecar makes one.
    pub correlation_id: Option<Source>,
}

/// What the sidecar makes of parts of a request, by expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The definition, as the sidecar reads it.
    pub definition: String,
    /// The template of the sidecar's that the definition names, if that is what it does.
    pub name: Option<String>,
    /// Whether the record's value is made, and not taken.
    pub payload: bool,
    /// What is told of who asks: names of `.trigger.by`, and where each one's value comes from.
    pub by: Vec<(String, Source)>,
}

impl Route {
    /// How long a request may take: `answer_timeout` for its record, and as long as it waits for a reply besides.
    pub fn longest(&self, head: &Head<'_>) -> Duration {
        match &self.reply {
            None => self.answer_timeout,
            Some(reply) => self.answer_timeout.saturating_add(reply_to::wait(reply, head)),
        }
    }

    /// Whether a request's dynamic metadata is needed to make its record.
    pub fn reads_metadata(&self) -> bool {
        let is = |source: &Source| matches!(source, Source::Metadata(_));
        let of = |named: &Named| matches!(named, Named::Chosen(choice) if is(&choice.source));
        self.topic_choice
            .as_ref()
            .is_some_and(|choice| is(&choice.source))
            || self.key.as_ref().is_some_and(|key| is(&key.source))
            || matches!(&self.partition, Some(PartitionSource::From(source)) if is(source))
            || of(&self.cluster_name)
            || of(&self.producer)
            || self
                .template
                .as_ref()
                .is_some_and(|template| template.by.iter().any(|(_, source)| is(source)))
            || self
                .reply
                .as_ref()
                .is_some_and(|reply| reply.correlation_id.as_ref().is_some_and(is))
    }
}

/// `max_outstanding_records`, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outstanding {
    /// The bound.
    pub max: usize,
    /// How many there are. Requests of the same merged configuration share it.
    pub now: Rc<Cell<usize>>,
}

/// What becomes the record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The JSON object that the `forward_*` settings ask for.
    Envelope,
    /// The request body as it is.
    Body,
    /// Nothing: a tombstone.
    None,
}

/// Kong's `forward_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// `method`.
    pub method: bool,
    /// `uri` and `uri_args`.
    pub uri: bool,
    /// `headers`.
    pub headers: bool,
    /// `body`, `body_args`, `body_base64`.
    pub body: bool,
}

/// A part of the request that gives one string of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A query argument: the first of that name, percent-decoded. Absent: none.
    Query(String),
    /// A header (lower case): the first of that name. Absent: none.
    Header(String),
    /// A cookie of that name. Absent: none.
    Cookie(String),
    /// What stands in the place of the template's name, percent-decoded. A path that is not of that form: none.
    Path(PathTemplate),
    /// The n-th segment of the path (0 is the first), percent-decoded. Absent or empty: none.
    PathSegment(usize),
    /// An RFC 6901 pointer into the JSON body. A string gives its characters; any other scalar its text as
    /// sent; null or nothing: none; an object or array is a 400.
    JsonPointer(String),
    /// A value of Envoy's dynamic metadata: the namespace, then the names that lead to it. A string gives its
    /// characters, a number or boolean its text; absent or null: none; a mapping or list is a 400.
    Metadata(Vec<String>),
}

impl fmt::Display for Source {
    /// Names it in an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(name) => write!(f, "the query argument {name}"),
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Cookie(name) => write!(f, "the cookie {name}"),
            Self::Path(template) => write!(f, "the path as {template}"),
            Self::PathSegment(index) => write!(f, "segment {index} of the path"),
            Self::JsonPointer(pointer) => write!(f, "the JSON body at {pointer}"),
            Self::Metadata(parts) => write!(f, "the dynamic metadata {}", parts.join(".")),
        }
    }
}

/// Where the record's key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What says it.
    pub source: Source,
    /// The keys that it may be; `None`: any.
    pub allowed: Option<Vec<String>>,
    /// The key where the source says none.
    pub default: Option<String>,
}

impl Key {
    /// Whatever `source` says.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            allowed: None,
            default: None,
        }
    }
}

/// A value that a request chooses among those that are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What says it.
    pub source: Source,
    /// The values that it may be; at least one, no two the same, none empty.
    pub allowed: Vec<String>,
    /// Which of `allowed` it is where the source says none; `None`: that is an error.
    pub default: Option<usize>,
}

/// A name of something in the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// That one.
    Fixed(String),
    /// The one that the request chooses.
    Chosen(Choice),
}

/// Where an explicit partition comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionSource {
    /// Always this one.
    Fixed(i32),
    /// Named by the request; not a number from 0 is a 400; absent: chosen by key.
    From(Source),
}

/// Kong 3.15's `headers` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRules {
    /// `forward_http_headers_as_record_headers`.
    pub enabled: bool,
    /// `forward_all_by_default`: false is an allowlist.
    pub all_by_default: bool,
    /// `include_headers`, lower case.
    pub include: Vec<String>,
    /// `exclude_headers`, lower case. Wins over `include`.
    pub exclude: Vec<String>,
    /// `name_mappings`: request header (lower case) to record header.
    pub rename: Vec<(String, String)>,
    /// `repeated_headers_behavior`.
    pub repeated: Repeated,
}

/// How a repeated request is told from a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The header (lower case) that holds the key.
    pub header: String,
    /// How long a key is kept; `None` is as the sidecar has it.
    pub window: Option<Duration>,
    /// Whether a request without a key is a 400; otherwise it is a record like any other.
    pub required: bool,
}

/// What becomes of a header that came more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// Each becomes a record header, in order.
    RetainDuplicates,
    /// Only the first.
    TakeFirst,
    /// One, joined by commas.
    ConcatenateByComma,
}

/// CloudEvents 1.0, Kafka protocol binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudEvents {
    /// Requests are not looked at as events.
    Off,
    /// Binary mode: `ce-*` request headers become `ce_*` record headers, `content-type` is kept, the value is
    /// the body.
    Binary,
    /// Structured mode: the value is one JSON event (`application/cloudevents+json`), made from binary-mode
    /// requests and kept as it is when it came so.
    Structured,
}

/// When the client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// When the broker acknowledged the record.
    Acked,
    /// When the sidecar holds it in memory.
    Buffered,
    /// When it is in the sidecar's spool, on its disk.
    Spooled,
}

/// What happens once the record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The client is answered.
    Respond,
    /// The request goes on to its upstream.
    Continue,
}

/// What happens to a [`Then::Continue`] request whose record was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The client gets the error.
    Respond,
    /// The request goes on to its upstream all the same.
    Continue,
}

/// How records travel to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// On the worker's gRPC stream.
    Stream,
    /// Each as an HTTP call of its own.
    Http,
}

//! A layer: the settings of a route as one place writes them. Every field may be absent.

use std::time::Duration;

use sluice_settings::Section;

use super::route::{
    Choice, CloudEvents, Delivery, Idempotency, Key, Named, OnError, PartitionSource, Repeated, Reply,
    Source, Then, Transport, Value,
};
use super::{fields, payload, refused, reply, source};

/// Defines [`Layer`] and how one lies over another, so that no field can be forgotten in a merge.
macro_rules! layer {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// The settings that one place writes; `None` is not written there.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(super) struct Layer {
            $($(#[$doc])* pub(super) $name: Option<$type>,)*
        }

        impl Layer {
            /// What is written here, and what `self` does not write as `lower` writes it.
            fn or(&self, lower: &Self) -> Self {
                Self { $($name: self.$name.clone().or_else(|| lower.$name.clone()),)* }
            }
        }
    };
}

layer! {
    /// `topic` or `topics`.
    topics: Topics,
    topics_query_arg: String,
    allowed_topics: Vec<String>,
    value: Value,
    value_by_method: Vec<(String, Value)>,
    forward_method: bool,
    forward_uri: bool,
    forward_headers: bool,
    forward_body: bool,
    json_content_types: Vec<String>,
    max_json_depth: u32,
    /// `key` or `key_query_arg`; `Some(None)` is `none`.
    key: Option<Key>,
    /// `Some(None)` is `none`.
    partition: Option<PartitionSource>,
    /// The fields of `headers`, each a field of its own in a merge.
    record_headers: bool,
    all_headers_by_default: bool,
    include_headers: Vec<String>,
    exclude_headers: Vec<String>,
    name_mappings: Vec<(String, String)>,
    repeated_headers: Repeated,
    credential_headers: Vec<String>,
    cloudevents: CloudEvents,
    /// `delivery` or `producer_async`.
    delivery: Delivery,
    spool_on_outage: bool,
    forward_bearer_token: bool,
    /// `Some(None)` is `none`.
    idempotency: Option<Idempotency>,
    success_status: u16,
    success_message: String,
    max_body_bytes: usize,
    answer_timeout: Duration,
    sidecar_cluster: String,
    cluster_name: Named,
    producer: Named,
    then: Then,
    on_error: OnError,
    reply_headers: bool,
    produce_options: bool,
    transport: Transport,
    max_outstanding_records: usize,
    payload: serde_json::Value,
    template: payload::Parts,
    trigger: payload::Trigger,
    encrypt: payload::Encrypt,
    /// `Some(None)` is `none`.
    reply: Option<Reply>,
}

/// The topics of a route's own.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Topics {
    /// Those; none takes away what a lower layer named.
    Fixed(Vec<String>),
    /// The one that the request chooses.
    Chosen(Choice),
}

/// The largest `max_body_bytes`: Envoy holds that much in memory for each request.
const MAX_BODY_BYTES: i64 = 1 << 30;

/// The longest time that a request may wait, in milliseconds: an hour.
pub(super) const MAX_WAIT_MS: i64 = 3_600_000;

/// The largest bound on outstanding records, as that of a worker.
const MAX_OUTSTANDING: i64 = 1_000_000;

/// The deepest that `max_json_depth` allows: few readers of a record follow further.
const MAX_JSON_DEPTH: i64 = 1_000;

const VALUES: [(&str, Value); 3] = [
    ("envelope", Value::Envelope),
    ("body", Value::Body),
    ("none", Value::None),
];

impl Layer {
    /// Reads the fields of a layer from `section`. The caller, who may know further fields, calls `finish`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        refused::report(section);
        let mut layer = Self {
            topics: topics(section),
            topics_query_arg: section.name("topics_query_arg"),
            allowed_topics: fields::topics(section, "allowed_topics"),
            value: section.choice("value", &VALUES),
            value_by_method: fields::by_method(section, "value_by_method", &VALUES),
            forward_method: section.bool("forward_method"),
            forward_uri: section.bool("forward_uri"),
            forward_headers: section.bool("forward_headers"),
            forward_body: section.bool("forward_body"),
            json_content_types: fields::media_types(section, "json_content_types"),
            max_json_depth: integer(section, "max_json_depth", 1, MAX_JSON_DEPTH),
            key: key(section),
            partition: source::partition(section, "partition"),
            credential_headers: fields::credential_headers(section, "credential_headers"),
            cloudevents: section.choice(
                "cloudevents",
                &[
                    ("off", CloudEvents::Off),
                    ("binary", CloudEvents::Binary),
                    ("structured", CloudEvents::Structured),
                ],
            ),
            delivery: delivery(section),
            spool_on_outage: section.bool("spool_on_outage"),
            forward_bearer_token: section.bool("forward_bearer_token"),
            idempotency: fields::idempotency(section, "idempotency"),
            success_status: integer(section, "success_status", 200, 299),
            success_message: section.string("success_message"),
            max_body_bytes: integer(section, "max_body_bytes", 1, MAX_BODY_BYTES),
            answer_timeout: section.millis("answer_timeout", 1..=MAX_WAIT_MS),
            sidecar_cluster: fields::envoy_cluster(section, "sidecar_cluster"),
            cluster_name: source::named(section, "cluster_name"),
            producer: source::named(section, "producer"),
            then: section.choice(
                "then",
                &[("respond", Then::Respond), ("continue", Then::Continue)],
            ),
            on_error: section.choice(
                "on_error",
                &[("respond", OnError::Respond), ("continue", OnError::Continue)],
            ),
            reply_headers: section.bool("reply_headers"),
            produce_options: section.bool("produce_options"),
            transport: section.choice(
                "transport",
                &[("stream", Transport::Stream), ("http", Transport::Http)],
            ),
            max_outstanding_records: integer(section, "max_outstanding_records", 1, MAX_OUTSTANDING),
            payload: payload::payload(section, "payload"),
            template: payload::parts(section, "template"),
            trigger: payload::trigger(section, "trigger"),
            encrypt: payload::encrypt(section, "encrypt"),
            reply: reply::reply(section, "reply"),
            ..Self::default()
        };
        layer.read_headers(section);
        layer
    }

    /// Kong's `headers` block.
    fn read_headers(&mut self, section: &Section<'_>) {
        let Some(headers) = section.section("headers") else {
            return;
        };
        self.record_headers = headers.bool("forward_http_headers_as_record_headers");
        self.all_headers_by_default = headers.bool("forward_all_by_default");
        self.include_headers = fields::header_names(&headers, "include_headers");
        self.exclude_headers = fields::header_names(&headers, "exclude_headers");
        self.name_mappings = fields::name_mappings(&headers, "name_mappings");
        self.repeated_headers = headers.choice(
            "repeated_headers_behavior",
            &[
                ("retain_duplicates", Repeated::RetainDuplicates),
                ("take_first", Repeated::TakeFirst),
                ("concatenate_by_comma", Repeated::ConcatenateByComma),
            ],
        );
        headers.finish();
    }

    /// This layer over `lower`, field by field.
    ///
    /// A choice made here takes away what only made sense with the choice of a lower layer: to answer takes
    /// away `on_error`, to continue takes away the answer's status and message, to handle CloudEvents takes
    /// away `value: envelope`, `transport: http` the bound on what is on the stream, a topic that the request
    /// chooses another way of choosing, `payload` the `value`, and `value` the `payload` and what of it is encrypted. A
    /// template of the sidecar's takes away what one of the route's own is made of, and the other way round.
    pub(super) fn over(&self, lower: &Self) -> Self {
        let mut merged = self.or(lower);
        match self.then {
            Some(Then::Respond) => merged.on_error = self.on_error,
            Some(Then::Continue) => {
                merged.success_status = self.success_status;
                merged.success_message.clone_from(&self.success_message);
            }
            None => {}
        }
        if self.transport == Some(Transport::Http) {
            merged.max_outstanding_records = self.max_outstanding_records;
        }
        if self.payload.is_some() {
            merged.value = self.value;
        } else if self.value.is_some() {
            merged.payload = None;
            merged.encrypt.clone_from(&self.encrypt);
        }
        if self.template.is_none() && self.payload.is_some() && merged.template_name().is_some() {
            merged.template = None;
        }
        if self.template_name().is_some() {
            merged.payload.clone_from(&self.payload);
            merged.encrypt.clone_from(&self.encrypt);
        }
        if matches!(self.topics, Some(Topics::Chosen(_))) {
            merged.topics_query_arg.clone_from(&self.topics_query_arg);
        }
        let events = self.cloudevents.is_some_and(|mode| mode != CloudEvents::Off);
        if events && merged.value == Some(Value::Envelope) {
            merged.value = self.value;
        }
        merged
    }

    /// Whether this configuration names a topic that a record can go to: only then does the filter act.
    pub(super) fn names_a_topic(&self) -> bool {
        let own = match &self.topics {
            Some(Topics::Fixed(names)) => !names.is_empty(),
            Some(Topics::Chosen(_)) => true,
            None => false,
        };
        let may_name = self.allowed_topics.as_ref().is_some_and(|list| !list.is_empty());
        own || ((self.topics_query_arg.is_some() || self.topic_template().is_some()) && may_name)
    }

    /// The template of the sidecar's that makes the record.
    pub(super) fn template_name(&self) -> Option<&str> {
        self.template.as_ref()?.name.as_deref()
    }

    /// The text whose expressions choose the topic.
    pub(super) fn topic_template(&self) -> Option<&str> {
        self.template.as_ref()?.topic.as_deref()
    }

    /// Whether the record's value is made by expressions, of the route's or of a template of the sidecar's: one that has none
    /// needs a `value` of the route's.
    pub(super) fn makes_value(&self) -> bool {
        self.payload.is_some() || (self.template_name().is_some() && self.value.is_none())
    }
}

/// A whole number from `min` to `max`, both of which `T` can hold.
fn integer<T: TryFrom<i64>>(section: &Section<'_>, key: &str, min: i64, max: i64) -> Option<T> {
    T::try_from(section.integer(key, min..=max)?).ok()
}

/// `topic` or `topics`.
fn topics(section: &Section<'_>) -> Option<Topics> {
    let chosen = section.raw("topic").is_some_and(serde_json::Value::is_object);
    let one = match chosen {
        true => source::topic_choice(section, "topic").map(Topics::Chosen),
        false => fields::topic(section, "topic").map(|topic| Topics::Fixed(vec![topic])),
    };
    let many = fields::topics(section, "topics");
    if section.raw("topic").is_some() && section.raw("topics").is_some() {
        section.problem("topics", "`topic` is set too; write all of them here");
    }
    one.or(many.map(Topics::Fixed))
}

/// `key` or `key_query_arg`.
fn key(section: &Section<'_>) -> Option<Option<Key>> {
    let argument = section
        .name("key_query_arg")
        .map(|name| Some(Key::of(Source::Query(name))));
    let key = source::key(section, "key");
    if section.raw("key").is_some() && section.raw("key_query_arg").is_some() {
        section.problem(
            "key",
            "`key_query_arg` is set too; it is short for `key: {query: …}`",
        );
    }
    key.or(argument)
}

/// `delivery`, or `producer_async` as shorthand for it.
fn delivery(section: &Section<'_>) -> Option<Delivery> {
    let delivery = section.choice(
        "delivery",
        &[
            ("acked", Delivery::Acked),
            ("buffered", Delivery::Buffered),
            ("spooled", Delivery::Spooled),
        ],
    );
    let shorthand = section.bool("producer_async");
    let meant = shorthand.map(|buffered| {
        if buffered {
            Delivery::Buffered
        } else {
            Delivery::Acked
        }
    });
    if let (Some(written), Some(meant)) = (delivery, meant)
        && written != meant
    {
        let name = |delivery| match delivery {
            Delivery::Acked => "acked",
            Delivery::Buffered => "buffered",
            Delivery::Spooled => "spooled",
        };
        section.problem(
            "producer_async",
            format!(
                "means `delivery: {}`, which contradicts `delivery: {}`; set only one of them",
                name(meant),
                name(written)
            ),
        );
    }
    delivery.or(meant)
}

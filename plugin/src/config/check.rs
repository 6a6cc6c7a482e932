//! From a merged layer to the [`Route`] it means: defaults, and the contradictions between fields.

use std::rc::Rc;
use std::time::Duration;

use sluice_settings::Problem;

use super::layer::{Layer, Topics};
use super::payload;
use super::route::{
    CloudEvents, Delivery, Forward, HeaderRules, Named, OnError, Outstanding, Repeated, Route, Then,
    Transport, Value,
};

/// The Envoy cluster that leads to the sidecar, unless `sidecar_cluster` names another.
pub const DEFAULT_SIDECAR_CLUSTER: &str = "sluice";

/// Envoy's own default bound on a buffered body (`per_connection_buffer_limit_bytes`).
const DEFAULT_MAX_BODY_BYTES: usize = 1 << 20;

const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// As deep as Kong's parser goes.
const DEFAULT_MAX_JSON_DEPTH: u32 = 128;

/// What the merged configuration means: `None` if it names no topic, so that the filter does not act.
///
/// # Errors
/// The contradictions between its fields.
pub(super) fn check(merged: &Layer) -> Result<Option<Route>, Vec<Contradiction>> {
    if !merged.names_a_topic() {
        return Ok(None);
    }
    let found = contradictions(merged);
    if found.is_empty() {
        Ok(Some(route(merged)))
    } else {
        Err(found)
    }
}

/// Fields that exclude each other, or need each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contradiction {
    /// The field to change.
    field: &'static str,
    /// The fields that it follows from.
    pub(super) involves: &'static [&'static str],
    message: &'static str,
}

impl Contradiction {
    /// It as a problem of the layer at `prefix`.
    pub(super) fn at(&self, prefix: &str) -> Problem {
        Problem {
            path: super::join(prefix, self.field),
            message: self.message.to_owned(),
        }
    }
}

/// A layer asks for topics by query argument, and none may be named.
pub(super) const NO_TOPIC: Contradiction = Contradiction {
    field: "topics_query_arg",
    involves: &["topic", "topics", "topics_query_arg", "allowed_topics"],
    message: "can name no topic: set allowed_topics, or a topic of the route's own",
};

const TWO_CHOICES: Contradiction = Contradiction {
    field: "topics_query_arg",
    involves: &["topic", "topics", "topics_query_arg"],
    message: "the request chooses by `topic` already; leave one of them out, or set `topic` to a name",
};

const EMPTY_ENVELOPE: Contradiction = Contradiction {
    field: "forward_body",
    involves: &["forward_", "value", "cloudevents"],
    message: "at least one of forward_method, forward_uri, forward_headers and forward_body must be true: the \
              envelope would be empty",
};

const EVENT_ENVELOPE: Contradiction = Contradiction {
    field: "value",
    involves: &["value", "cloudevents"],
    message: "an event's value is no envelope; leave it out, or turn `cloudevents` off",
};

const EVENT_METHOD_ENVELOPE: Contradiction = Contradiction {
    field: "value_by_method",
    ..EVENT_ENVELOPE
};

const STATUS_OF_UPSTREAM: Contradiction = Contradiction {
    field: "success_status",
    involves: &["then", "success_status"],
    message: "has no effect with `then: continue`: the upstream answers",
};

const MESSAGE_OF_UPSTREAM: Contradiction = Contradiction {
    field: "success_message",
    involves: &["then", "success_message"],
    ..STATUS_OF_UPSTREAM
};

const BOUND_OF_CALLS: Contradiction = Contradiction {
    field: "max_outstanding_records",
    involves: &["transport", "max_outstanding_records"],
    message: "has no effect with `transport: http`: bound the calls with `circuit_breakers` of the cluster",
};

const ON_ERROR_ALONE: Contradiction = Contradiction {
    field: "on_error",
    involves: &["then", "on_error"],
    message: "has an effect only with `then: continue`",
};

const PAYLOAD_VALUE: Contradiction = Contradiction {
    field: "payload",
    involves: &["payload", "value"],
    message: "takes the place of `value`: set one of them",
};

const PAYLOAD_METHOD: Contradiction = Contradiction {
    field: "value_by_method",
    involves: &["payload", "value_by_method"],
    message: "is not for a route with a `payload`, which is made of every request: leave one of them out",
};

const TEMPLATE_EVENT: Contradiction = Contradiction {
    field: "cloudevents",
    involves: &["payload", "template", "cloudevents"],
    message: "must be off where `payload` or `template` make the record",
};

const TWO_KEYS: Contradiction = Contradiction {
    field: "key",
    involves: &["key", "key_query_arg", "template"],
    message: "is made by template.key already: set one of them",
};

const TWO_PARTITIONS: Contradiction = Contradiction {
    field: "partition",
    involves: &["partition", "template"],
    message: "is made by template.partition already: set one of them",
};

/// A layer has expressions choose the topic, and there is none to choose.
pub(super) const NO_MADE_TOPIC: Contradiction = Contradiction {
    field: "template.topic",
    involves: &["topic", "topics", "template", "allowed_topics"],
    ..NO_TOPIC
};

const TWO_TOPICS: Contradiction = Contradiction {
    field: "template.topic",
    involves: &["topic", "topics_query_arg", "template"],
    message: "the request chooses by `topic` or `topics_query_arg` already; leave one of them out, or set `topic` to a name",
};

const TWO_TEMPLATES: Contradiction = Contradiction {
    field: "template.name",
    involves: &["payload", "template", "encrypt"],
    message: "the template that it names says what is made and what is encrypted: leave `payload` and `encrypt` out",
};

const ENCRYPT_ALONE: Contradiction = Contradiction {
    field: "encrypt",
    involves: &["encrypt", "payload", "value"],
    message: "is for a route with a `payload`: the value of this one is not made of inputs, and would hold them as they came",
};

const REPLY_OF_UPSTREAM: Contradiction = Contradiction {
    field: "reply",
    involves: &["then", "reply"],
    message: "is not for a route with `then: continue`: the upstream answers",
};

const REPLY_ONCE: Contradiction = Contradiction {
    field: "reply",
    involves: &["idempotency", "reply"],
    message: "is not for a route with `idempotency`: a request that comes again is not written, and nobody would reply to it",
};

const STATUS_OF_REPLY: Contradiction = Contradiction {
    field: "success_status",
    involves: &["reply", "success_status"],
    message: "has no effect with `reply`: the reply says the status",
};

const MESSAGE_OF_REPLY: Contradiction = Contradiction {
    field: "success_message",
    involves: &["reply", "success_message"],
    message: "has no effect with `reply`: the reply is the answer",
};

/// The merged layer with every default filled in.
fn route(merged: &Layer) -> Route {
    let layer = merged.clone();
    let (topics, topic_choice) = match layer.topics {
        Some(Topics::Fixed(names)) => (names, None),
        Some(Topics::Chosen(choice)) => (Vec::new(), Some(choice)),
        None => (Vec::new(), None),
    };
    let fixed = || Named::Fixed(String::new());
    Route {
        template: payload::template(merged),
        reply: layer.reply.flatten().map(Box::new),
        value: value(merged),
        forward: forward(merged),
        headers: HeaderRules {
            enabled: layer.record_headers.unwrap_or(true),
            all_by_default: layer.all_headers_by_default.unwrap_or(false),
            include: layer.include_headers.unwrap_or_default(),
            exclude: layer.exclude_headers.unwrap_or_default(),
            rename: layer.name_mappings.unwrap_or_default(),
            repeated: layer.repeated_headers.unwrap_or(Repeated::RetainDuplicates),
        },
        topics,
        topic_choice,
        topics_query_arg: layer.topics_query_arg,
        allowed_topics: layer.allowed_topics.unwrap_or_default(),
        value_by_method: layer.value_by_method.unwrap_or_default(),
        json_content_types: layer.json_content_types.unwrap_or_default(),
        max_json_depth: layer.max_json_depth.unwrap_or(DEFAULT_MAX_JSON_DEPTH),
        key: layer.key.flatten(),
        partition: layer.partition.flatten(),
        credential_headers: layer.credential_headers.unwrap_or_default(),
        cloudevents: layer.cloudevents.unwrap_or(CloudEvents::Off),
        delivery: layer.delivery.unwrap_or(Delivery::Acked),
        spool_on_outage: layer.spool_on_outage.unwrap_or(false),
        forward_bearer_token: layer.forward_bearer_token.unwrap_or(false),
        idempotency: layer.idempotency.flatten(),
        success_status: layer.success_status,
        success_message: layer.success_message,
        max_body_bytes: layer.max_body_bytes.unwrap_or(DEFAULT_MAX_BODY_BYTES),
        answer_timeout: layer.answer_timeout.unwrap_or(DEFAULT_ANSWER_TIMEOUT),
        sidecar_cluster: layer
            .sidecar_cluster
            .unwrap_or_else(|| DEFAULT_SIDECAR_CLUSTER.to_owned()),
        cluster_name: layer.cluster_name.unwrap_or_else(fixed),
        producer: layer.producer.unwrap_or_else(fixed),
        then: layer.then.unwrap_or(Then::Respond),
        on_error: layer.on_error.unwrap_or(OnError::Respond),
        reply_headers: layer.reply_headers.unwrap_or(true),
        produce_options: layer.produce_options.unwrap_or(false),
        transport: layer.transport.unwrap_or(Transport::Stream),
        outstanding: layer.max_outstanding_records.map(|max| Outstanding {
            max,
            now: Rc::default(),
        }),
    }
}

fn events(merged: &Layer) -> bool {
    merged.cloudevents.is_some_and(|mode| mode != CloudEvents::Off)
}

/// An event's value follows from its mode and the body; anything else is an envelope unless it says otherwise.
fn value(merged: &Layer) -> Value {
    let default = if events(merged) {
        Value::Body
    } else {
        Value::Envelope
    };
    merged.value.unwrap_or(default)
}

fn forward(merged: &Layer) -> Forward {
    Forward {
        method: merged.forward_method.unwrap_or(false),
        uri: merged.forward_uri.unwrap_or(false),
        headers: merged.forward_headers.unwrap_or(false),
        body: merged.forward_body.unwrap_or(true),
    }
}

fn contradictions(merged: &Layer) -> Vec<Contradiction> {
    let by_method = merged.value_by_method.as_deref().unwrap_or_default();
    let method_envelope = by_method.iter().any(|(_, value)| *value == Value::Envelope);
    let Forward {
        method,
        uri,
        headers,
        body,
    } = forward(merged);
    let forwards = method || uri || headers || body;
    let continues = merged.then == Some(Then::Continue);
    let (made, parts) = (merged.makes_value(), merged.template.as_ref());
    let named = merged.template_name().is_some();
    let replies = merged.reply.as_ref().is_some_and(Option::is_some);
    let chooses = matches!(merged.topics, Some(Topics::Chosen(_)));
    let found = [
        (chooses && merged.topics_query_arg.is_some(), TWO_CHOICES),
        (
            !forwards && !made && (value(merged) == Value::Envelope || method_envelope),
            EMPTY_ENVELOPE,
        ),
        (
            events(merged) && merged.value == Some(Value::Envelope),
            EVENT_ENVELOPE,
        ),
        (events(merged) && method_envelope, EVENT_METHOD_ENVELOPE),
        (continues && merged.success_status.is_some(), STATUS_OF_UPSTREAM),
        (continues && merged.success_message.is_some(), MESSAGE_OF_UPSTREAM),
        (!continues && merged.on_error.is_some(), ON_ERROR_ALONE),
        (
            merged.transport == Some(Transport::Http) && merged.max_outstanding_records.is_some(),
            BOUND_OF_CALLS,
        ),
        (made && merged.value.is_some(), PAYLOAD_VALUE),
        (made && !by_method.is_empty(), PAYLOAD_METHOD),
        (
            events(merged) && (made || merged.template.is_some()),
            TEMPLATE_EVENT,
        ),
        (
            parts.is_some_and(|parts| parts.key.is_some())
                && merged.key.as_ref().is_some_and(Option::is_some),
            TWO_KEYS,
        ),
        (
            parts.is_some_and(|parts| parts.partition.is_some())
                && merged.partition.as_ref().is_some_and(Option::is_some),
            TWO_PARTITIONS,
        ),
        (
            merged.payload.is_none() && !named && merged.encrypt.is_some(),
            ENCRYPT_ALONE,
        ),
        (
            named && (merged.payload.is_some() || merged.encrypt.is_some()),
            TWO_TEMPLATES,
        ),
        (
            merged.topic_template().is_some() && (chooses || merged.topics_query_arg.is_some()),
            TWO_TOPICS,
        ),
        (replies && continues, REPLY_OF_UPSTREAM),
        (
            replies && merged.idempotency.as_ref().is_some_and(Option::is_some),
            REPLY_ONCE,
        ),
        (replies && merged.success_status.is_some(), STATUS_OF_REPLY),
        (replies && merged.success_message.is_some(), MESSAGE_OF_REPLY),
    ];
    found
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, found)| found)
        .collect()
}

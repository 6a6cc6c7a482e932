//! A request becomes a record: everything that a `sluice.v1.Record` says, encoded in one go.

mod grouped;
mod input;
mod reject;
pub(crate) mod wire;

pub use reject::Reject;

pub(crate) use grouped::Grouped;
pub(crate) use input::{Input, header_name, is_credential};
pub(crate) use reject::excerpt;

use crate::config::{Delivery, Route, Value};
use crate::request::Head;
use crate::{choice, cloudevents, envelope, idempotency, key, record_headers, reply_to, template, topics};

/// What the filter still has to know of a record that it encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Where the record goes.
    pub topics: Topics,
}

/// The topics of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// Those of the route.
    Configured,
    /// The one of the route's list that the request chose, by its index there.
    Chosen(usize),
    /// Those that the request named; all of them allowed, no two the same, at least one.
    Named(Box<[String]>),
}

impl Topics {
    /// Their names, in the order of the record's fates. `route` is the one that the record was encoded with.
    pub fn names<'a>(&'a self, route: &'a Route) -> &'a [String] {
        match self {
            Self::Configured => &route.topics,
            Self::Chosen(index) => {
                let listed = route.topic_choice.as_ref().map(|choice| &*choice.allowed);
                listed
                    .unwrap_or_default()
                    .get(*index..=*index)
                    .unwrap_or_default()
            }
            Self::Named(names) => names,
        }
    }
}

/// Appends to `out` one encoded `ProduceRequest` that holds exactly one record, of that `id`.
///
/// Encodings that follow one another are one `ProduceRequest` with all their records, in that order. On an error
/// `out` is as it was.
pub fn encode(
    out: &mut Vec<u8>,
    id: u64,
    route: &Route,
    head: &Head<'_>,
    body: &[u8],
) -> Result<Encoded, Reject> {
    let start = out.len();
    write(out, id, &Input::new(route, *head, body)).inspect_err(|_| out.truncate(start))
}

/// Field of `ProduceRequest`.
const RECORDS: u8 = 1;

// Fields of `Record`.
const ID: u8 = 1;
const CLUSTER: u8 = 2;
const PRODUCER: u8 = 3;
const TOPICS: u8 = 4;
const KEY: u8 = 5;
const PARTITION: u8 = 6;
pub(crate) const HEADERS: u8 = 7;
const DELIVERY: u8 = 9;
const DEADLINE_MS: u8 = 10;
const VALUE: u8 = 11;
const SPOOL_ON_OUTAGE: u8 = 12;
const IDEMPOTENCY: u8 = 13;
const CLIENT: u8 = 14;
const BEARER_TOKEN: u8 = 15;
const TEMPLATE: u16 = 16;
const REPLY_TO: u16 = 17;

fn write(out: &mut Vec<u8>, id: u64, input: &Input<'_>) -> Result<Encoded, Reject> {
    let Input {
        route, head, body, ..
    } = *input;
    if body.len() > route.max_body_bytes {
        return Err(Reject::too_large(format!(
            "the request body has {} bytes, max_body_bytes is {}",
            body.len(),
            route.max_body_bytes
        )));
    }
    let value = value_for(route, head.method());
    let event = match value {
        // A tombstone has no attributes to require.
        Value::None => None,
        Value::Envelope | Value::Body => cloudevents::read(input)?,
    };
    let topics = topics::choose(input, event.as_ref())?;
    let cluster = choice::name(&route.cluster_name, "cluster_name", input, event.as_ref())?;
    let producer = choice::name(&route.producer, "producer", input, event.as_ref())?;
    let key = key::key(input, event.as_ref())?;
    let partition = key::partition(input, event.as_ref())?;
    let size = match value {
        Value::Envelope => envelope::size_hint(body),
        Value::Body | Value::None => body.len(),
    };
    out.reserve(size + 256);

    let record = wire::begin(out, RECORDS, size + 128);
    if id != 0 {
        wire::integer(out, ID, id);
    }
    for (field, name) in [(CLUSTER, cluster), (PRODUCER, producer)] {
        if !name.is_empty() {
            wire::bytes(out, field, name.as_bytes());
        }
    }
    // With a template or a reply they are in it: a sidecar that knows none then refuses the record.
    if route.template.is_none() && route.reply.is_none() {
        for topic in topics.names(route) {
            wire::bytes(out, TOPICS, topic.as_bytes());
        }
    }
    if let Some(key) = key {
        wire::bytes(out, KEY, &key);
    }
    if let Some(partition) = partition {
        // A negative one never gets here; sign extension is what protobuf would do with it.
        wire::integer(out, PARTITION, i64::from(partition).cast_unsigned());
    }
    record_headers::write(out, input, event.is_some())?;
    if let Some(event) = &event {
        event.write_headers(out, route.cloudevents);
    }
    let delivery = match route.delivery {
        Delivery::Acked => sluice_proto::v1::Delivery::Acked,
        Delivery::Buffered => sluice_proto::v1::Delivery::Buffered,
        Delivery::Spooled => sluice_proto::v1::Delivery::Spooled,
    };
    wire::integer(out, DELIVERY, delivery as u64);
    let deadline_ms = u32::try_from(route.answer_timeout.as_millis()).unwrap_or(u32::MAX);
    if deadline_ms != 0 {
        wire::integer(out, DEADLINE_MS, u64::from(deadline_ms));
    }
    match (value, &event) {
        _ if route.template.as_ref().is_some_and(|template| template.payload) => {}
        (Value::None, _) => {}
        (_, Some(event)) => event.write_value(out, VALUE, input)?,
        (Value::Body, None) => wire::bytes(out, VALUE, body),
        (Value::Envelope, None) => {
            let begun = wire::begin(out, VALUE, size);
            envelope::write(out, input)?;
            wire::end(out, begun);
        }
    }
    if route.spool_on_outage {
        wire::integer(out, SPOOL_ON_OUTAGE, 1);
    }
    if let Some(settings) = &route.idempotency {
        idempotency::write(out, IDEMPOTENCY, settings, input)?;
    }
    if head.client() != 0 {
        wire::fixed64(out, CLIENT, head.client());
    }
    if route.forward_bearer_token
        && let Some(token) = bearer_token(&head)
    {
        wire::bytes(out, BEARER_TOKEN, token);
    }
    if let Some(settings) = &route.template {
        let of_template = match route.reply {
            None => topics.names(route),
            Some(_) => &[],
        };
        template::write(out, TEMPLATE, settings, of_template, input)?;
    }
    if let Some(settings) = &route.reply {
        reply_to::write(out, REPLY_TO, settings, topics.names(route), input)?;
    }
    wire::end(out, record);
    Ok(Encoded { topics })
}

/// The token of an `Authorization: Bearer …` (RFC 6750, section 2.1); `None` if there is none, several, or one that no
/// token can be: the sidecar refuses the record then, where it needs one.
fn bearer_token<'a>(head: &Head<'a>) -> Option<&'a [u8]> {
    const SCHEME: &[u8] = b"bearer";
    let mut all = head.all().filter(|(name, _)| *name == b"authorization");
    let (_, value) = all.next().filter(|_| all.next().is_none())?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let fits = scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty() && token.iter().all(legal);
    fits.then_some(token)
}

/// What becomes the value of a request with that method.
fn value_for(route: &Route, method: &[u8]) -> Value {
    let exception = route.value_by_method.iter().find(|(m, _)| m.as_bytes() == method);
    exception.map_or(route.value, |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_the_only_authorization_and_written_like_one() {
        let of = |values: &[&'static [u8]]| {
            let headers: Vec<(&[u8], &[u8])> = values
                .iter()
                .map(|value| (&b"authorization"[..], *value))
                .collect();
            bearer_token(&Head::new(&headers)).map(<[u8]>::to_vec)
        };
        assert_eq!(of(&[b"Bearer abc.d-e_f~+/=="]), Some(b"abc.d-e_f~+/==".to_vec()));
        assert_eq!(of(&[b"bearer  abc "]), Some(b"abc".to_vec()));
        let nones: [&[&'static [u8]]; 8] = [
            &[],
            &[b"Basic YTpi"],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b"Bearerabc"],
            &[b"Bearer a b"],
            &[b"Bearer \xff"],
            &[b"Bearer a", b"Bearer b"],
        ];
        for none in nones {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}

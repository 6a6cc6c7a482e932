//! The REST face: `POST /topics/{topic}/records`. `docs/http-api.md` is its reference.

mod batch;
mod body;
pub(crate) mod client;
#[cfg(feature = "parsers")]
pub mod parsers;
mod reply;
mod single;
pub(crate) mod written;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use futures_util::future::join_all;
use prost::Message;
use serde::Deserialize;
use sluice_proto::idempotency;
use sluice_proto::v1::{self, ErrorClass};

use self::body::Bounds;
use super::applied::Origin;
use super::gather::{Gather, Told};
use super::{Gateway, wire};
use crate::config::Listener;
use crate::kafka::record::Failure;
use crate::listeners::auth;
use crate::replies::Replies;
use crate::templates::Definition;

/// The media type of one JSON array of records. `application/json` itself is a value like any other.
const RECORDS_JSON: &str = "application/vnd.sluice.records+json";
const NDJSON: &str = "application/x-ndjson";
const PROTOBUF: &str = "application/x-protobuf";

#[derive(Clone)]
struct Face {
    gateway: Arc<Gateway>,
    replies: Arc<Replies>,
    bounds: Bounds,
    believed: Believed,
}

/// What a request is believed about whom it is from.
#[derive(Debug, Clone, Copy)]
pub struct Believed {
    /// So many proxies before the listener are trusted to say, in `x-forwarded-for`, where a request comes from; with 0 it
    /// is from who connects.
    pub trusted_hops: usize,
    /// The listener itself asks for no tokens, so that a bearer token in `Authorization` is the caller's own, for a cluster
    /// that is written with those.
    pub takes_tokens: bool,
}

impl Believed {
    /// What the requests of `listener` are believed.
    pub fn of(listener: &Listener) -> Self {
        Self {
            trusted_hops: listener.xff_num_trusted_hops,
            takes_tokens: listener.tokens.is_empty(),
        }
    }
}

/// The router of the data listener. Bodies of more than `max_bytes` are refused.
pub fn router(gateway: Arc<Gateway>, replies: Arc<Replies>, max_bytes: usize, believed: Believed) -> Router {
    let not_found = || async { reply::plain(StatusCode::NOT_FOUND, "not_found", "no such path") };
    let not_allowed = || async {
        reply::plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "the path takes POST and GET only",
        )
    };
    Router::new()
        .route("/topics/{topic}/records", post(produce).fallback(not_allowed))
        .fallback(not_found)
        .with_state(Face {
            gateway,
            replies,
            bounds: Bounds::new(max_bytes),
            believed,
        })
}

/// What is said about a record besides what it holds; of a request, by its query.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Common {
    /// The sidecar's name of a Kafka cluster.
    #[serde(default)]
    pub(crate) cluster_name: String,
    /// The sidecar's name of a producer profile.
    #[serde(default)]
    pub(crate) producer: String,
    #[serde(default)]
    pub(crate) delivery: Delivery,
    /// How long the client waits, in milliseconds; 0 is the sidecar's `answer_timeout`.
    #[serde(default)]
    pub(crate) timeout_ms: u32,
    /// Whether the spool takes it while the cluster is away.
    #[serde(default)]
    pub(crate) spool_on_outage: bool,
}

/// When a record is answered.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Delivery {
    #[default]
    Acked,
    Buffered,
    Spooled,
}

impl Common {
    /// A record of this request, without contents.
    fn record(&self, topic: &str) -> v1::Record {
        let delivery = match self.delivery {
            Delivery::Acked => v1::Delivery::Acked,
            Delivery::Buffered => v1::Delivery::Buffered,
            Delivery::Spooled => v1::Delivery::Spooled,
        };
        v1::Record {
            cluster: self.cluster_name.clone(),
            producer: self.producer.clone(),
            topics: vec![topic.to_owned()],
            delivery: delivery.into(),
            deadline_ms: self.timeout_ms,
            spool_on_outage: self.spool_on_outage,
            ..v1::Record::default()
        }
    }
}

async fn produce(
    State(face): State<Face>,
    topic: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let answered = match topic {
        Ok(Path(topic)) => face.answer(&topic, request).await,
        Err(rejection) => Err(invalid(format!("path: {}", rejection.body_text()))),
    };
    answered.unwrap_or_else(|failure| reply::refusal(&failure))
}

impl Face {
    async fn answer(&self, topic: &str, request: Request) -> Result<Response, Failure> {
        let Query(common) = Query::<Common>::try_from_uri(request.uri())
            .map_err(|error| invalid(format!("query: {}", error.body_text())))?;
        let (parts, body) = request.into_parts();
        // Held until the answer: so are the body's bytes.
        let (body, _share) = self.bounds.read(body).await?;
        let media_type = media_type(&parts.headers)?;
        let client = client::number(parts.extensions.get(), &parts.headers, self.believed.trusted_hops);
        let token = self.token(&parts.headers);
        let of_caller = |mut records: Vec<v1::Record>| {
            records
                .iter_mut()
                .for_each(|record| record.bearer_token.clone_from(&token));
            records
        };
        match media_type.as_deref() {
            Some(many @ (PROTOBUF | NDJSON | RECORDS_JSON))
                if parts.headers.contains_key(idempotency::HEADER) =>
            {
                Err(invalid(format!(
                    "idempotency-key is for one record, and {many} may hold several: send each as a request of its own"
                )))
            }
            Some(PROTOBUF) => self.messages(topic, client, body).await,
            Some(many @ (NDJSON | RECORDS_JSON)) => {
                let mut records = match many {
                    NDJSON => batch::lines(&common, topic, &body)?,
                    _ => batch::array(&common, topic, &body)?,
                };
                for (number, record) in (1..).zip(&mut records) {
                    let applied = self
                        .gateway
                        .apply_template(record, &origin(&parts), |value| Ok(Some(value.clone())));
                    applied.map_err(|failure| {
                        Failure::new(failure.class, format!("record {number}: {}", failure.message))
                    })?;
                }
                self.batch(topic, client, of_caller(records)).await
            }
            _ => {
                let mut record = single::record(&common, topic, &parts, body)?;
                self.gateway
                    .apply_template(&mut record, &origin(&parts), |body| inputs(&parts.headers, body))?;
                record.reply_to = self
                    .replies
                    .preferred(&common.cluster_name, topic, &parts.headers);
                let told = self.settle(client, of_caller(vec![record])).await;
                Ok(reply::one(topic, told.into_iter().next()))
            }
        }
    }

    /// The bearer token of the request (RFC 6750, section 2.1); empty if it has none, or several.
    fn token(&self, headers: &HeaderMap) -> String {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let only = all.next();
        let only = only.filter(|_| self.believed.takes_tokens && all.next().is_none());
        let text = only.and_then(|value| value.to_str().ok());
        let token = text.and_then(|text| auth::bearer(text.as_bytes()));
        String::from_utf8_lossy(token.unwrap_or_default()).into_owned()
    }

    async fn batch(&self, topic: &str, client: u64, records: Vec<v1::Record>) -> Result<Response, Failure> {
        let told = self.settle(client, records).await;
        let (mut topics, mut outcomes) = (Vec::with_capacity(told.len()), Vec::with_capacity(told.len()));
        for one in told {
            let chosen = one.topic.unwrap_or_else(|| topic.to_owned());
            topics.extend(one.outcomes.iter().map(|_| chosen.clone()));
            outcomes.extend(one.outcomes);
        }
        Ok(reply::many(&topics, outcomes))
    }

    /// The contract's own messages, for clients without a stream.
    async fn messages(&self, topic: &str, client: u64, body: Bytes) -> Result<Response, Failure> {
        let request = v1::ProduceRequest::decode(body)
            .map_err(|error| invalid(format!("no ProduceRequest: {error}")))?;
        let is_astray = |record: &v1::Record| {
            let template = record.template.as_ref();
            let of_reply = record.reply_to.as_ref().map(|reply| &reply.topics);
            let first = record.topics.first().or_else(|| template?.topics.first());
            let first = first.or_else(|| of_reply?.first());
            match (first, template) {
                (Some(first), _) => first != topic,
                // Its template chooses, and this is one that it may choose.
                (None, Some(template)) => !Definition::may_choose(&template.definition, topic),
                (None, None) => true,
            }
        };
        let astray = request.records.iter().find(|record| is_astray(record));
        if let Some(record) = astray {
            return Err(invalid(format!(
                "the first topic of record {} is not the path's {topic}",
                record.id
            )));
        }
        let ids: Vec<u64> = request.records.iter().map(|record| record.id).collect();
        let told = self.settle(client, request.records).await;
        let fates = ids
            .into_iter()
            .zip(told)
            .map(|(id, told)| wire::fate(id, told))
            .collect();
        Ok(reply::message(&v1::ProduceReply { fates, drain: false }))
    }

    /// What became of each record of `client`, in order.
    async fn settle(&self, client: u64, mut records: Vec<v1::Record>) -> Vec<Told> {
        for (position, record) in (0..).zip(&mut records) {
            record.id = position;
            // One that says itself whose it is comes from a proxy, unless strangers get here.
            if record.client == 0 || self.believed.trusted_hops > 0 {
                record.client = client;
            }
        }
        if records.iter().any(|record| record.reply_to.is_some()) {
            // A client that leaves ends the request, and with it what it waits for.
            let exchange = |record| self.replies.exchange(record, std::future::pending());
            return join_all(records.into_iter().map(exchange)).await;
        }
        let (gather, fates) = Gather::new(records.len());
        self.gateway.submit(records, &gather);
        drop(gather);
        fates.await
    }
}

/// The request, as expressions see it.
fn origin(parts: &Parts) -> Origin<'_> {
    Origin {
        method: parts.method.as_str(),
        uri: &parts.uri,
        headers: &parts.headers,
    }
}

/// The inputs in a body, for a topic whose records are made by a template.
fn inputs(headers: &HeaderMap, body: &Bytes) -> Result<Option<Bytes>, Failure> {
    let of = |name| headers.get(name).map(|value| value.as_bytes());
    let found = sluice_filter::inputs::of_body(of(CONTENT_TYPE), of(CONTENT_ENCODING), body);
    Ok(match found.map_err(invalid)? {
        None => None,
        Some(Cow::Borrowed(_)) => Some(body.clone()),
        Some(Cow::Owned(made)) => Some(made.into()),
    })
}

/// The media type in lower case, without parameters.
fn media_type(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| invalid("content-type is not ASCII".to_owned()))?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    Ok(Some(essence.to_ascii_lowercase()))
}

fn invalid(text: String) -> Failure {
    Failure::new(ErrorClass::InvalidRequest, text)
}

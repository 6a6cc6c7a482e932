//! Which topics there are, what they hold, and one record's value as it is.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Reads;
use super::choice::Request;
use super::failure::{Failure, Kind};
use super::filter::Filters;
use super::item;
use super::query::Asked;
use crate::config::check_topic;
use crate::kafka::reader::{Error, Limits, Record, When};

const TOPIC: HeaderName = HeaderName::from_static("x-kafka-topic");
const PARTITION: HeaderName = HeaderName::from_static("x-kafka-partition");
const OFFSET: HeaderName = HeaderName::from_static("x-kafka-offset");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-kafka-timestamp");
const TOMBSTONE: HeaderName = HeaderName::from_static("x-kafka-tombstone");
const SCHEMA_ID: HeaderName = HeaderName::from_static("x-kafka-schema-id");
const KEY: HeaderName = HeaderName::from_static("x-kafka-key");
const KEY_BASE64: HeaderName = HeaderName::from_static("x-kafka-key-base64");

/// The query of these paths: `cluster_name` only, what chooses the topic in some entry, and for [`describe`] the group.
fn asked(reads: &Reads, request: &Parts, group: bool) -> Result<Asked, Failure> {
    let asked = Asked::parse(&request.uri, reads.access.arguments())?;
    asked.refuse_all_but_the_cluster(group)?;
    Ok(asked)
}

/// `GET /topics`: what the caller may read.
pub(super) async fn list(State(reads): State<Arc<Reads>>, request: Parts) -> Response {
    let listed = async {
        let asked = asked(&reads, &request, false)?;
        let says = Request::new(&request.uri, &request.headers);
        let granted = reads.access.grant(asked.cluster_name.as_deref(), &says).await?;
        granted.anything()?;
        let all = granted.reader.topics().await?;
        let may = all.iter().filter(|topic| granted.entry(topic).is_some());
        let topics: Vec<Value> = may.map(|topic| json!({ "topic": topic })).collect();
        Ok::<_, Failure>(axum::Json(json!({ "topics": topics })).into_response())
    };
    listed.await.unwrap_or_else(Failure::into_response)
}

/// `GET /topics/{topic}`: its partitions, and from where to where they go.
pub(super) async fn describe(
    State(reads): State<Arc<Reads>>,
    topic: Result<Path<String>, PathRejection>,
    request: Parts,
) -> Response {
    let described = async {
        let Path(topic) = topic.map_err(path)?;
        check_topic(&topic).map_err(Failure::invalid)?;
        let asked = asked(&reads, &request, true)?;
        let says = Request::new(&request.uri, &request.headers);
        let granted = reads.access.grant(asked.cluster_name.as_deref(), &says).await?;
        let entry = granted.check(&topic)?;
        let group = granted.group(entry, &topic, asked.group.as_deref())?;
        let name: Arc<str> = Arc::from(topic.as_str());
        let count = granted.reader.partitions(&topic).await?;
        let keys: Vec<_> = (0..count)
            .map(|partition| (Arc::clone(&name), partition))
            .collect();
        let first = granted.reader.offsets(&keys, When::Earliest).await?;
        let end = granted.reader.offsets(&keys, When::Latest).await?;
        let committed = match &group {
            Some(group) => Some(granted.home.kept.read(group, &keys).await?),
            None => None,
        };
        let partition = |key: &(Arc<str>, i32)| {
            let mut shown = json!({ "partition": key.1, "earliest": first.get(key), "latest": end.get(key) });
            if let (Some(committed), Some(shown)) = (&committed, shown.as_object_mut()) {
                let at = committed.get(key);
                // What retention took is not to be read any more.
                let from = at.max(first.get(key));
                let lag = from
                    .zip(end.get(key))
                    .map(|(from, end)| end.saturating_sub(*from).max(0));
                shown.insert("committed".to_owned(), json!(at));
                shown.insert("lag".to_owned(), json!(at.and(lag)));
            }
            shown
        };
        let partitions: Vec<Value> = keys.iter().map(partition).collect();
        let mut described = json!({ "topic": topic, "partitions": partitions });
        if let (Some(group), Some(described)) = (group, described.as_object_mut()) {
            described.insert("group".to_owned(), json!(*group));
        }
        Ok::<_, Failure>(axum::Json(described).into_response())
    };
    described.await.unwrap_or_else(|failure| reads.refused(failure))
}

/// `GET /topics/{topic}/partitions/{partition}/records/{offset}`: the value's bytes.
pub(super) async fn value(
    State(reads): State<Arc<Reads>>,
    place: Result<Path<(String, i32, i64)>, PathRejection>,
    request: Parts,
) -> Response {
    let found = async {
        let Path((topic, partition, offset)) = place.map_err(path)?;
        check_topic(&topic).map_err(Failure::invalid)?;
        if partition < 0 || offset < 0 {
            return Err(Failure::invalid("a partition and an offset are not negative"));
        }
        let asked = asked(&reads, &request, false)?;
        let says = Request::new(&request.uri, &request.headers);
        let granted = reads.access.grant(asked.cluster_name.as_deref(), &says).await?;
        let entry = granted.check(&topic)?;
        let forced = granted.forced(entry, &topic)?;
        let count = granted.reader.partitions(&topic).await?;
        if partition >= count {
            let text = format!(
                "topic {topic} has the partitions 0 to {}, and no {partition}",
                count - 1
            );
            return Err(Failure::new(Kind::UnknownPartition, text));
        }
        let one = Limits {
            records: 1,
            bytes: entry.max_bytes,
        };
        let name: Arc<str> = Arc::from(topic.as_str());
        let nothing = || {
            Failure::new(
                Kind::NoRecord,
                format!("{topic}@{partition}#{offset} is no record"),
            )
        };
        let batch = match granted.reader.read(&name, partition, offset, one).await {
            Err(Error::OutOfRange { .. }) => return Err(nothing()),
            read => read?,
        };
        let record = batch.records.first().filter(|record| record.offset == offset);
        let record = record.ok_or_else(nothing)?;
        let filters = Filters {
            forced: HashMap::from([(Arc::clone(&name), forced)]),
            unframed: entry.remove_confluent_header,
            ..Filters::default()
        };
        let left = filters.one(record).await?;
        left.map(|record| raw(&record, entry.remove_confluent_header))
            .ok_or_else(nothing)
    };
    found.await.unwrap_or_else(Failure::into_response)
}

fn raw(record: &Record, unframed: bool) -> Response {
    let (schema, value) = item::framed(record, unframed);
    let mut headers = HeaderMap::new();
    if let Ok(topic) = HeaderValue::from_str(&record.topic) {
        headers.insert(TOPIC, topic);
    }
    headers.insert(PARTITION, record.partition.into());
    headers.insert(OFFSET, record.offset.into());
    if let Some(ms) = record.timestamp {
        headers.insert(TIMESTAMP, ms.into());
    }
    if let Some(key) = &record.key {
        // A value of a header has no space at its ends.
        let plain = key.iter().all(u8::is_ascii_graphic) && !key.is_empty();
        let value = match HeaderValue::from_bytes(key) {
            Ok(value) if plain => Some((KEY, value)),
            _ => HeaderValue::from_str(&STANDARD.encode(key))
                .ok()
                .map(|value| (KEY_BASE64, value)),
        };
        if let Some((name, value)) = value {
            headers.insert(name, value);
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The bytes are anybody's: no browser is to make a page of them.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(schema) = schema {
        headers.insert(SCHEMA_ID, schema.into());
    }
    match value {
        None => {
            headers.insert(TOMBSTONE, HeaderValue::from_static("true"));
            (StatusCode::NO_CONTENT, headers).into_response()
        }
        Some(value) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            (headers, value).into_response()
        }
    }
}

fn path(rejection: PathRejection) -> Failure {
    Failure::invalid(format!("path: {}", rejection.body_text()))
}

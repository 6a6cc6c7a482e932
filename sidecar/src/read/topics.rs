//! Which topics there are, what they hold, and one record's value as it is.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Reads;
use super::failure::{Failure, Kind};
use crate::config::check_topic;
use crate::kafka::reader::{Error, Limits, Record, When};

const TOPIC: HeaderName = HeaderName::from_static("x-kafka-topic");
const PARTITION: HeaderName = HeaderName::from_static("x-kafka-partition");
const OFFSET: HeaderName = HeaderName::from_static("x-kafka-offset");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-kafka-timestamp");
const TOMBSTONE: HeaderName = HeaderName::from_static("x-kafka-tombstone");
const KEY: HeaderName = HeaderName::from_static("x-kafka-key");
const KEY_BASE64: HeaderName = HeaderName::from_static("x-kafka-key-base64");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    cluster_name: Option<String>,
}

fn asked(request: &Parts) -> Result<Asked, Failure> {
    let Query(asked) = Query::try_from_uri(&request.uri)
        .map_err(|error| Failure::invalid(format!("query: {}", error.body_text())))?;
    Ok(asked)
}

/// `GET /topics`: what the caller may read.
pub(super) async fn list(State(reads): State<Arc<Reads>>, request: Parts) -> Response {
    let listed = async {
        let asked = asked(&request)?;
        let granted = reads
            .access
            .grant(asked.cluster_name.as_deref(), &request.headers)?;
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
        let asked = asked(&request)?;
        let granted = reads
            .access
            .grant(asked.cluster_name.as_deref(), &request.headers)?;
        granted.check(&topic)?;
        let name: Arc<str> = Arc::from(topic.as_str());
        let count = granted.reader.partitions(&topic).await?;
        let keys: Vec<_> = (0..count)
            .map(|partition| (Arc::clone(&name), partition))
            .collect();
        let first = granted.reader.offsets(&keys, When::Earliest).await?;
        let end = granted.reader.offsets(&keys, When::Latest).await?;
        let partition = |key: &(Arc<str>, i32)| json!({ "partition": key.1, "earliest": first.get(key), "latest": end.get(key) });
        let partitions: Vec<Value> = keys.iter().map(partition).collect();
        Ok::<_, Failure>(axum::Json(json!({ "topic": topic, "partitions": partitions })).into_response())
    };
    described.await.unwrap_or_else(Failure::into_response)
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
        let asked = asked(&request)?;
        let granted = reads
            .access
            .grant(asked.cluster_name.as_deref(), &request.headers)?;
        let entry = granted.check(&topic)?;
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
        record.map(|record| raw(record)).ok_or_else(nothing)
    };
    found.await.unwrap_or_else(Failure::into_response)
}

fn raw(record: &Record) -> Response {
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
    match &record.value {
        None => {
            headers.insert(TOMBSTONE, HeaderValue::from_static("true"));
            (StatusCode::NO_CONTENT, headers).into_response()
        }
        Some(value) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            (headers, value.clone()).into_response()
        }
    }
}

fn path(rejection: PathRejection) -> Failure {
    Failure::invalid(format!("path: {}", rejection.body_text()))
}

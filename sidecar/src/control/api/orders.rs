//! What a subscription that runs in this sidecar can be told to do.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Api;
use crate::control::item::Kind;
use crate::json_api::{Answer, Error, Json, MaybeJson};
use crate::subscriptions::running::{Events, Order, Parked, Refused, Selection, To, Told};

/// How many parked events are listed where nothing is said, and at most.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;

/// Why an order was not carried out.
pub(super) fn refused(refused: Refused) -> Error {
    let text = refused.to_string();
    match refused {
        Refused::Unknown(_) => Error::NotFound(text),
        Refused::NotRunning(_) => Error::Conflict(text),
        Refused::Invalid(_) => Error::field("", text),
        Refused::Unavailable(_) => Error::Unavailable(text),
    }
}

fn read<T: DeserializeOwned>(body: Value, like: &str) -> Result<T, Error> {
    serde_json::from_value(body).map_err(|error| Error::field("", format!("must be {like}: {error}")))
}

async fn carry_out(api: &Api, id: &str, order: Order) -> Result<Told, Error> {
    // Reading is for everybody who may use the listener; this is not.
    if !matches!(order, Order::ListParked { .. }) && api.control.open {
        api.registry()?;
    }
    let view = api.view();
    let exists = view.subscriptions.contains_key(id) || api.control.fixed.subscriptions.contains_key(id);
    if !exists {
        return Err(api.missing(Kind::Subscriptions, "subscription", id));
    }
    api.runner
        .carry_out(id, order)
        .await
        .map_err(|error| match error {
            // It is there, and does not run in this sidecar.
            Refused::Unknown(_) => {
                Error::Conflict("the subscription does not run in this sidecar".to_owned())
            }
            error => refused(error),
        })
}

fn told(told: &Told) -> Response {
    axum::Json(match told {
        Told::Done => json!({"done": true}),
        Told::Sought(partitions) => {
            let each = partitions.iter().map(|(topic, partition, offset)| {
                json!({"topic": topic, "partition": partition, "offset": offset})
            });
            json!({"sought": each.collect::<Vec<_>>()})
        }
        Told::Replaying(offsets) => json!({"replaying": offsets}),
        Told::Tested {
            event,
            delivered,
            error,
            status,
        } => json!({"event": event, "delivered": delivered, "error": error, "status": status}),
        Told::Parked(events) => json!({"parked": events.iter().map(event).collect::<Vec<_>>()}),
        Told::Events(count) => json!({"events": count}),
    })
    .into_response()
}

/// A parked event with its record's key and value: as text where they are, and otherwise in base64.
fn event(parked: &Parked) -> Value {
    let mut told = serde_json::to_value(parked).unwrap_or_default();
    if let Some(told) = told.as_object_mut() {
        for (name, bytes) in [("key", &parked.key), ("value", &parked.value)] {
            let shown = match bytes.as_deref().map(std::str::from_utf8) {
                None => Value::Null,
                Some(Ok(text)) => text.into(),
                Some(Err(_)) => json!({"base64": STANDARD.encode(bytes.as_deref().unwrap_or_default())}),
            };
            told.insert(name.to_owned(), shown);
        }
    }
    told
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seek {
    topic: Option<String>,
    partition: Option<i32>,
    to: To,
}

/// `POST /subscriptions/{id}/seek`
pub(super) async fn seek(State(api): State<Api>, Path(id): Path<String>, body: Json) -> Answer {
    let Seek { topic, partition, to } = read(
        body.0,
        "{\"to\": \"earliest\" | \"latest\" | {\"offset\": n} | {\"timestamp\": ms}, \"topic\"?, \"partition\"?}",
    )?;
    let partitions = Selection { topic, partition };
    Ok(told(&carry_out(&api, &id, Order::Seek { partitions, to }).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    topic: String,
    partition: i32,
    from: i64,
    to: i64,
}

/// `POST /subscriptions/{id}/replay`
pub(super) async fn replay(State(api): State<Api>, Path(id): Path<String>, body: Json) -> Answer {
    let Replay {
        topic,
        partition,
        from,
        to,
    } = read(
        body.0,
        "{\"topic\", \"partition\", \"from\": first offset, \"to\": the offset after the last}",
    )?;
    if from < 0 || to <= from {
        return Err(Error::field(
            "to",
            format!("must be greater than from, and from not below 0: {from} to {to} is no range"),
        ));
    }
    let order = Order::Replay {
        topic,
        partition,
        from,
        to,
    };
    Ok(told(&carry_out(&api, &id, order).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
}

/// `POST /subscriptions/{id}/test`
pub(super) async fn test(State(api): State<Api>, Path(id): Path<String>, body: MaybeJson) -> Answer {
    const LIKE: &str = "{\"topic\", \"partition\", \"offset\"}, or nothing for the newest record";
    let record = match read(body.0, LIKE)? {
        Test {
            topic: None,
            partition: None,
            offset: None,
        } => None,
        Test {
            topic: Some(topic),
            partition: Some(partition),
            offset: Some(offset),
        } => Some((topic, partition, offset)),
        _ => return Err(Error::field("", format!("must be {LIKE}"))),
    };
    Ok(told(&carry_out(&api, &id, Order::Test { record }).await?))
}

/// `GET /subscriptions/{id}/parked[?limit=]`
pub(super) async fn parked(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(arguments): Query<HashMap<String, String>>,
) -> Answer {
    if let Some(other) = arguments.keys().find(|other| *other != "limit") {
        return Err(Error::Unreadable(format!(
            "there is no argument {other:?}: limit can be given"
        )));
    }
    let limit = match arguments.get("limit") {
        None => LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| Error::Unreadable(format!("limit must be from 1 to {MAX_LIMIT}, not {text:?}")))?,
    };
    Ok(told(&carry_out(&api, &id, Order::ListParked { limit }).await?))
}

const EVENTS: &str = "{\"ids\": […]}, or nothing for all of them";

/// `POST /subscriptions/{id}/parked/retry`
pub(super) async fn retry_parked(State(api): State<Api>, Path(id): Path<String>, body: MaybeJson) -> Answer {
    let events: Events = read(body.0, EVENTS)?;
    Ok(told(&carry_out(&api, &id, Order::RetryParked(events)).await?))
}

/// `POST /subscriptions/{id}/parked/drop`
pub(super) async fn drop_parked(State(api): State<Api>, Path(id): Path<String>, body: MaybeJson) -> Answer {
    let events: Events = read(body.0, EVENTS)?;
    Ok(told(&carry_out(&api, &id, Order::DropParked(events)).await?))
}

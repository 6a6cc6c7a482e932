//! `POST /dev-broker/topics`: what CreateTopics is to a real broker.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{Error, Mock};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    partitions: Option<i32>,
}

pub(super) fn routes(mock: Arc<Mock>) -> Router {
    Router::new()
        .route("/dev-broker/topics", post(create))
        .with_state(mock)
}

async fn create(State(mock): State<Arc<Mock>>, body: Bytes) -> Response {
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            let wanted = "the body must be {\"name\": …, \"partitions\": …}";
            return failure(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                &format!("{wanted}: {error}"),
            );
        }
    };
    match mock.create_topic(&wanted.name, wanted.partitions) {
        Ok(partitions) => {
            let body = json!({"name": wanted.name, "partitions": partitions});
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Err(error) => {
            let (status, code) = match error {
                Error::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
                Error::Exists(_) => (StatusCode::CONFLICT, "topic_exists"),
                Error::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "dev_broker_full"),
                Error::Listen { .. } | Error::Start(_) | Error::Create { .. } => {
                    (StatusCode::BAD_GATEWAY, "broker_rejected")
                }
            };
            failure(status, code, &error.to_string())
        }
    }
}

fn failure(status: StatusCode, code: &str, error: &str) -> Response {
    let body = json!({"message": "could not create the topic", "error": error, "code": code});
    (status, Json(body)).into_response()
}

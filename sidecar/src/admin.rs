//! The admin listener: whether the process lives, whether it is ready, what it counts.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use crate::kafka::health::Health;
use crate::metrics::Metrics;
use crate::produce::Gateway;
use crate::reload::Status;
use crate::shutdown::{Phase, Shutdown};
use crate::spool::desk::{Desk, Order};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Admin {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    reloads: Arc<Status>,
}

/// `/healthz`, `/readyz`, `/metrics` and `/spool`.
pub fn router(
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    reloads: Arc<Status>,
) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(expose))
        .route("/spool", post(spool))
        .with_state(Admin {
            gateway,
            metrics,
            shutdown,
            reloads,
        })
}

/// Ready means: listening and not draining. A cluster that cannot be reached is told in the body and does not
/// fail readiness: records for other clusters are served, records for it are held and answered truthfully, and
/// a restart or a redirection to another sidecar would bring nobody nearer to it.
async fn ready(State(admin): State<Admin>) -> Response {
    let draining = admin.shutdown.phase() >= Phase::Draining;
    let mut clusters: Map<String, Value> = admin
        .gateway
        .health()
        .into_iter()
        .map(|(name, health)| {
            let told = match health {
                Health::Up => json!({ "state": "up" }),
                Health::Unknown => json!({ "state": "unknown" }),
                Health::Down(why) => json!({ "state": "down", "error": why }),
            };
            (name, told)
        })
        .collect();
    let not_accepted = admin.gateway.renewal_troubles();
    for (name, why) in not_accepted.into_iter().chain(admin.reloads.bad_files()) {
        let told = clusters
            .entry(name)
            .or_insert_with(|| json!({ "state": "unknown" }));
        if let Some(told) = told.as_object_mut() {
            let both = match told.get("reload_error").and_then(Value::as_str) {
                Some(other) => format!("{other}; {why}"),
                None => why,
            };
            told.insert("reload_error".to_owned(), both.into());
        }
    }
    let status = if draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let mut body = json!({ "ready": !draining, "draining": draining, "clusters": clusters });
    let secrets: Map<String, Value> = admin
        .reloads
        .bad_secrets()
        .into_iter()
        .map(|(name, why)| (name, json!({ "reload_error": why })))
        .collect();
    if let (false, Some(body)) = (secrets.is_empty(), body.as_object_mut()) {
        body.insert("secrets".to_owned(), secrets.into());
    }
    if let (Some(why), Some(body)) = (admin.reloads.bad_config(), body.as_object_mut()) {
        body.insert("config".to_owned(), json!({ "reload_error": why }));
    }
    (status, axum::Json(body)).into_response()
}

async fn expose(State(admin): State<Admin>) -> Response {
    admin.gateway.measure();
    match admin.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What `sluice spool` asks a running sidecar.
async fn spool(State(admin): State<Admin>, body: Bytes) -> Response {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => {
            let error = format!("the body is no order: {error}");
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", &error);
        }
    };
    // It waits for the disk.
    let carried_out = tokio::task::spawn_blocking(move || {
        let spool = admin.gateway.spool()?;
        Some(spool.carry_out(&order))
    });
    match carried_out.await {
        Ok(Some(Ok(told))) => axum::Json(told).into_response(),
        Ok(Some(Err(error))) => refusal(StatusCode::CONFLICT, "spool_refused", &error),
        Ok(None) => refusal(StatusCode::NOT_FOUND, "no_spool", "the sidecar has no spool"),
        Err(error) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "spool_refused",
            &error.to_string(),
        ),
    }
}

fn refusal(status: StatusCode, code: &str, error: &str) -> Response {
    let body = json!({ "message": "the order was not carried out", "error": error, "code": code });
    (status, axum::Json(body)).into_response()
}

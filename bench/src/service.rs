//! The small producing service that a team would write instead: axum in, rdkafka out, and 200 once the broker
//! has acknowledged.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sluice_e2e::Result;

use crate::options::Service;

/// Serves until the process is killed.
///
/// # Errors
/// The port is taken, or librdkafka refuses the configuration.
pub(crate) fn run(options: &Service) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?;
    let app = Router::new()
        .route("/topics/{topic}/records", post(produce))
        .with_state(producer);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        Ok(axum::serve(listener, app).await?)
    })
}

async fn produce(State(producer): State<FutureProducer>, Path(topic): Path<String>, body: Bytes) -> Response {
    let record = FutureRecord::<(), [u8]>::to(&topic).payload(&body);
    let (status, text) = match producer.send(record, Duration::ZERO).await {
        Ok(_) => (StatusCode::OK, r#"{"message":"message sent"}"#.to_owned()),
        Err((error, _)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            serde_json::json!({"message": error.to_string()}).to_string(),
        ),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        Ok(axum::serve(listener, app(&options.brokers)?).await?)
    })
}

fn app(brokers: &str) -> Result<Router> {
    let routes = Router::new().route("/topics/{topic}/records", post(produce));
    Ok(routes.with_state(producer(brokers)?))
}

/// A producer as a team would set it up.
///
/// # Errors
/// librdkafka refuses the configuration.
pub(crate) fn producer(brokers: &str) -> Result<FutureProducer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::TOPIC;
    use crate::load::Load;
    use crate::measure::request;
    use rdkafka::mocking::MockCluster;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_is_answered_once_it_is_stored() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app(&cluster.bootstrap_servers()).unwrap();
        let serving = tokio::spawn(async { axum::serve(listener, app).await });
        let load = move || Load::connect(address, request(), 2)?.run(Duration::from_millis(50));
        let outcome = tokio::task::spawn_blocking(load).await.unwrap().unwrap();
        serving.abort();
        assert!(outcome.latencies.len() >= 2);
        assert_eq!(outcome.statuses, [(200, outcome.latencies.len() as u64)].into());
    }
}

//! What reading is compared with: a small service that has a Kafka consumer for each client, and a producer for each that writes
//! too, axum and rdkafka.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message as Said, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::{FuturesUnordered, unfold};
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_e2e::Result;

use crate::service;

const PATIENCE: Duration = Duration::from_secs(10);

/// How it is started.
#[derive(Debug, Args)]
pub(crate) struct Each {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// `host:port` of the brokers, comma-separated.
    #[arg(long)]
    brokers: String,
}

/// Serves until the process is killed.
///
/// # Errors
/// The port is taken.
pub(crate) fn run(options: &Each) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        Ok(axum::serve(listener, app(&options.brokers)).await?)
    })
}

fn app(brokers: &str) -> Router {
    Router::new()
        .route("/topics/{topic}/stream", get(stream))
        .route("/topics/{topic}/records", get(records))
        .route("/topics/{topic}/ws", get(socket))
        .with_state(brokers.to_owned())
}

/// As the client libraries' examples have it: a group's name is required, and nothing is committed.
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "each")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false");
    config
}

/// Every partition from its end on.
fn ends(consumer: &impl Consumer, topic: &str) -> Result<TopicPartitionList, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut at = TopicPartitionList::new();
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    for partition in partitions {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
        at.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
    }
    Ok(at)
}

/// A consumer that is at the end of all partitions.
async fn consumer(brokers: String, topic: String) -> Result<StreamConsumer> {
    let made = tokio::task::spawn_blocking(move || {
        let consumer: StreamConsumer = config(&brokers).create()?;
        consumer.assign(&ends(&consumer, &topic)?)?;
        Ok(consumer)
    });
    made.await?
}

async fn stream(State(brokers): State<String>, Path(topic): Path<String>) -> Response {
    let consumer = match consumer(brokers, topic).await {
        Ok(consumer) => consumer,
        Err(error) => return failed(&error.to_string()),
    };
    let greeting = Bytes::from_static(b"retry: 1000\n\n");
    let events = unfold((Some(greeting), consumer), |(greeting, consumer)| async move {
        let bytes = match greeting {
            Some(bytes) => bytes,
            None => loop {
                // What fails is tried again by librdkafka.
                if let Ok(message) = consumer.recv().await {
                    break format!("event: message\ndata: {}\n\n", item(&message)).into();
                }
            },
        };
        Some((Ok::<Bytes, Infallible>(bytes), (None, consumer)))
    });
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(events),
    )
        .into_response()
}

/// What a client of a WebSocket sends.
#[derive(Debug, Deserialize)]
struct Publish {
    id: String,
    json: Box<RawValue>,
}

async fn socket(
    State(brokers): State<String>,
    Path(topic): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let made = service::producer(&brokers);
    match (consumer(brokers, topic.clone()).await, made) {
        (Ok(consumer), Ok(producer)) => {
            upgrade.on_upgrade(async move |socket| converse(socket, &consumer, &producer, &topic).await)
        }
        (Err(error), _) => failed(&error.to_string()),
        (_, Err(error)) => failed(&error.to_string()),
    }
}

/// Until the client goes.
async fn converse(mut socket: WebSocket, consumer: &StreamConsumer, producer: &FutureProducer, topic: &str) {
    let mut fates = FuturesUnordered::new();
    loop {
        let text = tokio::select! {
            message = consumer.recv() => match message {
                Ok(message) => format!("{{\"type\":\"message\",{}", item(&message).trim_start_matches('{')),
                // What fails is tried again by librdkafka.
                Err(_) => continue,
            },
            Some(fate) = fates.next() => fate,
            said = socket.recv() => match said {
                Some(Ok(Said::Text(text))) => {
                    let Ok(said) = serde_json::from_str::<Publish>(&text) else { return };
                    fates.push(publish(said, producer, topic));
                    continue;
                }
                Some(Ok(Said::Ping(_) | Said::Pong(_))) => continue,
                _ => return,
            },
        };
        if socket.send(Said::text(text)).await.is_err() {
            return;
        }
    }
}

/// Writes a record, and what the client is told of it.
async fn publish(said: Publish, producer: &FutureProducer, topic: &str) -> String {
    let Publish { id, json } = said;
    let record = FutureRecord::<(), [u8]>::to(topic).payload(json.get().as_bytes());
    let told = match producer.send(record, Duration::ZERO).await {
        Ok(stored) => {
            let (partition, offset) = (stored.partition, stored.offset);
            serde_json::json!({"type": "published", "id": id, "partition": partition, "offset": offset})
        }
        Err((error, _)) => serde_json::json!({"type": "error", "error": error.to_string()}),
    };
    told.to_string()
}

#[derive(Debug, Deserialize)]
struct Page {
    partition: i32,
    offset: i64,
    limit: usize,
}

async fn records(
    State(brokers): State<String>,
    Path(topic): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    let read = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config(&brokers).create()?;
        let mut at = TopicPartitionList::new();
        at.add_partition_offset(&topic, page.partition, Offset::Offset(page.offset))?;
        consumer.assign(&at)?;
        let mut items = Vec::with_capacity(page.limit);
        while items.len() < page.limit {
            match consumer.poll(PATIENCE) {
                None => break,
                Some(message) => items.push(item(&message?)),
            }
        }
        Ok::<_, KafkaError>(format!("{{\"items\":[{}]}}", items.join(",")))
    });
    match read.await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(Err(error)) => failed(&error.to_string()),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, why.to_owned()).into_response()
}

/// The record, its value as the JSON that it is.
fn item(message: &BorrowedMessage<'_>) -> String {
    let value = message.payload().map(serde_json::from_slice::<&RawValue>);
    let value = value.and_then(Result::ok).map_or("null", RawValue::get);
    format!(
        "{{\"topic\":\"{}\",\"partition\":{},\"offset\":{},\"value\":{value}}}",
        message.topic(),
        message.partition(),
        message.offset()
    )
}

//! Calls to the admin listener of a running sidecar.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Failure;
use crate::config::{Address, Listener};
use crate::kafka::topics::Creation;
use crate::spool::desk::Order;

/// A change of the state is stored and read back first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has the sidecar behind `listener` create a topic on its dev broker.
pub(super) async fn create_topic(
    listener: &Listener,
    name: &str,
    partitions: Option<i32>,
) -> Result<Creation, Failure> {
    let body = json!({"name": name, "partitions": partitions});
    let (status, body) = call(
        listener,
        "/dev-broker/topics",
        &body,
        ", which has the dev broker",
    )
    .await?;
    if status == StatusCode::CREATED {
        return Ok(Creation::Created);
    }
    if body.get("code").and_then(Value::as_str) == Some("topic_exists") {
        return Ok(Creation::Exists);
    }
    Err(refused(listener, status, &body))
}

/// Has the sidecar behind `listener`, whose spool it is, carry out an order.
pub(super) async fn spool(listener: &Listener, order: &Order) -> Result<Value, Failure> {
    let body = serde_json::to_value(order).map_err(|error| Failure::Other(error.to_string()))?;
    let (status, body) = call(listener, "/spool", &body, ", which has the spool open").await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(refused(listener, status, &body))
}

/// Asks the sidecar behind `listener`, for a thing of version `if_match` if that is given. Gives what it answers with a status of
/// success.
pub(super) async fn ask(
    listener: &Listener,
    call: (Method, &str),
    body: Option<&Value>,
    if_match: Option<u64>,
) -> Result<Value, Failure> {
    let (status, answer) = request(listener, call, body, if_match, "").await?;
    if status.is_success() {
        return Ok(answer);
    }
    Err(refused(listener, status, &answer))
}

fn refused(listener: &Listener, status: StatusCode, body: &Value) -> Failure {
    Failure::Other(match body.get("error").and_then(Value::as_str) {
        Some(error) => error.to_owned(),
        None => format!("the sidecar at {} answers {status}", place(listener)),
    })
}

fn place(listener: &Listener) -> String {
    match &listener.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix { path, .. } => path.display().to_string(),
    }
}

/// POSTs JSON to a running sidecar; `whose` says what it is asked for.
async fn call(
    listener: &Listener,
    path: &str,
    body: &Value,
    whose: &str,
) -> Result<(StatusCode, Value), Failure> {
    request(listener, (Method::POST, path), Some(body), None, whose).await
}

async fn request(
    listener: &Listener,
    (method, path): (Method, &str),
    body: Option<&Value>,
    if_match: Option<u64>,
    whose: &str,
) -> Result<(StatusCode, Value), Failure> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "sluice");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(version) = if_match {
        request = request.header(IF_MATCH, format!("\"{version}\""));
    }
    if let Some(token) = listener.tokens.first() {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request
        .body(Full::new(
            body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())),
        ))
        .map_err(|error| Failure::Other(error.to_string()))?;
    let unreachable = |why: &dyn std::fmt::Display| {
        Failure::Other(format!(
            "cannot reach the sidecar at {}{whose}: {why}",
            place(listener)
        ))
    };
    let answer = tokio::time::timeout(PATIENCE, send(&listener.address, request)).await;
    match answer {
        Err(_) => Err(unreachable(&format!("no answer within {} s", PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(unreachable(&error)),
        Ok(Ok((status, body))) => Ok((status, serde_json::from_slice(&body).unwrap_or_default())),
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn send(address: &Address, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Error> {
    match address {
        Address::Tcp(address) => exchange(TcpStream::connect(address).await?, request).await,
        Address::Unix { path, .. } => exchange(UnixStream::connect(path).await?, request).await,
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer,
        // The connection may end by itself only after the answer.
        error = async { match connection.await { Err(error) => error.into(), Ok(()) => "closed without an answer".into() } } => Err(error),
    }
}

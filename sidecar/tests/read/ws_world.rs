//! A client of WebSockets.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use sluice::listeners::Bound;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{PATIENCE, Sidecar};

/// A socket that is open.
pub(crate) struct Socket {
    pub(crate) inner: WebSocketStream<TcpStream>,
    pub(crate) protocol: Option<String>,
}

fn request(sidecar: &Sidecar, path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let url = sidecar.url(path).replacen("http://", "ws://", 1);
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request
            .headers_mut()
            .append(*name, HeaderValue::from_str(value).unwrap());
    }
    request
}

async fn connect(
    sidecar: &Sidecar,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<TcpStream>, Response<Option<Vec<u8>>>), Error> {
    let Bound::Tcp(address) = &sidecar.addresses.data else {
        panic!("no TCP listener")
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let opened = tokio_tungstenite::client_async(request(sidecar, path, headers), stream);
    tokio::time::timeout(PATIENCE, opened).await.expect("no answer")
}

/// The status and body of a request for a socket that is refused.
pub(crate) async fn refused(sidecar: &Sidecar, path: &str, headers: &[(&'static str, &str)]) -> (u16, Value) {
    match connect(sidecar, path, headers).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            (response.status().as_u16(), body)
        }
        other => panic!("{path}: {:?}", other.map(|(_, response)| response)),
    }
}

impl Socket {
    pub(crate) async fn open(sidecar: &Sidecar, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let (inner, response) = connect(sidecar, path, headers).await.unwrap();
        let protocol = response.headers().get("sec-websocket-protocol");
        Self {
            inner,
            protocol: protocol.map(|value| value.to_str().unwrap().to_owned()),
        }
    }

    pub(crate) async fn say(&mut self, text: impl Into<String>) {
        self.inner.send(Message::text(text.into())).await.unwrap();
    }

    /// The next message that is no ping.
    pub(crate) async fn frame(&mut self) -> Option<Result<Message, Error>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.inner.next()).await;
            match frame.expect("nothing comes") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                frame => return frame,
            }
        }
    }

    /// The next message's JSON.
    pub(crate) async fn next(&mut self) -> Value {
        match self.frame().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The next message of this type, before which nothing else may come.
    pub(crate) async fn of(&mut self, kind: &str) -> Value {
        let next = self.next().await;
        assert_eq!(next["type"], kind, "{next}");
        next
    }

    /// The next message of this type, whatever comes before.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let next = self.next().await;
            if next["type"] == kind {
                return next;
            }
        }
    }

    pub(crate) async fn values(&mut self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        while values.len() < count {
            let message = self.of("message").await;
            let value = &message["value"];
            values.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        values
    }

    /// How the sidecar closes it, after what else it says.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.frame().await {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return (code.into(), reason.to_string());
                }
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

//! One HTTP client for one target: HTTP/1.1, or HTTP/2 where TLS agrees on it.
//!
//! A redirection is an answer like any other and not followed: it would take record, credentials and signature to
//! a place that nobody allowed.

mod connect;
mod io;

use std::error::Error;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, PROXY_AUTHORIZATION};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::egress::Guard;
use crate::config::Secret;
use connect::Connector;

/// How a target is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `connect_timeout`: for the name, the connection, the proxy and TLS together.
    pub connect_timeout: Duration,
    /// `read_timeout`: for the whole answer, from when there is a connection.
    pub read_timeout: Duration,
    /// `idle_timeout`: how long a connection is kept that nothing uses.
    pub idle_timeout: Duration,
    /// `max_concurrent_connections`: requests under way at once, each of which has a connection of its own over HTTP/1.1;
    /// none: as many as there are events to deliver.
    pub max_connections: Option<usize>,
    /// `tls`
    pub tls: Tls,
}

/// Gravitee's defaults (`docs/apim`, the webhook entrypoint's `http` section).
impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            max_connections: None,
            tls: Tls::default(),
        }
    }
}

/// `tls`: whom a target's certificate is believed of, and what is shown to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Authorities in PEM; the system's if none.
    pub ca: Option<String>,
    /// A client's certificate, and those between it and its authority, in PEM.
    pub certificate: Option<String>,
    /// The key of it, in PEM.
    pub key: Option<Secret>,
    /// Whether the target's certificate is verified.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca: None,
            certificate: None,
            key: None,
            verify: true,
        }
    }
}

/// A proxy that targets are reached by.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it is, and who judges that.
    pub guard: Guard,
    /// What it is shown: `Basic …`.
    pub authorization: Option<HeaderValue>,
}

/// A client of one target. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    /// Where requests go whole, in the absolute form, what the proxy is shown goes with each.
    forward: Option<HeaderValue>,
    connect_timeout: Duration,
    read_timeout: Duration,
    slots: Option<Arc<Semaphore>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// The body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// It is longer than was asked for.
    TooLong,
    /// It did not come, in words.
    Broken(String),
}

impl Client {
    /// A client of what `guard` judges.
    ///
    /// # Errors
    /// Certificates, key or OpenSSL are not in order.
    pub fn new(guard: Guard, settings: &Settings, proxy: Option<Proxy>) -> Result<Self, String> {
        let forward = proxy
            .as_ref()
            .filter(|_| !guard.place().is_secure())
            .and_then(|proxy| proxy.authorization.clone());
        let connector = Connector::new(guard, settings, proxy)?;
        let mut builder = Pool::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(settings.read_timeout)
            .http2_max_header_list_size(MAX_HEADERS)
            .http1_max_buf_size(MAX_BUFFER);
        if let Some(most) = settings.max_connections {
            builder.pool_max_idle_per_host(most);
        }
        Ok(Self {
            pool: builder.build(connector),
            forward,
            connect_timeout: settings.connect_timeout,
            read_timeout: settings.read_timeout,
            slots: settings
                .max_connections
                .map(|most| Arc::new(Semaphore::new(most))),
        })
    }

    /// Sends a request, whose URI is absolute, and reads the answer with up to `longest` bytes of its body. Takes the connect and
    /// the read timeout at most, once fewer than `max_connections` others are under way.
    ///
    /// # Errors
    /// There is no answer, in words without secrets.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        longest: usize,
    ) -> Result<Answer, String> {
        let _slot = match &self.slots {
            Some(slots) => Some(slots.acquire().await.map_err(|_| "the target is closed")?),
            None => None,
        };
        if let Some(shown) = &self.forward {
            request.headers_mut().insert(PROXY_AUTHORIZATION, shown.clone());
        }
        let mut captured = capture_connection(&mut request);
        let mut sending = pin!(self.pool.request(request));
        // The connector has its own bound: this is for what waits outside of it.
        let connecting = timeout(self.connect_timeout + self.read_timeout, async {
            tokio::select! {
                biased;
                answer = &mut sending => Some(answer),
                () = async { drop(captured.wait_for_connection_metadata().await) } => None,
            }
        });
        let late = || format!("no answer within {}", words(self.read_timeout));
        let first = connecting.await.map_err(|_| late())?;
        let deadline = Instant::now() + self.read_timeout;
        let answer = match first {
            Some(answer) => answer,
            None => timeout_at(deadline, sending).await.map_err(|_| late())?,
        };
        let (head, body) = answer.map_err(|error| explain(&error))?.into_parts();
        let body = match timeout_at(deadline, read(body, longest)).await {
            Ok(body) => body,
            Err(_) => Body::Broken(format!(
                "the answer's body is not complete within {}",
                words(self.read_timeout)
            )),
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

/// How often a connection that answers no request is asked whether it is still there, over HTTP/2.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What an answer's headers may have together.
const MAX_HEADERS: u32 = 64 * 1024;
const MAX_BUFFER: usize = 256 * 1024;

async fn read(body: Incoming, longest: usize) -> Body {
    match Limited::new(body, longest).collect().await {
        Ok(body) => Body::Whole(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Body::TooLong,
        Err(error) => Body::Broken(format!("the answer broke off: {}", chain(&*error))),
    }
}

fn explain(error: &PoolError) -> String {
    match error.source() {
        // What the connector says is whole sentences already.
        Some(source) if error.is_connect() => chain(source),
        Some(source) => format!("the call failed: {}", chain(source)),
        None => format!("the call failed: {error}"),
    }
}

/// An error with its causes, each of them once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            // A string takes everything.
            write!(text, ": {said}").unwrap_or_default();
        }
        next = cause.source();
    }
    text
}

/// A time as a person writes it.
fn words(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

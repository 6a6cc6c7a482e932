//! Serving a connection in what it speaks.
//!
//! hyper-util serves both as well, but a connection that may be upgraded it reads the first bytes of itself, whatever it was told of
//! the version, and gives them to hyper as a piece of their own. hyper doubles its buffer for them: 8 KiB for as long as the
//! connection lasts, which with an event stream is long.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::version::Version;
use crate::shutdown::{Phase, Shutdown};

/// HTTP/2 windows: a batch of records must not wait for the window to be opened.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of an HTTP/1.1 request.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What waits in memory to be sent on a connection of HTTP/1.1, beside one piece of an answer; and how long the head of a request may
/// be, which a cursor of 64 KiB has to fit into.
const BUFFER: usize = 128 * 1024;
/// What waits in memory to be sent on one stream of HTTP/2, beside one piece of its answer.
const STREAM_BUFFER: usize = 64 * 1024;

/// How connections are served.
pub(super) struct Http {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Http {
    pub(super) fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            // WebSockets over HTTP/2 (RFC 8441).
            .enable_connect_protocol()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_BUFFER)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        Self { http1, http2 }
    }

    /// Serves a connection until it ends: once `shutdown` drains, when what was asked by then is answered.
    pub(super) fn serve<I, S>(
        &self,
        version: Version,
        io: I,
        service: S,
        shutdown: Shutdown,
    ) -> impl Future<Output = hyper::Result<()>> + Send + use<I, S>
    where
        I: Read + Write + Send + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<Body>> + Send + Unpin + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match version {
            Version::Http1 => {
                let connection = self.http1.serve_connection(io, service).with_upgrades();
                let wind_down = http1::UpgradeableConnection::graceful_shutdown;
                Either::Left(until_drained(connection, wind_down, shutdown))
            }
            // In a box: a connection of HTTP/1.1 has no room for it.
            Version::Http2 => {
                let connection = Box::pin(self.http2.serve_connection(io, service));
                let wind_down = |connection: Pin<&mut Boxed<I, S>>| {
                    connection.get_mut().as_mut().graceful_shutdown();
                };
                Either::Right(until_drained(connection, wind_down, shutdown))
            }
        }
    }
}

type Boxed<I, S> = Pin<Box<http2::Connection<I, S, TokioExecutor>>>;

/// Has the connection wind down once the shutdown drains.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn would hold the connection twice"
)]
fn until_drained<C>(
    mut connection: C,
    wind_down: impl FnOnce(Pin<&mut C>) + Send,
    mut shutdown: Shutdown,
) -> impl Future<Output = C::Output> + Send
where
    C: Future<Output = hyper::Result<()>> + Send + Unpin,
{
    async move {
        tokio::select! {
            ended = &mut connection => return ended,
            () = shutdown.reached(Phase::Draining) => {}
        }
        wind_down(Pin::new(&mut connection));
        (&mut connection).await
    }
}

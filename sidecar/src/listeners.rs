//! Listening: sockets, who may use them, and connections that end in good order.

pub(crate) mod auth;
mod full;
mod place;
mod socket;
mod version;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use self::full::Farewells;
pub use self::place::Place;
pub use self::socket::{Bound, Peer, Stream};
use self::version::{Version, spoken};
use crate::config::Listener;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};

/// HTTP/2 windows: a batch of records must not wait for the window to be opened.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of an HTTP/1.1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What waits in memory to be sent on a connection of HTTP/1.1, beside one piece of an answer; and how long the head of a request may
/// be, which a cursor of 64 KiB has to fit into.
const BUFFER: usize = 128 * 1024;
/// What waits in memory to be sent on one stream of HTTP/2, beside one piece of its answer.
const STREAM_BUFFER: usize = 64 * 1024;
/// The pause after a connection that could not be accepted, for want of file descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that listens, and what is served on it.
pub struct Server {
    socket: socket::Socket,
    router: Router,
    max_connections: usize,
    connections: Gauge,
    turned_away: Counter,
}

impl Server {
    /// Binds the listener; `router` will be served to those with one of its tokens (to all when it has none). Its
    /// connections are counted under `name`.
    ///
    /// # Errors
    /// When the address cannot be listened on; the text names it.
    pub async fn bind(
        name: &'static str,
        listener: &Listener,
        metrics: &Metrics,
        router: Router,
    ) -> io::Result<Self> {
        let socket = socket::Socket::bind(&listener.address).await?;
        let (connections, turned_away) = metrics.listener(name);
        Ok(Self {
            socket,
            router: auth::protect(router, &listener.tokens),
            max_connections: listener.max_connections,
            connections,
            turned_away,
        })
    }

    /// Serves `router` as well, to whom it serves itself: the listener's tokens are not asked for.
    #[must_use]
    pub fn and(mut self, router: Router) -> Self {
        self.router = self.router.merge(router);
        self
    }

    /// Where it listens; with the port that was chosen, where it was 0.
    pub fn address(&self) -> &Bound {
        self.socket.address()
    }

    /// Serves until the shutdown drains, then waits for the connections to end: idle ones at once, others when
    /// their requests are answered and what they were upgraded to has ended, all of them at [`Phase::Stopping`].
    pub async fn serve(self, mut shutdown: Shutdown) {
        let http = Arc::new(Http::new());
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(self.max_connections));
        let farewells = Farewells::new(self.max_connections);
        let mut full = false;
        let mut draining = shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = draining.reached(Phase::Draining) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(address = %self.address(), %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                self.turned_away.inc();
                if !full {
                    let (address, max_connections) = (self.address(), self.max_connections);
                    tracing::warn!(%address, max_connections, "no more connections are taken: there are `max_connections`");
                }
                full = true;
                farewells.bid(stream);
                continue;
            };
            full = false;
            let place = Place::new(permit, &self.connections);
            let held = place.clone();
            let service = self.router.clone().map_request(move |mut request: Request<_>| {
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(held.clone());
                request
            });
            let service = TowerToHyperService::new(service);
            let (http, watcher) = (Arc::clone(&http), graceful.watcher());
            let (mut draining, mut stopping) = (shutdown.clone(), shutdown.clone());
            tokio::spawn(async move {
                let served = async {
                    let version = tokio::select! {
                        version = tokio::time::timeout(HEAD_TIMEOUT, spoken(&stream)) => version,
                        () = draining.reached(Phase::Draining) => return,
                    };
                    let Ok(version) = version else { return };
                    let connection = http
                        .of(version)
                        .serve_connection_with_upgrades(TokioIo::new(stream), service);
                    if let Err(error) = watcher.watch(connection.into_owned()).await {
                        tracing::debug!(error, "a connection ended badly");
                    }
                };
                tokio::select! {
                    () = served => {}
                    () = stopping.reached(Phase::Stopping) => {}
                }
                drop(place);
            });
        }
        drop(self.socket);
        let ended = async {
            graceful.shutdown().await;
            // What connections were upgraded to is not known to them any more.
            let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
            drop(room.acquire_many(all).await);
        };
        tokio::select! {
            () = ended => {}
            () = shutdown.reached(Phase::Stopping) => {}
        }
    }
}

/// How connections are served, by what they speak.
struct Http {
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
    either: auto::Builder<TokioExecutor>,
}

impl Http {
    fn new() -> Self {
        Self {
            http1: http().http1_only(),
            http2: http().http2_only(),
            either: http(),
        }
    }

    fn of(&self, version: Version) -> &auto::Builder<TokioExecutor> {
        match version {
            Version::Http1 => &self.http1,
            Version::Http2 => &self.http2,
            Version::Unknown => &self.either,
        }
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER);
    http.http2()
        .timer(TokioTimer::new())
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    http
}

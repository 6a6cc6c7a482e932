//! Listening: sockets, who may use them, and connections that end in good order.

pub(crate) mod auth;
mod connection;
mod full;
mod place;
mod socket;
mod version;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use self::connection::{HEAD_TIMEOUT, Http};
use self::full::Farewells;
pub use self::place::Place;
pub use self::socket::{Bound, Peer, Stream};
use self::version::spoken;
use crate::config::Listener;
use crate::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};

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
            let http = Arc::clone(&http);
            let (mut draining, mut stopping) = (shutdown.clone(), shutdown.clone());
            tokio::spawn(async move {
                // There may be many, which are here for long: each thing is held once.
                let mut served = pin!(async move {
                    let version = tokio::select! {
                        version = tokio::time::timeout(HEAD_TIMEOUT, spoken(&stream)) => version,
                        () = draining.reached(Phase::Draining) => return,
                    };
                    // Who is gone, or does not begin in time, is told nothing.
                    let Ok(Ok(version)) = version else { return };
                    let served = http.serve(version, TokioIo::new(stream), service, draining);
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                });
                tokio::select! {
                    () = &mut served => {}
                    () = stopping.reached(Phase::Stopping) => {}
                }
                drop(place);
            });
        }
        drop(self.socket);
        // Connections have their places until they end, and so has what they were upgraded to.
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        tokio::select! {
            _ended = room.acquire_many(all) => {}
            () = shutdown.reached(Phase::Stopping) => {}
        }
    }
}

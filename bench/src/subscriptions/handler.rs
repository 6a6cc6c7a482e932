//! The handler that records are handed to: one thread, which answers at once and writes down what came.
//!
//! It is asked in two ways. Sluice sends the record as it is; Restate what its service protocol has around it
//! (<https://github.com/restatedev/service-protocol>), and it is answered in that protocol's fewest bytes, so that no SDK is
//! measured with the server.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::json;
use sluice_e2e::{Context, Result, ensure, wait};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::record::Said;
use crate::read::stamp::Clock;

/// One key in so many fails, when keys do.
const FAILING: u64 = 100;
/// The service that has no order, and the one that has each key's.
pub(super) const SERVICES: [&str; 2] = ["Plain", "Keyed"];
/// Of Restate's service protocol: the version, as a content type.
const INVOCATION: &str = "application/vnd.restate.invocation.v5";
/// An output (0x0401) whose value (field 14) is empty, and the end (0x0003); each header has the type, flags and a length.
const DONE: &[u8] = &[
    4, 1, 0, 0, 0, 0, 0, 2, 0x72, 0, //
    0, 3, 0, 0, 0, 0, 0, 0,
];

/// What came in a run.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    seen: Vec<bool>,
    newest: Vec<Option<u64>>,
    /// Records that came.
    pub(super) records: u64,
    /// Records that came again.
    pub(super) again: u64,
    /// Records that came first after a later one of their key.
    pub(super) late: u64,
    /// When the first and the last came, in µs.
    pub(super) first: u64,
    pub(super) last: u64,
    /// From written until here, in µs; not of keys that may fail.
    pub(super) latencies: Histogram<u64>,
    /// Requests that were refused on purpose.
    pub(super) refused: u64,
}

impl Tally {
    fn new(keys: u64) -> Result<Self> {
        Ok(Self {
            seen: Vec::new(),
            newest: vec![None; usize::try_from(keys)?],
            records: 0,
            again: 0,
            late: 0,
            first: 0,
            last: 0,
            latencies: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            refused: 0,
        })
    }

    /// A percentile in ms.
    pub(super) fn millis(&self, percent: f64) -> f64 {
        self.latencies.value_at_percentile(percent) as f64 / 1e3
    }

    fn take(&mut self, said: Said, now: u64) {
        let Ok(n) = usize::try_from(said.n) else { return };
        if self.seen.len() <= n {
            self.seen.resize(n + 1, false);
        }
        let Some(seen) = self.seen.get_mut(n) else { return };
        if std::mem::replace(seen, true) {
            self.again += 1;
            return;
        }
        if self.records == 0 {
            self.first = now;
        }
        self.records += 1;
        self.last = now;
        if let Some(newest) = usize::try_from(said.key)
            .ok()
            .and_then(|key| self.newest.get_mut(key))
        {
            if newest.is_some_and(|newest| newest > said.n) {
                self.late += 1;
            } else {
                *newest = Some(said.n);
            }
        }
        if !said.key.is_multiple_of(FAILING) {
            self.latencies
                .saturating_record(now.saturating_sub(said.sent).max(1));
        }
    }
}

struct State {
    clock: Clock,
    tally: Mutex<Tally>,
    failing: AtomicBool,
    under_way: AtomicUsize,
    held: watch::Sender<bool>,
}

/// The handler. It ends when this is dropped.
pub(super) struct Handler {
    /// Where it listens, on loopback.
    pub(super) port: u16,
    state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Handler {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Handler {
    /// Starts it, on a thread of its own.
    ///
    /// # Errors
    /// There is no thread, or no port.
    pub(super) fn start(clock: Clock) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("handler")
            .enable_all()
            .build()?;
        let state = Arc::new(State {
            clock,
            tally: Mutex::new(Tally::new(0)?),
            failing: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            held: watch::Sender::new(false),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let given = Arc::clone(&state);
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                // A caller that is killed breaks its connections.
                let _delayed = stream.set_nodelay(true);
                let state = Arc::clone(&given);
                tokio::spawn(async move {
                    let service = service_fn(move |request| handle(request, Arc::clone(&state)));
                    let mut server = Builder::new(TokioExecutor::new());
                    server.http2().max_concurrent_streams(10_000);
                    let _broken = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self {
            port,
            state,
            runtime: Some(runtime),
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.state.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run with records of `keys` keys.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn begin(&self, keys: u64) -> Result<()> {
        *self.tally() = Tally::new(keys)?;
        Ok(())
    }

    /// What came since [`Self::begin`], with the latencies since this was asked last.
    pub(super) fn so_far(&self) -> Tally {
        let mut tally = self.tally();
        let told = tally.clone();
        tally.latencies.reset();
        told
    }

    /// Has one key in a hundred fail, or no more.
    pub(super) fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::Relaxed);
    }

    /// Leaves requests without an answer, or answers them all.
    pub(super) fn hold(&self, held: bool) {
        self.state.held.send_replace(held);
    }

    /// Waits until `records` have come, each at least once.
    ///
    /// # Errors
    /// They have not after `limit`; how many have is in the error.
    pub(super) async fn has(&self, records: u64, limit: Duration) -> Result<()> {
        let what = format!("all {records} records are with the handler");
        wait::until(&what, limit, async || {
            let came = self.tally().records;
            ensure!(came == records, "{came} are");
            Ok(())
        })
        .await
    }

    /// Waits until so many requests are without an answer.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub(super) async fn holds(&self, requests: usize, limit: Duration) -> Result<()> {
        let what = format!("{requests} requests are with the handler at once");
        wait::until(&what, limit, async || {
            let held = self.state.under_way.load(Ordering::Relaxed);
            ensure!(held >= requests, "{held} are");
            Ok(())
        })
        .await
    }
}

/// Restate's endpoint manifest.
fn manifest() -> String {
    let kinds = ["SERVICE", "VIRTUAL_OBJECT"];
    let services = SERVICES
        .iter()
        .zip(kinds)
        .map(|(name, kind)| json!({"name": name, "ty": kind, "handlers": [{"name": "take"}]}));
    json!({
        "protocolMode": "REQUEST_RESPONSE",
        "minProtocolVersion": 5,
        "maxProtocolVersion": 5,
        "services": services.collect::<Vec<_>>(),
    })
    .to_string()
}

async fn handle(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if path == "/discover" {
        let mut answer = answer(StatusCode::OK, Bytes::from(manifest()));
        let kind = HeaderValue::from_static("application/vnd.restate.endpointmanifest.v1+json");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        return Ok(answer);
    }
    let restate = path.starts_with("/invoke/");
    let read = request.into_body().collect().await;
    let Some(said) = read.ok().and_then(|body| Said::find(&body.to_bytes())) else {
        return Ok(answer(StatusCode::BAD_REQUEST, Bytes::new()));
    };
    if state.failing.load(Ordering::Relaxed) && said.key % FAILING == 0 {
        let mut tally = state.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.refused += 1;
        return Ok(answer(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()));
    }
    if *state.held.borrow() {
        state.under_way.fetch_add(1, Ordering::Relaxed);
        let mut held = state.held.subscribe();
        // Its sender is in the same state: it is not gone.
        let _let_go = held.wait_for(|held| !held).await.is_ok();
        state.under_way.fetch_sub(1, Ordering::Relaxed);
    }
    {
        let now = state.clock.now();
        let mut tally = state.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.take(said, now);
    }
    if !restate {
        return Ok(answer(StatusCode::OK, Bytes::new()));
    }
    let mut answer = answer(StatusCode::OK, Bytes::from_static(DONE));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(INVOCATION));
    Ok(answer)
}

fn answer(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
}

/// Records each second between the first that came and the last.
///
/// # Errors
/// Fewer than two came.
pub(super) fn rate(tally: &Tally) -> Result<f64> {
    let took = tally.last.checked_sub(tally.first).filter(|took| *took > 0);
    let took = took.context("too few records came for a rate")?;
    Ok(tally.records.saturating_sub(1) as f64 * 1e6 / took as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_once_and_their_order_is_looked_at() {
        let mut tally = Tally::new(2).unwrap();
        for (n, now) in [(1, 100), (3, 150), (1, 200), (2, 400), (0, 600)] {
            let key = n % 2;
            tally.take(Said { n, key, sent: 50 }, now);
        }
        // 0 is behind 2, of its key; 1 came again.
        assert_eq!((tally.records, tally.again, tally.late), (4, 1, 1));
        assert_eq!((tally.first, tally.last), (100, 600));
        // Key 0 is one of those that may fail.
        assert_eq!(tally.latencies.len(), 2);
        assert!((rate(&tally).unwrap() - 6000.0).abs() < 0.1);
        assert!(rate(&Tally::new(1).unwrap()).is_err());
    }
}

//! Reading: `GET /topics/{topic}/records` and what goes with it. `docs/reading.md` is its reference.
//!
//! [`access`] says who may read what, [`query`] what is asked for, [`feed`] reads it, [`filter`] leaves out what is not wanted,
//! [`poll`] answers once, [`latest`] with the newest of each key that a [`view`] has, and [`stream`] and [`ws`] for as long as the
//! client listens, which both are what [`flow`] gives them.

mod access;
mod choice;
pub mod cursor;
pub(crate) mod failure;
pub(crate) mod feed;
pub mod fields;
pub mod filter;
mod flow;
pub mod from;
mod groups;
pub(crate) mod item;
mod latest;
mod poll;
mod query;
mod stream;
mod topics;
mod view;
pub mod ws;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use self::latest::preferred_wait;

use self::access::Access;
use self::choice::Request;
use self::failure::{Failure, Kind};
use self::groups::Groups;
use self::query::{Asked, Way};
use self::view::Views;
use crate::config::{Cluster, Config};
use crate::kafka::reader::Reader;
use crate::metrics::{Metrics, ReadMetrics};
use crate::produce::Gateway;
use crate::shutdown::Shutdown;

/// What all replies that are under way may hold, in KiB of what they were asked to hold at most.
const BUDGET: usize = 64 * 1024;
/// How long a reply waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that reading needs.
pub struct Reads {
    access: Access,
    budget: Arc<Semaphore>,
    metrics: ReadMetrics,
    shutdown: Shutdown,
    groups: Arc<Groups>,
    views: Views,
    publishing: ws::Publishing,
}

impl Reads {
    /// What `config` lets be read. Connects to nothing: who is asked for first is. Streams end when `shutdown` drains. What
    /// is written on WebSockets goes to `gateway`.
    pub fn new(config: &Config, metrics: &Metrics, shutdown: Shutdown, gateway: Arc<Gateway>) -> Arc<Self> {
        Arc::new(Self {
            access: Access::new(config, metrics.reads().tails()),
            budget: Arc::new(Semaphore::new(BUDGET)),
            metrics: metrics.reads(),
            groups: Groups::new(config.max_members, metrics.reads(), shutdown.clone()),
            shutdown,
            views: Views::default(),
            publishing: ws::Publishing::new(config, gateway),
        })
    }

    /// Has cluster `name` read with the certificates and secrets of `to` from now on. Streams that are open go on with
    /// the clients that they have, and end with an error when those are not accepted any more.
    ///
    /// # Errors
    /// Why the old ones stay in use: the cluster can be reached with them, and not with the new ones.
    pub async fn renew(&self, name: &str, to: &Cluster) -> Result<(), String> {
        self.access.renew(name, to).await
    }

    /// Waits until the readers' members have left their groups, which they do once the shutdown drains and their clients are
    /// gone; for some seconds at most.
    pub async fn drained(&self) {
        self.groups.drained().await;
    }

    /// What reads a cluster now.
    pub(crate) fn reader(&self, cluster: &str) -> Result<Arc<Reader>, Failure> {
        self.access.reader(cluster)
    }

    /// The answer to a request that gets no records.
    fn refused(&self, failure: Failure) -> Response {
        if failure.kind() == Kind::GroupNotAllowed {
            self.metrics.group_refused();
        }
        failure.into_response()
    }

    /// Room for a reply of `bytes`, until it is dropped.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.budget).acquire_many_owned(kib);
        match tokio::time::timeout(PATIENCE, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                Kind::Overloaded,
                format!(
                    "the replies under way take {} MiB, which is all that they may, for {} s: ask for less (max_bytes)",
                    BUDGET / 1024,
                    PATIENCE.as_secs()
                ),
            )),
        }
    }
}

/// The paths under which topics are read. Who may is decided topic by topic.
pub fn router(reads: Arc<Reads>) -> Router {
    let not_allowed = || async { Failure::new(Kind::Method, "the path takes GET only") };
    Router::new()
        .route("/topics", get(topics::list).fallback(not_allowed))
        .route("/topics/{topic}", get(topics::describe).fallback(not_allowed))
        // It takes POST as well, and those who write say so.
        .route("/topics/{topic}/records", get(records_of))
        .route("/topics/{topic}/stream", get(stream_of).fallback(not_allowed))
        .route(
            "/topics/{topic}/partitions/{partition}/records/{offset}",
            get(topics::value).fallback(not_allowed),
        )
        .route("/records", get(records).fallback(not_allowed))
        .route("/stream", get(streamed).fallback(not_allowed))
        // Over HTTP/2 it is a CONNECT (RFC 8441).
        .route(
            "/topics/{topic}/ws",
            get(ws::of_topic).connect(ws::of_topic).fallback(not_allowed),
        )
        .route(
            "/ws",
            get(ws::of_several).connect(ws::of_several).fallback(not_allowed),
        )
        .with_state(reads)
}

type Topic = Result<Path<String>, PathRejection>;

async fn records_of(State(reads): State<Arc<Reads>>, topic: Topic, request: Parts) -> Response {
    answer(&reads, Some(topic), request, false).await
}

async fn stream_of(State(reads): State<Arc<Reads>>, topic: Topic, request: Parts) -> Response {
    answer(&reads, Some(topic), request, true).await
}

async fn records(State(reads): State<Arc<Reads>>, request: Parts) -> Response {
    answer(&reads, None, request, false).await
}

async fn streamed(State(reads): State<Arc<Reads>>, request: Parts) -> Response {
    answer(&reads, None, request, true).await
}

async fn answer(reads: &Arc<Reads>, topic: Option<Topic>, request: Parts, streamed: bool) -> Response {
    let answered = async {
        let topic = named(topic)?;
        let others = reads.access.arguments();
        let asked = Asked::parse(&request.uri, others)?;
        let says = Request::new(&request.uri, &request.headers);
        let granted = reads.access.grant(asked.cluster_name.as_deref(), &says).await?;
        let wanted = asked.check(topic.as_deref(), &granted, &says, others).await?;
        if streamed || accepts(&request.headers, "text/event-stream") {
            asked.refuse_strangers(Way::Events)?;
            return stream::open(reads, &granted, &asked, wanted).await;
        }
        asked.refuse_strangers(Way::Page)?;
        let ndjson = accepts(&request.headers, "application/x-ndjson");
        if asked.view.is_some() {
            let (headers, uri) = (&request.headers, &request.uri);
            return latest::answer(reads, &granted, &asked, wanted, headers, uri, ndjson).await;
        }
        poll::answer(reads, &granted, wanted, &request.uri, ndjson).await
    };
    answered.await.unwrap_or_else(|failure| reads.refused(failure))
}

/// The topic that the path names.
fn named(topic: Option<Topic>) -> Result<Option<String>, Failure> {
    let topic = topic.transpose();
    let topic = topic.map_err(|rejection| Failure::invalid(format!("path: {}", rejection.body_text())))?;
    Ok(topic.map(|Path(topic)| topic))
}

/// Whether the client asks for this media type by its name.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    values.filter_map(|value| value.to_str().ok()).any(|value| {
        let types = value.split(',').filter_map(|one| one.split(';').next());
        types
            .map(str::trim)
            .any(|one| one.eq_ignore_ascii_case(media_type))
    })
}

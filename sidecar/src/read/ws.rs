//! WebSockets: what is there, and then what comes, to a client that says how fast; and records from it. `docs/reading.md` is
//! the reference.
//!
//! One task per socket does two things at once: `inbound` reads and `outbound` sends. Neither waits for the other, but that what
//! is under way between them is bounded: a client that sends and does not read what it is answered is not read from any more.

pub mod command;
mod end;
mod inbound;
mod life;
mod origin;
mod outbound;
mod protocols;
mod publish;
mod shape;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use openssl::sha::Sha1;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use self::end::End;
use self::inbound::{ORDERS, Order};
use self::life::{Life, PONG};
use self::origin::Origin;
use self::outbound::Outbound;
use self::publish::{Answers, KIB, Publisher, RECORDS};
pub(super) use self::shape::Frames;
use self::shape::Shape;
pub(super) use self::window::MAX as MAX_IN_FLIGHT;
use self::window::Window;
use super::choice::Request;
use super::failure::{Failure, Kind};
use super::flow::Flow;
use super::query::{Asked, Way};
use super::{Reads, Topic, named};
use crate::config::Config;
use crate::listeners::{Peer, Place};
use crate::metrics::Open;
use crate::produce::Gateway;
use crate::produce::rest::client;
use crate::shutdown::{Phase, Shutdown};

/// The longest message of a client that may write, in bytes; `max_request_bytes`, if that is less.
const MAX_MESSAGE: usize = 2 << 20;
/// The longest message of a client that may not: one with a cursor.
const MAX_COMMAND: usize = 128 << 10;
/// What the library reads at once, and what it gathers before it writes.
const BUFFER: usize = 4096;
/// What a key is hashed with (RFC 6455, section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What the records of all sockets that are under way may hold, as a multiple of `max_request_bytes`: as with REST's.
const TOGETHER: usize = 4;
/// How long a client may take to answer the end.
const LINGER: Duration = Duration::from_secs(3);

/// Where what clients write goes, and within which bounds.
pub(super) struct Publishing {
    gateway: Arc<Gateway>,
    trusted_hops: usize,
    max_message: usize,
    kib: Arc<Semaphore>,
}

impl Publishing {
    pub(super) fn new(config: &Config, gateway: Arc<Gateway>) -> Self {
        let kib = (config.max_request_bytes * TOGETHER).div_ceil(1024);
        Self {
            gateway,
            trusted_hops: config.listeners.data.xff_num_trusted_hops,
            max_message: config.max_request_bytes.min(MAX_MESSAGE),
            kib: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
        }
    }
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

pub(super) async fn of_topic(
    State(reads): State<Arc<Reads>>,
    topic: Topic,
    upgrade: Upgrade,
    request: Parts,
) -> Response {
    answer(&reads, Some(topic), upgrade, request).await
}

pub(super) async fn of_several(
    State(reads): State<Arc<Reads>>,
    upgrade: Upgrade,
    request: Parts,
) -> Response {
    answer(&reads, None, upgrade, request).await
}

async fn answer(reads: &Arc<Reads>, topic: Option<Topic>, upgrade: Upgrade, request: Parts) -> Response {
    let answered = async {
        let topic = named(topic)?;
        let upgrade = upgrade.map_err(|why| {
            Failure::new(
                Kind::NoUpgrade,
                format!("the path is for WebSockets: {}", why.body_text()),
            )
        })?;
        open(reads, topic.as_deref(), upgrade, request).await
    };
    answered.await.unwrap_or_else(|failure| reads.refused(failure))
}

/// What expressions may see of the headers: a protocol may hold a token.
fn shown(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    headers
}

/// Everything that can be refused is, before the upgrade: as the answer of a request.
async fn open(
    reads: &Arc<Reads>,
    topic: Option<&str>,
    mut upgrade: WebSocketUpgrade,
    mut request: Parts,
) -> Result<Response, Failure> {
    if protocols::settle(upgrade.requested_protocols(), &mut request.headers)? {
        upgrade.set_selected_protocol(HeaderValue::from_static(protocols::PROTOCOL));
    }
    let others = reads.access.arguments();
    let asked = Asked::parse(&request.uri, others)?;
    asked.refuse_strangers(Way::Socket)?;
    let says = Request::new(&request.uri, &request.headers);
    let granted = reads.access.grant(asked.cluster_name.as_deref(), &says).await?;
    let mut wanted = asked.check(topic, &granted, &says, others).await?;
    let origin = Origin::of(&request);
    let foreign = wanted.selection.topics.iter().find(|topic| {
        let entry = granted.entry(topic);
        !entry.is_some_and(|entry| origin.may(&entry.allowed_origins))
    });
    if let Some(topic) = foreign {
        return Err(Failure::new(
            Kind::Origin,
            format!(
                "pages of {:?} may not open WebSockets here: name it in allowed_origins of the entry of topic {topic:?}",
                origin.page()
            ),
        ));
    }
    let life = Life::new(asked.ping()?, PONG);
    let window = asked.max_in_flight()?.map(Window::new);
    let shape = Shape {
        style: wanted.style,
        frames: asked.frames.unwrap_or_default(),
        encoded_ids: wanted.encoded_ids,
        fields: wanted.fields.take(),
    };
    if shape.fields.is_some() && shape.frames == Frames::Binary {
        return Err(Failure::invalid(
            "fields is beside frames=binary: each says what a message has",
        ));
    }
    let (to_client, replies) = mpsc::unbounded_channel();
    let records = Arc::new(Semaphore::new(RECORDS));
    let writable = granted.writable();
    let entries = writable.filter(|one| origin.may(&one.entry.allowed_origins));
    let entries: Vec<_> = entries.collect();
    let of_writing = entries.iter().filter_map(|one| one.left).min();
    let of_writing = of_writing.and_then(|left| Instant::now().checked_add(left));
    let ends = wanted.until.into_iter().chain(of_writing).min();
    let publisher = (!entries.is_empty()).then(|| Publisher {
        gateway: Arc::clone(&reads.publishing.gateway),
        entries,
        cluster: asked.cluster_name.clone().unwrap_or_default(),
        topic: match &wanted.selection.topics[..] {
            [one] => Some(Arc::clone(one)),
            _ => None,
        },
        client: client::number(
            request.extensions.get::<Peer>(),
            &request.headers,
            reads.publishing.trusted_hops,
        ),
        request: (request.uri.clone(), shown(&request.headers)),
        answers: Answers::new(to_client),
        records: Arc::clone(&records),
        kib: Arc::new(Semaphore::new(KIB)),
        of_all: Arc::clone(&reads.publishing.kib),
    });
    let max_message = if publisher.is_some() {
        reads.publishing.max_message
    } else {
        MAX_COMMAND
    };
    let flow = Flow::open(reads, &granted, wanted).await?;
    let (orders, obeyed) = mpsc::channel(ORDERS);
    let place: Option<Place> = request.extensions.get().cloned();
    let open = Open::new(reads.metrics.sockets());
    let (metrics, shutdown) = (reads.metrics.clone(), reads.shutdown.clone());
    let paused = asked.paused();
    let accept = accept(&request);
    let upgrade = upgrade
        .max_message_size(max_message)
        .max_frame_size(max_message)
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER);
    let mut response = upgrade.on_upgrade(move |socket| async move {
        // The listener waits for it, and counts it.
        let _held = (place, open);
        let (to, from) = socket.split();
        let outbound = Outbound {
            to,
            flow,
            shape,
            window,
            paused,
            replies,
            orders: obeyed,
            acks: Vec::new(),
            ends,
            passed: false,
            records,
            ping_at: Instant::now() + life.ping,
            retry_at: None,
            life: &life,
            shutdown: shutdown.clone(),
        };
        let end = converse(outbound, from, publisher.as_ref(), orders, shutdown).await;
        metrics.closed(end.code);
    });
    if let Some(accept) = accept {
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// The answer to a key that comes with an extended CONNECT: Envoy passes an HTTP/1.1 client's on and makes no answer of its own
/// (RFC 6455, section 4.2.2; RFC 8441 has neither).
fn accept(request: &Parts) -> Option<HeaderValue> {
    let key = request.headers.get(SEC_WEBSOCKET_KEY)?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(KEY_SUFFIX);
    HeaderValue::from_str(&STANDARD.encode(hash.finish())).ok()
}

/// Serves a socket until it is over.
async fn converse<T, F>(
    mut outbound: Outbound<'_, T>,
    mut from: F,
    publisher: Option<&Publisher>,
    orders: mpsc::Sender<Order>,
    mut shutdown: Shutdown,
) -> End
where
    T: Sink<Message, Error = axum::Error> + Unpin,
    F: Stream<Item = Result<Message, axum::Error>> + Unpin,
{
    let (life, ends) = (outbound.life, outbound.ends);
    let end = tokio::select! {
        end = inbound::read(&mut from, publisher, orders, life, (ends, shutdown.clone())) => end,
        end = outbound.run() => end,
        end = expired(ends.map(|ends| ends + LINGER)) => end,
        end = life.over() => end,
        () = shutdown.reached(Phase::Stopping) => End::new(end::GOING_AWAY, "the sidecar stops"),
    };
    // Who acknowledges and closes has acknowledged.
    let _settled_or_late = tokio::time::timeout(LINGER, outbound.settle()).await;
    let message = end.message();
    let told = async {
        let told = message.is_some();
        if let Some(message) = message {
            outbound.to.send(message).await?;
        }
        // What the client has sent and nobody has read would reset the connection, and what it was told be lost with it.
        let mut read_off = false;
        while let Some(message) = from.next().await {
            message?;
            read_off = true;
        }
        if told && !read_off {
            // It cannot be read any more.
            tokio::time::sleep(LINGER).await;
        }
        Ok::<_, axum::Error>(())
    };
    // Who does not listen is not told.
    let _told_or_not = tokio::time::timeout(LINGER, told).await;
    end
}

/// The end of a socket whose client does not take what it is told when its token ends.
async fn expired(at: Option<Instant>) -> End {
    inbound::reached(at).await;
    End::expired()
}

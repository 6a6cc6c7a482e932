//! What the contexts of one worker share.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use proxy_wasm::types::LogLevel;
use sluice_proto::class::ErrorClass;
use sluice_proto::client;

use super::answers::Answers;
use super::bodies::{Bodies, NO_BODY};
use super::effects::{HostEffects, Waiter, respond};
use super::host::{self, HostMetrics};
use crate::config::{FilterConfig, Resolved, Route, RouteCache};
use crate::record::{self, Reject};
use crate::reply::{Kind, Reply};
use crate::request::Head;
use crate::stats::Stats;
use crate::stream::{RecordId, Refused, Stream, Tag, Token};

/// How many sidecar clusters a worker may have streams to.
const MAX_STREAMS: usize = 16;

/// A worker's state, as its contexts hold it.
pub(super) type Shared = Rc<RefCell<Worker>>;

/// A record that a request waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    stream: usize,
    id: RecordId,
    awaits_reply: bool,
}

/// A worker: a root context and all of its requests.
#[derive(Debug)]
pub(super) struct Worker {
    root: u32,
    config: FilterConfig,
    cache: RouteCache,
    /// By sidecar cluster.
    streams: Vec<(String, Stream<Waiter>)>,
    pub(super) stats: Stats,
    answers: Answers,
    bodies: Bodies,
    tick_ms: Option<u32>,
    start: Instant,
}

impl Worker {
    pub(super) fn new(root: u32) -> Self {
        Self {
            root,
            config: FilterConfig::default(),
            cache: RouteCache::new(),
            streams: Vec::new(),
            stats: Stats::default(),
            answers: Answers::default(),
            bodies: Bodies::default(),
            tick_ms: None,
            start: Instant::now(),
        }
    }

    pub(super) fn configure(&mut self, config: FilterConfig) {
        self.config = config;
        self.cache = RouteCache::new();
        self.stats = Stats::define(&mut HostMetrics);
    }

    pub(super) fn config(&self) -> &FilterConfig {
        &self.config
    }

    pub(super) fn resolve(&mut self, entry: Option<usize>, metadata: &[u8]) -> Resolved {
        self.cache.resolve(&self.config, entry, metadata)
    }

    /// Microseconds since this worker began.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Makes the record of a request of `context` and puts it on the stream to its sidecar.
    pub(super) fn produce(
        &mut self,
        context: u32,
        route: &Rc<Route>,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Ticket, Reply> {
        let now_us = self.now_us();
        let timeout_us = u64::try_from(route.longest(head).as_micros()).unwrap_or(u64::MAX);
        let at = self.stream_to(&route.sidecar_cluster)?;
        let Some((cluster, stream)) = self.streams.get_mut(at) else {
            return Err(too_many_streams());
        };
        // Before anything else is done: the property is that of the context whose callback this is.
        let client = match stream.tells_clients_apart(now_us) {
            true => client::number(&host::property(host::SOURCE_ADDRESS)),
            false => 0,
        };
        let head = head.of_client(client);
        let (now, max) = match &route.outstanding {
            Some(outstanding) => (Some(outstanding.now.clone()), outstanding.max),
            None => (None, 0),
        };
        let tag = Tag { client, route: now };
        self.answers.begin();
        let contexts = (self.root, context);
        let mut effects = HostEffects::new(cluster, contexts, now_us, &mut self.stats, &mut self.answers);
        let deadline_us = now_us.saturating_add(timeout_us);
        let taken = stream.produce(now_us, deadline_us, (tag, max), &mut effects, |out, id| {
            let encoded = record::encode(out, id, route, &head, body)?;
            Ok::<_, Reject>(Waiter {
                context,
                route: route.clone(),
                topics: encoded.topics,
                since_us: now_us,
            })
        });
        let answered = effects.done();
        self.settle();
        match (taken, answered) {
            (_, Some(reply)) => Err(reply),
            (Ok(id), None) => Ok(Ticket {
                stream: at,
                id,
                awaits_reply: route.reply.is_some(),
            }),
            (Err(Refused::Stream(failed)), None) => Err(Reply::failure(failed.class, failed.error)),
            (Err(Refused::Record(reject)), None) => Err(Reply::rejected(&reject)),
        }
    }

    /// The request of that context and ticket is gone, perhaps before its answer had its turn.
    pub(super) fn departed(&mut self, context: u32, ticket: Ticket) {
        let waited = self
            .streams
            .get_mut(ticket.stream)
            .is_some_and(|(_, stream)| stream.departed(ticket.id, ticket.awaits_reply));
        if waited || self.answers.forget(context) {
            self.stats.departed();
            self.settle();
        }
    }

    /// The request of that context waits for its body.
    pub(super) fn expect_body(&mut self, context: u32) {
        if self.bodies.in_doubt() {
            self.bodies.expect(context, self.now_us());
            self.settle();
        }
    }

    /// Some of a request's body has come.
    pub(super) fn body_came(&mut self) {
        self.bodies.came();
    }

    /// The request of that context is gone before all of its body came.
    pub(super) fn cut_off(&mut self, context: u32) {
        self.bodies.forget(context);
    }

    pub(super) fn stream_opened(&mut self, token: Token) {
        self.on_stream_of(token, |stream, now_us, effects| {
            stream.opened(token, now_us, effects)
        });
    }

    pub(super) fn stream_replied(&mut self, token: Token, message: &[u8]) {
        self.on_stream_of(token, |stream, now_us, effects| {
            stream.reply(token, message, now_us, effects);
        });
    }

    pub(super) fn stream_closed(&mut self, token: Token) {
        self.on_stream_of(token, |stream, now_us, effects| {
            stream.closed(token, now_us, effects)
        });
    }

    pub(super) fn tick(&mut self) {
        let now_us = self.now_us();
        self.answers.begin();
        let contexts = (self.root, self.root);
        let mut effects = HostEffects::new("", contexts, now_us, &mut self.stats, &mut self.answers);
        effects.give_answers();
        effects.done();
        for (cluster, stream) in &mut self.streams {
            if stream.tick_ms().is_some() {
                let (stats, answers) = (&mut self.stats, &mut self.answers);
                let mut effects = HostEffects::new(cluster, contexts, now_us, stats, answers);
                stream.tick(now_us, &mut effects);
                effects.done();
            }
        }
        self.answer_bodiless(now_us);
        self.flush_stats();
        self.settle();
    }

    /// Answers those whose bodies Envoy seems to keep to itself.
    fn answer_bodiless(&mut self, now_us: u64) {
        for (nth, context) in self.bodies.overdue(now_us).into_iter().enumerate() {
            if nth == 0 {
                host::log(LogLevel::Error, &format!("sluice: {NO_BODY}"));
            }
            let reply = Reply::failure(ErrorClass::RouteMisconfigured, NO_BODY);
            if host::set_effective_context(context) {
                self.stats.request(reply.kind);
                respond(&reply);
            }
        }
    }

    fn on_stream_of(
        &mut self,
        token: Token,
        event: impl FnOnce(&mut Stream<Waiter>, u64, &mut HostEffects<'_>),
    ) {
        let now_us = self.now_us();
        if let Some((cluster, stream)) = self.streams.iter_mut().find(|(_, stream)| stream.has(token)) {
            self.answers.begin();
            let contexts = (self.root, self.root);
            let mut effects = HostEffects::new(cluster, contexts, now_us, &mut self.stats, &mut self.answers);
            effects.give_answers();
            event(stream, now_us, &mut effects);
            effects.done();
        }
        self.settle();
    }

    fn stream_to(&mut self, cluster: &str) -> Result<usize, Reply> {
        if let Some(at) = self.streams.iter().position(|(name, _)| name == cluster) {
            return Ok(at);
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(too_many_streams());
        }
        let stream = Stream::new(*self.config.stream());
        self.streams.push((cluster.to_owned(), stream));
        Ok(self.streams.len() - 1)
    }

    /// Sees to it that ticks come as the streams need them.
    fn settle(&mut self) {
        let needed = self
            .streams
            .iter()
            .filter_map(|(_, stream)| stream.tick_ms())
            .chain(self.answers.tick_ms())
            .chain(self.bodies.tick_ms())
            .min();
        if needed != self.tick_ms && host::set_tick(needed) {
            self.tick_ms = needed;
        }
        if needed.is_none() {
            self.flush_stats();
        }
    }

    fn flush_stats(&mut self) {
        let outstanding = self.streams.iter().map(|(_, stream)| stream.outstanding()).sum();
        self.stats.flush(outstanding, &mut HostMetrics);
    }

    /// A request came to its end without the streams' doing.
    pub(super) fn answered_request(&mut self, kind: Kind) {
        self.stats.request(kind);
        if self.tick_ms.is_none() {
            self.flush_stats();
        }
    }

    /// The worker is at its end.
    pub(super) fn leave(&mut self) {
        self.stats.flush(0, &mut HostMetrics);
    }
}

fn too_many_streams() -> Reply {
    let error = format!("routes name more than {MAX_STREAMS} different clusters as `sidecar_cluster`");
    Reply::failure(ErrorClass::RouteMisconfigured, &error)
}

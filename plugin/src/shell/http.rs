//! The context of a request.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use sluice_proto::client;

use super::effects::respond;
use super::host::{self, HostMetrics};
use super::worker::{Shared, Ticket, Worker};
use crate::call;
use crate::config::{EntryQuery, Resolved, Route, Transport};
use crate::exchange::{self, End, Exchange, Step};
use crate::pairs;
use crate::record::{self, Topics};
use crate::reply::Reply;
use crate::request::Head;
use crate::stream::Outcome;

/// A request. On routes that do not produce it stays as it was made.
pub(super) struct Http {
    id: u32,
    worker: Shared,
    active: Option<Active>,
}

/// A request that is to become a record.
struct Active {
    route: Rc<Route>,
    exchange: Exchange,
    /// The header map, as the host gave it.
    headers: Vec<u8>,
    body_size: usize,
    waiting: Waiting,
}

enum Waiting {
    No,
    /// For the fate of a record on the stream.
    Stream(Ticket),
    /// For the answer to a call.
    Call {
        topics: Topics,
        since_us: u64,
    },
}

impl Http {
    pub(super) fn new(id: u32, worker: Shared) -> Self {
        Self {
            id,
            worker,
            active: None,
        }
    }

    /// Callbacks do not nest, so the worker is never in use when one begins.
    fn with<R>(&self, event: impl FnOnce(&mut Worker) -> R) -> Option<R> {
        self.worker
            .try_borrow_mut()
            .ok()
            .map(|mut worker| event(&mut worker))
    }

    /// Finds the route of the request, and its headers if they were needed for that.
    fn resolve(&self) -> Option<(Resolved, Option<Vec<u8>>)> {
        let metadata = host::property(host::ROUTE_METADATA);
        self.with(|worker| {
            let config = worker.config();
            if !config.has_entries() {
                return (worker.resolve(None, &metadata), None);
            }
            let raw = host::map(MapType::HttpRequestHeaders).unwrap_or_default();
            let pairs = pairs::parse(&raw);
            let head = Head::new(&pairs);
            let name = config
                .needs_route_name()
                .then(|| host::property(host::ROUTE_NAME));
            let entry = config.entry_for(&EntryQuery {
                route_name: name.as_deref(),
                host: head.host(),
                path: head.path(),
                method: head.method(),
            });
            (worker.resolve(entry, &metadata), Some(raw))
        })
    }

    /// Does what the exchange says.
    fn act(&mut self, step: Step) -> Action {
        match step {
            Step::Pass => Action::Continue,
            Step::Hold => Action::Pause,
            Step::Produce => match self.produce() {
                Ok(()) => Action::Pause,
                Err(reply) => self.fail(&reply),
            },
            Step::Reject(reject) => self.fail(&Reply::rejected(&reject)),
        }
    }

    /// Answers the request, whose record is not written, or lets it go on. Within its own callback.
    fn fail(&mut self, reply: &Reply) -> Action {
        let Some(active) = &mut self.active else {
            return Action::Continue;
        };
        let Some(end) = active.exchange.fail(&active.route) else {
            return Action::Pause;
        };
        self.count(reply);
        match end {
            End::Continue => Action::Continue,
            End::Respond => {
                respond(reply);
                Action::Pause
            }
        }
    }

    fn count(&self, reply: &Reply) {
        self.with(|worker| worker.answered_request(reply.kind));
    }

    /// Writes the record and sends it on its way.
    fn produce(&mut self) -> Result<(), Reply> {
        let (id, worker) = (self.id, &self.worker);
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let body = match active.body_size {
            0 => Some(Vec::new()),
            size => host::buffer(BufferType::HttpRequestBody, size),
        };
        let Some(body) = body.filter(|body| body.len() == active.body_size) else {
            return Err(lost("Envoy did not give the filter the request body"));
        };
        let headers = std::mem::take(&mut active.headers);
        let pairs = pairs::parse(&headers);
        // Here, so that filters before this one had the body too.
        let metadata = match active.route.reads_metadata() {
            true => host::property(host::DYNAMIC_METADATA),
            false => Vec::new(),
        };
        let head = Head::new(&pairs).with_metadata(&metadata);
        let Ok(mut worker) = worker.try_borrow_mut() else {
            return Err(lost("the filter is busy with another callback"));
        };
        active.waiting = match active.route.transport {
            Transport::Stream => Waiting::Stream(worker.produce(id, &active.route, &head, &body)?),
            Transport::Http => {
                let topics = send_call(&active.route, &head, &body)?;
                let since_us = worker.now_us();
                Waiting::Call { topics, since_us }
            }
        };
        Ok(())
    }
}

/// Sends the record of a request as a call of the context whose callback this is.
fn send_call(route: &Route, head: &Head<'_>, body: &[u8]) -> Result<Topics, Reply> {
    let mut message = Vec::new();
    let head = head.of_client(client::number(&host::property(host::SOURCE_ADDRESS)));
    let encoded =
        record::encode(&mut message, call::ID, route, &head, body).map_err(|r| Reply::rejected(&r))?;
    // Where a template chooses, the sidecar takes any topic that it may choose.
    let first = encoded.topics.names(route).first();
    let first = first.or_else(|| route.allowed_topics.first());
    let path = call::path(first.map_or("", String::as_str));
    let headers = vec![
        (":method", "POST"),
        (":path", &path),
        (":authority", &route.sidecar_cluster),
        ("content-type", call::CONTENT_TYPE),
    ];
    match host::call(&route.sidecar_cluster, headers, &message, route.longest(&head)) {
        Some(_) => Ok(encoded.topics),
        None => Err(Reply::failure(call::NO_CALL.class, call::NO_CALL.error)),
    }
}

/// Something that cannot be, as far as the host keeps its word; the record was not written.
fn lost(error: &str) -> Reply {
    Reply::failure(sluice_proto::class::ErrorClass::SidecarUnavailable, error)
}

impl Context for Http {
    fn on_http_call_response(&mut self, _: u32, headers: usize, body_size: usize, _: usize) {
        let Some(active) = &mut self.active else {
            return;
        };
        let Waiting::Call { topics, since_us } = std::mem::replace(&mut active.waiting, Waiting::No) else {
            return;
        };
        let raw = match headers {
            0 => Vec::new(),
            _ => host::map(MapType::HttpCallResponseHeaders).unwrap_or_default(),
        };
        let body = match body_size {
            0 => Vec::new(),
            _ => host::buffer(BufferType::HttpCallResponseBody, body_size).unwrap_or_default(),
        };
        let outcome: Outcome = call::outcome(&pairs::parse(&raw), &body);
        let route = active.route.clone();
        let reply = Reply::of(&route, topics.names(&route), &outcome);
        self.with(|worker| {
            let took_us = worker.now_us().saturating_sub(since_us);
            worker.stats.answered(took_us, &mut HostMetrics);
        });
        self.count(&reply);
        match exchange::end(&route, reply.kind.is_success()) {
            End::Respond => respond(&reply),
            End::Continue => {
                host::resume_request();
            }
        }
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, ends: bool) -> Action {
        let Some((resolved, headers)) = self.resolve() else {
            return Action::Continue;
        };
        let route = match resolved {
            Ok(Some(route)) => route,
            Ok(None) => return Action::Continue,
            Err(problems) => {
                let reply = Reply::misconfigured(&problems);
                self.count(&reply);
                respond(&reply);
                return Action::Pause;
            }
        };
        let headers = headers
            .or_else(|| host::map(MapType::HttpRequestHeaders))
            .unwrap_or_default();
        let pairs = pairs::parse(&headers);
        let (exchange, step) = Exchange::begin(&route, &Head::new(&pairs), ends);
        drop(pairs);
        self.active = Some(Active {
            route,
            exchange,
            headers,
            body_size: 0,
            waiting: Waiting::No,
        });
        if step == Step::Hold {
            self.with(|worker| worker.expect_body(self.id));
        }
        self.act(step)
    }

    fn on_http_request_body(&mut self, size: usize, ends: bool) -> Action {
        let Some(active) = &mut self.active else {
            return Action::Continue;
        };
        active.body_size = size;
        let step = active.exchange.body(&active.route, size, ends);
        self.with(Worker::body_came);
        self.act(step)
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let Some(active) = &mut self.active else {
            return Action::Continue;
        };
        let step = active.exchange.trailers();
        self.with(Worker::body_came);
        self.act(step)
    }
}

impl Drop for Http {
    /// Envoy is done with the request: answered, or its client left.
    fn drop(&mut self) {
        let Some(active) = &self.active else {
            return;
        };
        match active.waiting {
            Waiting::Stream(ticket) => {
                self.with(|worker| worker.departed(self.id, ticket));
            }
            Waiting::Call { .. } => {
                self.with(|worker| worker.stats.departed());
            }
            Waiting::No if active.exchange.is_collecting() => {
                self.with(|worker| worker.cut_off(self.id));
            }
            Waiting::No => {}
        }
    }
}

//! Envoy as the filter sees it: one worker, its event loop driven by the test.

use std::{fmt, time::Duration};

use prost::Message;
use sluice_proto::v1::{Fate, ProduceReply, TopicFate};
use wasmtime::{Instance, Store};

use crate::{
    compiled,
    metadata::encode_struct,
    metrics::Metric,
    request::{Id, Outcome, Reply, Request},
    sidecar::{Opening, Sent, Sidecar, Stream, greeting},
    state::{Event, Fault, Log, Root, State},
    status::Status,
    upstream::HttpCall,
};

/// The Envoy cluster that hosts have unless told otherwise.
pub const CLUSTER: &str = "sluice";

/// Where HTTP calls to [`CLUSTER`] go unless told otherwise: nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

/// The fake clock's start, since the epoch.
const START: Duration = Duration::from_secs(1_700_000_000);

/// How a host is set up.
pub struct Builder {
    configuration: Vec<u8>,
    state: State,
    limit: usize,
    stop_at_headers: bool,
}

/// A worker whose filter runs.
pub struct Host {
    pub(crate) store: Store<State>,
    pub(crate) instance: Instance,
    pub(crate) root: Id,
    pub(crate) limit: usize,
    pub(crate) stop_at_headers: bool,
    /// How many callbacks are nested in one another.
    pub(crate) depth: usize,
}

/// Envoy refused the configuration.
pub struct Rejected {
    /// What was logged.
    pub logs: Vec<Log>,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration rejected; log:{}", tail(&self.logs))
    }
}

impl Builder {
    /// Any bytes as plugin configuration: the text of a `StringValue`.
    pub fn raw_configuration(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.configuration = bytes.into();
        self
    }

    /// One more cluster of Envoy's, and the `host:port` that HTTP calls to it reach.
    pub fn cluster(mut self, name: &str, authority: &str) -> Self {
        self.state.clusters.insert(name.to_owned(), authority.to_owned());
        self
    }

    /// Takes a cluster away.
    pub fn no_cluster(mut self, name: &str) -> Self {
        self.state.clusters.remove(name);
        self
    }

    /// What streams find that open before the test can say so.
    pub fn opening(mut self, opening: Opening) -> Self {
        self.state.sidecar.opening = opening;
        self
    }

    /// How many bytes of a body Envoy buffers (`per_connection_buffer_limit_bytes`; 1 MiB).
    pub fn buffer_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Without `allow_on_headers_stop_iteration`, a pause in the headers callback stops everything.
    pub fn without_stop_iteration(mut self) -> Self {
        self.stop_at_headers = false;
        self
    }

    /// The host call `name` gives `status` the next `times` times.
    pub fn fault(mut self, name: &str, status: Status, times: usize) -> Self {
        self.state.faults.insert(name.to_owned(), Fault { status, times });
        self
    }

    /// Starts the worker as Envoy does: instance, root context, `on_vm_start`, `on_configure`.
    ///
    /// # Errors
    /// The filter refused its configuration.
    ///
    /// # Panics
    /// There is no filter that could run, or it traps.
    #[track_caller]
    pub fn start(self) -> Result<Host, Rejected> {
        let (store, instance) = compiled::instantiate().unwrap_or_else(|problem| fail(&problem));
        let (limit, stop_at_headers) = (self.limit, self.stop_at_headers);
        let mut host = Host {
            store,
            instance,
            root: 0,
            limit,
            stop_at_headers,
            depth: 0,
        };
        let guest = host.state().guest.clone();
        *host.store.data_mut() = State { guest, ..self.state };
        host.call::<(), ()>("_initialize", 0, ());
        match host.add_root(self.configuration, true) {
            true => Ok(host),
            false => Err(Rejected {
                logs: std::mem::take(&mut host.store.data_mut().logs),
            }),
        }
    }
}

impl Host {
    /// A worker whose plugin has this configuration, an object: like Envoy 1.40, the host hands it over as a
    /// serialised `Struct`.
    pub fn builder(configuration: &serde_json::Value) -> Builder {
        let mut state = State {
            now: START,
            log_level: 2,
            ..State::default()
        };
        state.clusters.insert(CLUSTER.to_owned(), NOBODY.to_owned());
        Builder {
            configuration: encode_struct(configuration),
            state,
            limit: 1024 * 1024,
            stop_at_headers: true,
        }
    }

    /// [`Builder::start`] with that configuration alone.
    ///
    /// # Panics
    /// The configuration is refused.
    #[track_caller]
    pub fn new(configuration: &serde_json::Value) -> Self {
        Self::builder(configuration)
            .start()
            .unwrap_or_else(|rejected| fail(&format!("{rejected:?}")))
    }

    /// Gives the plugin a new configuration, as a listener update does: a second root context in the same VM. The
    /// old one ends with its last request. Says whether the filter accepted it; if not, the old one stays.
    #[track_caller]
    pub fn reconfigure(&mut self, configuration: &serde_json::Value) -> bool {
        let old = self.root;
        let accepted = self.add_root(encode_struct(configuration), false);
        if accepted {
            if let Some(root) = self.store.data_mut().roots.get_mut(&old) {
                root.retired = true;
            }
            self.end_retired_roots();
            self.pump();
        }
        accepted
    }

    #[track_caller]
    fn add_root(&mut self, configuration: Vec<u8>, first: bool) -> bool {
        let size = u32::try_from(configuration.len()).unwrap_or(u32::MAX);
        let state = self.store.data_mut();
        let id = state.new_context();
        state.roots.insert(
            id,
            Root {
                configuration,
                ..Root::default()
            },
        );
        self.call::<_, ()>("proxy_on_context_create", id, (id, 0));
        let mut accepted = true;
        if first {
            accepted = self.call::<_, u32>("proxy_on_vm_start", id, (id, 0)).0 != 0;
        }
        if accepted {
            self.store.data_mut().configuring = Some(id);
            accepted = self.call::<_, u32>("proxy_on_configure", id, (id, size)).0 != 0;
            self.store.data_mut().configuring = None;
        }
        if accepted {
            self.root = id;
            self.pump();
        } else {
            self.store.data_mut().roots.remove(&id);
        }
        accepted
    }

    /// Lets `time` pass on the fake clock: ticks that fall due, answers that were delayed, in order.
    #[track_caller]
    pub fn advance(&mut self, time: Duration) {
        let target = self.state().now + time;
        while let Some(due) = self.next_due().filter(|due| *due <= target) {
            self.store.data_mut().now = due;
            self.fire(due);
            self.pump();
        }
        self.store.data_mut().now = target;
    }

    /// Lets time pass in steps of a millisecond until `done`, or fails after `limit`.
    #[track_caller]
    pub fn until(&mut self, limit: Duration, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.state().now + limit;
        while !done(self) {
            if self.state().now >= end {
                self.broken(&format!("after {limit:?} still not: {what}"));
            }
            self.advance(Duration::from_millis(1));
        }
    }

    /// Sends a whole request and gives its id.
    #[track_caller]
    pub fn send(&mut self, request: Request) -> Id {
        let (chunks, trailers) = (request.chunks.clone(), !request.trailers.is_empty());
        let id = self.open(request, chunks.is_empty() && !trailers);
        let last = chunks.len();
        for (n, chunk) in chunks.into_iter().enumerate() {
            self.body(id, &chunk, n + 1 == last && !trailers);
        }
        if trailers {
            self.trailers(id);
        }
        id
    }

    /// What became of the request so far.
    #[track_caller]
    pub fn outcome(&self, id: Id) -> Outcome {
        let state = self.state();
        match state.exchanges.get(&id).or_else(|| state.ended.get(&id)) {
            Some(exchange) => exchange.outcome(),
            None => self.broken(&format!("there is no request {id}")),
        }
    }

    /// The reply to the request.
    ///
    /// # Panics
    /// It has none (yet).
    #[track_caller]
    pub fn reply(&self, id: Id) -> Reply {
        match self.outcome(id) {
            Outcome::Replied(reply) => reply,
            other => self.broken(&format!("request {id} is not answered: {other:?}")),
        }
    }

    /// The sidecar's script.
    pub fn sidecar(&mut self) -> &mut Sidecar {
        &mut self.store.data_mut().sidecar
    }

    /// The records that have arrived since the last call.
    pub fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sidecar().inbox)
    }

    /// The one record that has arrived since the last call.
    ///
    /// # Panics
    /// None or several have.
    #[track_caller]
    pub fn sent_one(&mut self) -> Sent {
        let mut all = self.sent();
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => one,
            (one, _) => self.broken(&format!("not one record: {all:?} {one:?}")),
        }
    }

    /// The record's fate, in a reply of its own.
    #[track_caller]
    pub fn answer(&mut self, sent: &Sent, topics: Vec<TopicFate>) {
        let fates = vec![Fate {
            id: sent.record.id,
            topics,
        }];
        self.sidecar_says(sent.stream, &ProduceReply { fates, drain: false });
    }

    /// The sidecar writes this on the stream.
    #[track_caller]
    pub fn sidecar_says(&mut self, stream: u32, reply: &ProduceReply) {
        self.sidecar_writes(stream, reply.encode_to_vec());
    }

    /// The sidecar writes any bytes on the stream.
    #[track_caller]
    pub fn sidecar_writes(&mut self, stream: u32, bytes: Vec<u8>) {
        self.store
            .data_mut()
            .events
            .push_back(Event::StreamMessage(stream, bytes));
        self.pump();
    }

    /// A sidecar that was silent when the stream opened greets now.
    #[track_caller]
    pub fn sidecar_greets(&mut self, stream: u32) {
        self.store
            .data_mut()
            .events
            .push_back(Event::StreamMetadata(stream, greeting(true)));
        self.pump();
    }

    /// The sidecar's end closes with this gRPC status.
    #[track_caller]
    pub fn sidecar_closes(&mut self, stream: u32, status: u32) {
        self.store
            .data_mut()
            .events
            .push_back(Event::StreamClose(stream, status));
        self.pump();
    }

    /// All streams that were opened, in order.
    pub fn streams(&self) -> Vec<Stream> {
        self.state().streams.values().cloned().collect()
    }

    /// The token of the youngest stream that is open.
    ///
    /// # Panics
    /// None is.
    #[track_caller]
    pub fn stream(&self) -> u32 {
        match self.state().streams.values().rev().find(|s| s.is_open()) {
            Some(stream) => stream.token,
            None => self.broken("no stream is open"),
        }
    }

    /// Keeps HTTP calls from being made, or lets them go.
    #[track_caller]
    pub fn hold_calls(&mut self, hold: bool) {
        let state = self.store.data_mut();
        state.calls_held = hold;
        if !hold {
            let held: Vec<_> = state.calls.keys().copied().collect();
            state.events.extend(held.into_iter().map(Event::Call));
            self.pump();
        }
    }

    /// HTTP calls that have no answer yet.
    pub fn calls(&self) -> Vec<HttpCall> {
        self.state().calls.values().cloned().collect()
    }

    /// The call ends without an answer: Envoy's callback has no headers then.
    #[track_caller]
    pub fn reset_call(&mut self, token: u32) {
        self.store
            .data_mut()
            .events
            .push_back(Event::CallAnswer(token, crate::upstream::Answer::reset()));
        self.pump();
    }

    /// The call gets an answer that the test makes up.
    #[track_caller]
    pub fn answer_call(&mut self, token: u32, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let status = (":status".into(), status.to_string().into());
        let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let headers = std::iter::once(status).chain(headers).collect();
        let answer = crate::upstream::Answer {
            headers,
            body: body.to_vec(),
        };
        self.store
            .data_mut()
            .events
            .push_back(Event::CallAnswer(token, answer));
        self.pump();
    }

    /// The host call `name` gives `status` the next `times` times.
    pub fn fault(&mut self, name: &str, status: Status, times: usize) {
        self.store
            .data_mut()
            .faults
            .insert(name.to_owned(), Fault { status, times });
    }

    /// How often the host call `name` was made.
    pub fn count(&self, name: &str) -> u64 {
        self.state().counts.get(name).copied().unwrap_or_default()
    }

    /// Everything logged so far.
    pub fn logs(&self) -> &[Log] {
        &self.state().logs
    }

    /// The stat of that name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.state().metrics.named(name)
    }

    /// All stats by name.
    pub fn metrics(&self) -> &std::collections::BTreeMap<String, Metric> {
        self.state().metrics.all()
    }

    /// The tick period of the present root context, if it ticks.
    pub fn tick_period(&self) -> Option<Duration> {
        self.state().roots.get(&self.root)?.tick.map(|(period, _)| period)
    }

    /// Root contexts that exist.
    pub fn root_contexts(&self) -> usize {
        self.state().roots.len()
    }

    /// Requests whose contexts exist.
    pub fn open_requests(&self) -> usize {
        self.state().exchanges.len()
    }

    /// Instructions run so far.
    pub fn instructions(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap_or_default()
    }

    /// The size of the filter's memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.state()
            .guest
            .as_ref()
            .map_or(0, |guest| guest.memory.data_size(&self.store))
    }

    /// Takes note of misuse, so that the host's end does not fail for it.
    pub fn take_misuse(&mut self) -> Vec<String> {
        std::mem::take(&mut self.store.data_mut().misuse)
    }

    pub(crate) fn state(&self) -> &State {
        self.store.data()
    }

    /// The test is over: says why, with the end of the log.
    #[track_caller]
    pub(crate) fn broken(&self, why: &str) -> ! {
        fail(&format!("{why}; log:{}", tail(self.logs())))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.state().misuse.is_empty() {
            self.broken(&format!("{:#?}", self.state().misuse));
        }
    }
}

fn tail(logs: &[Log]) -> String {
    let skip = logs.len().saturating_sub(20);
    logs.iter()
        .skip(skip)
        .map(|log| format!("\n  [{}] {}", log.level, log.text))
        .collect()
}

#[track_caller]
#[allow(clippy::panic, reason = "what the host cannot go on from is a failed test")]
fn fail(why: &str) -> ! {
    panic!("{why}")
}

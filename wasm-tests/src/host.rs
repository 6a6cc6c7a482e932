//! Envoy as the filter sees it: one worker, its event loop driven by the test.

use std::time::Duration;

use wasmtime::{Instance, Store};

use crate::{
    builder::Builder,
    metadata::encode_struct,
    request::{Id, Outcome, Reply, Request},
    state::{Log, Root, State},
};

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

impl Host {
    /// A worker whose plugin has this configuration, an object: like Envoy 1.40, the host hands it over as a
    /// serialised `Struct`.
    pub fn builder(configuration: &serde_json::Value) -> Builder {
        Builder::new(configuration)
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
    pub(crate) fn add_root(&mut self, configuration: Vec<u8>, first: bool) -> bool {
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

pub(crate) fn tail(logs: &[Log]) -> String {
    let skip = logs.len().saturating_sub(20);
    logs.iter()
        .skip(skip)
        .map(|log| format!("\n  [{}] {}", log.level, log.text))
        .collect()
}

#[track_caller]
#[allow(clippy::panic, reason = "what the host cannot go on from is a failed test")]
pub(crate) fn fail(why: &str) -> ! {
    panic!("{why}")
}

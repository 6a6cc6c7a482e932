//! What the host knows: all of it lives in the wasmtime `Store`, so hosts share nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    exchange::Exchange,
    maps::Pairs,
    memory::Guest,
    metrics::Metrics,
    request::{Id, Reply},
    sidecar::{Sidecar, Stream},
    status::Status,
    upstream::{Answer, HttpCall},
};

/// A line that the filter, or its standard error, logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// 0 trace … 4 error, 5 critical.
    pub level: u32,
    /// The line.
    pub text: String,
}

/// A root context: one configuration of the filter.
#[derive(Debug, Default)]
pub(crate) struct Root {
    pub(crate) configuration: Vec<u8>,
    /// The tick period and when it elapses.
    pub(crate) tick: Option<(Duration, Duration)>,
    /// Replaced by a newer configuration: it goes when its last request has ended.
    pub(crate) retired: bool,
}

/// What Envoy does once the filter has returned from the callback in which it asked for it.
#[derive(Debug)]
pub(crate) enum Action {
    Reply(Id, Reply),
    Continue(Id),
}

/// What Envoy's event loop brings to the filter.
#[derive(Debug)]
pub(crate) enum Event {
    StreamMetadata(u32, Pairs),
    StreamMessage(u32, Vec<u8>),
    StreamClose(u32, u32),
    /// The call is to be made now.
    Call(u32),
    CallAnswer(u32, Answer),
}

/// A status that a host call gives instead of doing its work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) status: Status,
    /// How often still.
    pub(crate) times: usize,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) guest: Option<Guest>,
    /// The context that Envoy called.
    pub(crate) current: u32,
    /// The context that the filter chose to act for; 0 is none.
    pub(crate) effective: u32,
    pub(crate) last_context: u32,
    pub(crate) roots: BTreeMap<u32, Root>,
    /// The root context whose configuration may be read now.
    pub(crate) configuring: Option<u32>,
    pub(crate) exchanges: BTreeMap<Id, Exchange>,
    /// Those whose contexts are gone.
    pub(crate) ended: BTreeMap<Id, Exchange>,
    /// A local reply was asked for during the present callback.
    pub(crate) stop_iteration: bool,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) last_timer: u64,
    /// Events to come, by time and order.
    pub(crate) timers: BTreeMap<(Duration, u64), Event>,
    /// Since the epoch.
    pub(crate) now: Duration,
    pub(crate) logs: Vec<Log>,
    pub(crate) log_level: u32,
    pub(crate) metrics: Metrics,
    /// Envoy's clusters: name, and the authority that HTTP calls to it reach.
    pub(crate) clusters: BTreeMap<String, String>,
    pub(crate) last_stream: u32,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) sidecar: Sidecar,
    pub(crate) stream_headers: Option<Pairs>,
    pub(crate) stream_message: Option<Vec<u8>>,
    pub(crate) last_call: u32,
    pub(crate) calls: BTreeMap<u32, HttpCall>,
    pub(crate) calls_held: bool,
    pub(crate) call_answer: Option<Answer>,
    /// The code and text that `proxy_get_status` gives.
    pub(crate) call_status: (u32, String),
    /// How often each property was asked for.
    pub(crate) reads: BTreeMap<Vec<u8>, usize>,
    pub(crate) faults: BTreeMap<String, Fault>,
    /// What no Envoy forbids and no filter should do.
    pub(crate) misuse: Vec<String>,
    /// Seed of `random_get`.
    pub(crate) random: u64,
}

impl State {
    /// The context that host calls act for: the effective one if it still exists, otherwise the one called.
    pub(crate) fn acting(&self) -> u32 {
        match self.effective {
            0 => self.current,
            id if self.exists(id) => id,
            _ => self.current,
        }
    }

    /// Envoy deletes a context some time after it has told the filter that it is gone; here never.
    pub(crate) fn exists(&self, id: u32) -> bool {
        self.exchanges.contains_key(&id) || self.roots.contains_key(&id) || self.ended.contains_key(&id)
    }

    /// The request of the acting context, if it is one.
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        let id = self.acting();
        self.exchanges.get_mut(&id)
    }

    /// The root of the acting context: it owns streams, HTTP calls and the timer.
    pub(crate) fn acting_root(&self) -> u32 {
        let id = self.acting();
        self.exchanges.get(&id).map_or(id, |exchange| exchange.root)
    }

    pub(crate) fn new_context(&mut self) -> u32 {
        self.last_context += 1;
        self.last_context
    }

    pub(crate) fn schedule(&mut self, after: Duration, event: Event) {
        if after.is_zero() {
            self.events.push_back(event);
            return;
        }
        self.last_timer += 1;
        self.timers.insert((self.now + after, self.last_timer), event);
    }

    pub(crate) fn misused(&mut self, what: impl Into<String>) {
        self.misuse.push(what.into());
    }

    pub(crate) fn log(&mut self, level: u32, text: String) {
        self.logs.push(Log { level, text });
    }
}

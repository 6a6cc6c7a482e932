//! The event loop: timers, and what comes back from outside.

use std::time::Duration;

use crate::{host::Host, lifecycle::count, request::Id, state::Event, upstream};

/// More events than this without time passing is a loop.
const EVENTS_AT_ONCE: usize = 1_000_000;

impl Host {
    /// When the next timer falls due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let state = self.state();
        let timer = state.timers.first_key_value().map(|((due, _), _)| *due);
        let tick = state
            .roots
            .values()
            .filter_map(|root| root.tick)
            .map(|(_, due)| due)
            .min();
        [timer, tick].into_iter().flatten().min()
    }

    /// Does what falls due at `now`.
    #[track_caller]
    pub(crate) fn fire(&mut self, now: Duration) {
        let state = self.store.data_mut();
        while let Some(entry) = state.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            state.events.push_back(entry.remove());
        }
        let ticking: Vec<Id> = state
            .roots
            .iter()
            .filter(|(_, root)| root.tick.is_some_and(|(_, due)| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in ticking {
            self.call::<_, ()>("proxy_on_tick", id, (id,));
            // A period that was set meanwhile runs from then.
            if let Some(root) = self.store.data_mut().roots.get_mut(&id)
                && let Some((period, due)) = root.tick
                && due <= now
            {
                root.tick = Some((period, now + period));
            }
        }
    }

    /// The event loop runs until nothing is left to do now.
    #[track_caller]
    pub(crate) fn pump(&mut self) {
        for _ in 0..EVENTS_AT_ONCE {
            match self.store.data_mut().events.pop_front() {
                Some(event) => self.deliver(event),
                None => return,
            }
        }
        self.broken("the filter keeps the event loop busy");
    }

    #[track_caller]
    fn deliver(&mut self, event: Event) {
        let root_of = |host: &Self, token: u32| {
            let stream = host.state().streams.get(&token).filter(|s| s.is_open());
            stream
                .map(|s| s.root)
                .filter(|root| host.state().roots.contains_key(root))
        };
        match event {
            Event::StreamMetadata(token, headers) => {
                if let Some(root) = root_of(self, token) {
                    let fields = count(&headers);
                    self.store.data_mut().stream_headers = Some(headers);
                    let params = (root, token, fields);
                    self.call::<_, ()>("proxy_on_grpc_receive_initial_metadata", root, params);
                    self.store.data_mut().stream_headers = None;
                }
            }
            Event::StreamMessage(token, message) => {
                if let Some(root) = root_of(self, token) {
                    let size = u32::try_from(message.len()).unwrap_or(u32::MAX);
                    self.store.data_mut().stream_message = Some(message);
                    self.call::<_, ()>("proxy_on_grpc_receive", root, (root, token, size));
                    self.store.data_mut().stream_message = None;
                }
            }
            Event::StreamClose(token, code) => {
                if let Some(root) = root_of(self, token) {
                    let params = (root, token, 0);
                    self.call::<_, ()>("proxy_on_grpc_receive_trailing_metadata", root, params);
                    if let Some(stream) = self.store.data_mut().streams.get_mut(&token) {
                        stream.closed = true;
                    }
                    self.store.data_mut().call_status = (code, String::new());
                    self.call::<_, ()>("proxy_on_grpc_close", root, (root, token, code));
                    if let Some(stream) = self.store.data_mut().streams.get_mut(&token) {
                        stream.reset |= stream.half_closed;
                    }
                }
            }
            Event::Call(token) => {
                let state = self.store.data_mut();
                if !state.calls_held
                    && let Some(call) = state.calls.get(&token)
                    && let Some(authority) = state.clusters.get(&call.cluster)
                {
                    let answer = upstream::perform(call, authority);
                    state.events.push_back(Event::CallAnswer(token, answer));
                }
            }
            Event::CallAnswer(token, answer) => {
                let state = self.store.data_mut();
                if let Some(call) = state.calls.remove(&token)
                    && state.roots.contains_key(&call.root)
                {
                    let (fields, size) = (
                        count(&answer.headers),
                        u32::try_from(answer.body.len()).unwrap_or(u32::MAX),
                    );
                    state.call_answer = Some(answer).filter(|answer| !answer.headers.is_empty());
                    let params = (call.root, token, fields, size, 0);
                    self.call::<_, ()>("proxy_on_http_call_response", call.root, params);
                    self.store.data_mut().call_answer = None;
                }
            }
        }
    }
}

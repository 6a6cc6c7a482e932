//! Calls into the filter, in the order in which Envoy's filter manager and event loop make them.

use wasmtime::{WasmParams, WasmResults};

use crate::{
    exchange::{Exchange, Stop},
    host::Host,
    maps::Pairs,
    request::{Id, Reply, Request},
    state::Action,
};

/// Envoy does what a callback asked for when the callback has returned, but within the callbacks that follow from
/// it: answering many requests at once nests their last callbacks in one another. Its stack holds about 300 of
/// them (Envoy 1.40 with V8: `Maximum call stack size exceeded`, and the VM is lost).
const MAX_NESTED: usize = 250;

/// `Action::Continue` of the ABI; everything else stops.
const CONTINUE: u32 = 0;

impl Host {
    /// The head of a request arrives; `end` says that there is nothing more.
    #[track_caller]
    pub fn open(&mut self, request: Request, end: bool) -> Id {
        let root = self.root;
        let headers = count(&request.headers);
        let state = self.store.data_mut();
        let id = state.new_context();
        let mut exchange = Exchange::new(root, request);
        exchange.arrived = end;
        state.exchanges.insert(id, exchange);
        self.call::<_, ()>("proxy_on_context_create", id, (id, root));
        let (action, stopped) =
            self.call::<_, u32>("proxy_on_request_headers", id, (id, headers, u32::from(end)));
        let stop = if self.stop_at_headers {
            Stop::Headers
        } else {
            Stop::All
        };
        if let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) {
            match (stopped, action) {
                // It may have been continued meanwhile.
                (false, _) if exchange.forwarded.is_some() => {}
                (false, CONTINUE) => {
                    exchange.headers_readable = false;
                    exchange.forward();
                }
                (false, _) => exchange.stop = stop,
                (true, _) => exchange.stop = Stop::All,
            }
        }
        self.pump();
        id
    }

    /// A part of the body arrives; `end` says that it is the last and that there are no trailers.
    #[track_caller]
    pub fn body(&mut self, id: Id, chunk: &[u8], end: bool) {
        let limit = self.limit;
        let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) else {
            // Answered already: nobody listens any more.
            return;
        };
        exchange.arrived |= end;
        if exchange.stop == Stop::All {
            exchange.kept.extend_from_slice(chunk);
            exchange.kept_end = Some(end);
            return;
        }
        if exchange.buffering {
            exchange.body.extend_from_slice(chunk);
        } else {
            exchange.body = chunk.to_vec();
        }
        let size = u32::try_from(exchange.body.len()).unwrap_or(u32::MAX);
        if exchange.buffering && exchange.body.len() > limit {
            return self.too_large(id);
        }
        let (action, stopped) = self.call::<_, u32>("proxy_on_request_body", id, (id, size, u32::from(end)));
        let mut too_large = false;
        if let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) {
            if stopped {
                exchange.body.clear();
            } else if action == CONTINUE {
                exchange.forward();
            } else if exchange.forwarded.is_none() {
                exchange.buffering = true;
                too_large = exchange.body.len() > limit;
            }
        }
        if too_large {
            return self.too_large(id);
        }
        self.pump();
    }

    /// The trailers arrive.
    #[track_caller]
    pub fn trailers(&mut self, id: Id) {
        let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) else {
            return;
        };
        exchange.arrived = true;
        if exchange.stop == Stop::All {
            return;
        }
        exchange.trailers_readable = true;
        let trailers = count(&exchange.request.trailers);
        let (action, stopped) = self.call::<_, u32>("proxy_on_request_trailers", id, (id, trailers));
        if let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id)
            && !stopped
            && action == CONTINUE
        {
            exchange.trailers_readable = false;
            exchange.forward();
        }
        self.pump();
    }

    /// The client goes away: its stream ends at once.
    #[track_caller]
    pub fn leave(&mut self, id: Id) {
        if let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) {
            exchange.left = true;
            self.end(id);
            self.pump();
        }
    }

    /// The upstream answers a request that went on to it.
    #[track_caller]
    pub fn upstream_answers(&mut self, id: Id, status: u16) {
        let headers = vec![(b":status".to_vec(), status.to_string().into_bytes())];
        self.respond(id, headers, Vec::new());
        self.end(id);
        self.pump();
    }

    /// Envoy's own answer to a body past its buffer.
    #[track_caller]
    fn too_large(&mut self, id: Id) {
        let details = "request_payload_too_large".to_owned();
        let body = b"Payload Too Large".to_vec();
        self.local_reply(
            id,
            Reply {
                status: 413,
                body,
                details,
                ..Reply::default()
            },
        );
        self.pump();
    }

    /// Calls the filter for `context`, then does what it asked for meanwhile. Gives the result, and whether a local
    /// reply was asked for: Envoy then takes no notice of the result.
    #[track_caller]
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
        context: Id,
        params: P,
    ) -> (R, bool) {
        let function = match self.instance.get_typed_func::<P, R>(&mut self.store, name) {
            Ok(function) => function,
            Err(e) => self.broken(&format!("{name}: {e:#}")),
        };
        if self.depth >= MAX_NESTED {
            self.broken(&format!(
                "{name}: too many answers in one callback: Envoy's stack overflows"
            ));
        }
        let state = self.store.data_mut();
        let before = (state.current, state.effective);
        (state.current, state.effective) = (context, 0);
        let result = function.call(&mut self.store, params);
        let state = self.store.data_mut();
        (state.current, state.effective) = before;
        let stopped = std::mem::take(&mut state.stop_iteration);
        let result = match result {
            Ok(result) => result,
            Err(trap) => self.broken(&format!("{name} trapped: {trap:#}")),
        };
        self.depth += 1;
        while let Some(action) = self.store.data_mut().actions.pop_front() {
            match action {
                Action::Reply(id, reply) => self.local_reply(id, reply),
                Action::Continue(id) => self.continue_request(id),
            }
        }
        self.depth -= 1;
        (result, stopped)
    }

    #[track_caller]
    fn local_reply(&mut self, id: Id, reply: Reply) {
        let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) else {
            return;
        };
        let mut headers = vec![(b":status".to_vec(), reply.status.to_string().into_bytes())];
        headers.extend(reply.headers.iter().cloned());
        let body = reply.body.clone();
        exchange.reply = Some(reply);
        self.respond(id, headers, body);
        self.end(id);
    }

    /// The response passes the filter.
    #[track_caller]
    fn respond(&mut self, id: Id, headers: Pairs, body: Vec<u8>) {
        let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) else {
            return;
        };
        let (fields, size) = (count(&headers), u32::try_from(body.len()).unwrap_or(u32::MAX));
        exchange.response_headers = Some(headers);
        let mut result = self
            .call::<_, u32>(
                "proxy_on_response_headers",
                id,
                (id, fields, u32::from(size == 0)),
            )
            .0;
        if size > 0 {
            if let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) {
                exchange.response_body = Some(body);
            }
            result |= self.call::<_, u32>("proxy_on_response_body", id, (id, size, 1)).0;
        }
        if result != CONTINUE {
            self.store
                .data_mut()
                .misused(format!("the filter holds the response of context {id}"));
        }
    }

    #[track_caller]
    fn continue_request(&mut self, id: Id) {
        let Some(exchange) = self.store.data_mut().exchanges.get_mut(&id) else {
            return;
        };
        let kept = exchange.kept_end.take().filter(|_| exchange.stop == Stop::All);
        exchange.forward();
        if let Some(end) = kept {
            let chunk = std::mem::take(&mut exchange.kept);
            self.body(id, &chunk, end);
        }
    }

    /// The request's stream ends: the filter's context goes with it.
    #[track_caller]
    fn end(&mut self, id: Id) {
        self.call::<_, ()>("proxy_on_log", id, (id,));
        self.call::<_, u32>("proxy_on_done", id, (id,));
        self.call::<_, ()>("proxy_on_delete", id, (id,));
        let state = self.store.data_mut();
        if let Some(exchange) = state.exchanges.remove(&id) {
            state.ended.insert(id, exchange);
        }
        self.end_retired_roots();
    }

    #[track_caller]
    pub(crate) fn end_retired_roots(&mut self) {
        let state = self.state();
        let used = |root: Id| state.exchanges.values().any(|exchange| exchange.root == root);
        let over: Vec<Id> = state
            .roots
            .iter()
            .filter(|(id, root)| root.retired && !used(**id))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.call::<_, u32>("proxy_on_done", id, (id,));
            self.call::<_, ()>("proxy_on_delete", id, (id,));
            let state = self.store.data_mut();
            state.roots.remove(&id);
            for stream in state.streams.values_mut().filter(|s| s.root == id) {
                stream.reset = true;
            }
            state.calls.retain(|_, call| call.root != id);
        }
    }
}

pub(crate) fn count(pairs: &Pairs) -> u32 {
    u32::try_from(pairs.len()).unwrap_or(u32::MAX)
}

//! One request in flight, as Envoy's filter manager keeps it.

use crate::{
    maps::Pairs,
    request::{Forwarded, Id, Outcome, Reply, Request},
};

/// Where the filter stopped the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nowhere.
    No,
    /// The headers wait; the body comes to the filter all the same.
    Headers,
    /// Everything waits, and what arrives is kept for later (Envoy without
    /// `allow_on_headers_stop_iteration`).
    All,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) root: Id,
    pub(crate) request: Request,
    pub(crate) stop: Stop,
    /// Whether the getters give the request headers now.
    pub(crate) headers_readable: bool,
    pub(crate) trailers_readable: bool,
    /// What the getters give as request body: all that was kept, or the present chunk.
    pub(crate) body: Vec<u8>,
    /// Whether Envoy keeps the body until the filter is through.
    pub(crate) buffering: bool,
    /// Chunks that arrived while everything waits, and whether the last of them ended the request.
    pub(crate) kept: Vec<u8>,
    pub(crate) kept_end: Option<bool>,
    /// The whole request has arrived.
    pub(crate) arrived: bool,
    pub(crate) response_headers: Option<Pairs>,
    pub(crate) response_body: Option<Vec<u8>>,
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) reply: Option<Reply>,
    /// A local reply was asked for and comes when the callback has returned.
    pub(crate) replying: bool,
    pub(crate) left: bool,
}

impl Exchange {
    pub(crate) fn new(root: Id, request: Request) -> Self {
        Self {
            root,
            request,
            stop: Stop::No,
            headers_readable: true,
            trailers_readable: false,
            body: Vec::new(),
            buffering: false,
            kept: Vec::new(),
            kept_end: None,
            arrived: false,
            response_headers: None,
            response_body: None,
            forwarded: None,
            reply: None,
            replying: false,
            left: false,
        }
    }

    /// The filter is through with what it has: it goes on to the upstream.
    pub(crate) fn forward(&mut self) {
        self.stop = Stop::No;
        self.buffering = false;
        let headers = self.request.headers.clone();
        let forwarded = self.forwarded.get_or_insert_with(|| Forwarded {
            headers,
            ..Forwarded::default()
        });
        forwarded.body.append(&mut self.body);
        if self.arrived && self.kept_end.is_none() {
            forwarded.trailers = self.request.trailers.clone();
            forwarded.complete = true;
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        if let Some(reply) = &self.reply {
            Outcome::Replied(reply.clone())
        } else if let Some(forwarded) = &self.forwarded {
            Outcome::Forwarded(forwarded.clone())
        } else if self.left {
            Outcome::Left
        } else {
            Outcome::Waiting
        }
    }
}

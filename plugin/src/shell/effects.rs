//! What a stream does to the world, done to Envoy.

use std::rc::Rc;

use sluice_proto::{METHOD_PRODUCE, SERVICE};

use super::answers::{Answer, Answers};
use super::host::{self, HostMetrics};
use crate::config::Route;
use crate::exchange::{self, End};
use crate::record::Topics;
use crate::reply::Reply;
use crate::stats::Stats;
use crate::stream::{Effects, Outcome, Token};

/// A request that waits for its record's fate.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) context: u32,
    pub(super) route: Rc<Route>,
    pub(super) topics: Topics,
    pub(super) since_us: u64,
}

/// The effects of one callback.
pub(super) struct HostEffects<'a> {
    pub(super) cluster: &'a str,
    pub(super) root: u32,
    pub(super) now_us: u64,
    pub(super) stats: &'a mut Stats,
    answers: &'a mut Answers,
    /// The context that the host takes calls to be from.
    effective: u32,
    /// The context whose callback this is.
    own: u32,
    /// What that context is to be answered: it must not be answered in the midst of its callback.
    pub(super) own_reply: Option<Reply>,
}

impl<'a> HostEffects<'a> {
    /// The effects of a callback of the context `own`, which is the effective one.
    pub(super) fn new(
        cluster: &'a str,
        (root, own): (u32, u32),
        now_us: u64,
        stats: &'a mut Stats,
        answers: &'a mut Answers,
    ) -> Self {
        Self {
            cluster,
            root,
            now_us,
            stats,
            answers,
            effective: own,
            own,
            own_reply: None,
        }
    }

    /// Makes the next calls be those of `context`. Streams are the root context's. `false`: it is gone.
    fn become_context(&mut self, context: u32) -> bool {
        if self.effective != context && host::set_effective_context(context) {
            self.effective = context;
        }
        self.effective == context
    }

    /// Gives the answers whose turn it is.
    pub(super) fn give_answers(&mut self) {
        while let Some(Answer { context, end, reply }) = self.answers.next() {
            if !self.become_context(context) {
                // Its client left while it waited for its turn.
                self.stats.departed();
                continue;
            }
            self.stats.request(reply.kind);
            match end {
                End::Respond => respond(&reply),
                End::Continue => {
                    host::resume_request();
                }
            }
        }
    }

    /// Ends the callback's calls: those that follow are its own context's again.
    pub(super) fn done(mut self) -> Option<Reply> {
        self.become_context(self.own);
        self.own_reply
    }
}

impl Effects<Waiter> for HostEffects<'_> {
    fn open(&mut self) -> Option<Token> {
        self.become_context(self.root);
        host::open_stream(self.cluster, SERVICE, METHOD_PRODUCE)
    }

    fn send(&mut self, stream: Token, message: &[u8], records: usize) -> bool {
        self.become_context(self.root);
        self.stats.sent(records, &mut HostMetrics);
        host::send(stream, message)
    }

    fn close(&mut self, stream: Token) {
        self.become_context(self.root);
        host::close_stream(stream);
    }

    fn cancel(&mut self, stream: Token) {
        self.become_context(self.root);
        host::cancel_stream(stream);
    }

    fn answer(&mut self, waiter: Waiter, outcome: Outcome) {
        let topics = waiter.topics.names(&waiter.route);
        let reply = Reply::of(&waiter.route, topics, &outcome);
        let took_us = self.now_us.saturating_sub(waiter.since_us);
        self.stats.answered(took_us, &mut HostMetrics);
        if waiter.context == self.own {
            self.own_reply = Some(reply);
            return;
        }
        let end = exchange::end(&waiter.route, reply.kind.is_success());
        let context = waiter.context;
        self.answers.push(Answer { context, end, reply });
        self.give_answers();
    }
}

/// Answers the request of the effective context.
pub(super) fn respond(reply: &Reply) {
    let headers = reply.headers.iter();
    let mut headers: Vec<_> = headers.map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    for (name, value) in &reply.more_headers {
        headers.push((name.as_bytes(), value.as_slice()));
    }
    host::respond(reply.status, reply.kind.details(), &headers, &reply.body);
}

//! One request, as a state machine: what the filter does with it at each of Envoy's callbacks.

use sluice_proto::class::ErrorClass;

use crate::config::{OnError, Route, Then};
use crate::record::Reject;
use crate::request::Head;

/// What happens next to the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It goes on to its upstream.
    Pass,
    /// It is held; there is more of it to come, or somebody else answers it.
    Hold,
    /// It is held and whole: its record is to be written.
    Produce,
    /// It cannot become a record. [`Exchange::fail`] says what that means for the client.
    Reject(Reject),
}

/// What the client sees in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The filter's reply.
    Respond,
    /// Its upstream's.
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The body is not here yet.
    Collecting,
    /// The record is on its way.
    Waiting,
    /// Answered, or gone on.
    Over,
}

/// A request on a route that produces.
#[derive(Debug)]
pub struct Exchange {
    state: State,
}

impl Exchange {
    /// The headers are here; `ends` if nothing follows them.
    pub fn begin(route: &Route, head: &Head<'_>, ends: bool) -> (Self, Step) {
        let over = |step| (Self { state: State::Over }, step);
        if head.method() == b"OPTIONS" && !route.produce_options {
            return over(Step::Pass);
        }
        if ends {
            let state = State::Waiting;
            return (Self { state }, Step::Produce);
        }
        let state = State::Collecting;
        match announced_length(head) {
            Some(length) if length > route.max_body_bytes as u64 => {
                (Self { state }, too_large(length, route))
            }
            _ => (Self { state }, Step::Hold),
        }
    }

    /// `size` bytes of the body are here in all; `ends` if that is everything.
    pub fn body(&mut self, route: &Route, size: usize, ends: bool) -> Step {
        match self.state {
            State::Collecting if size > route.max_body_bytes => too_large(size as u64, route),
            State::Collecting if ends => self.produce(),
            State::Collecting | State::Waiting => Step::Hold,
            State::Over => Step::Pass,
        }
    }

    /// The trailers are here, and with them the end.
    pub fn trailers(&mut self) -> Step {
        match self.state {
            State::Collecting => self.produce(),
            State::Waiting => Step::Hold,
            State::Over => Step::Pass,
        }
    }

    /// Whether the request still waits for its body.
    pub fn is_collecting(&self) -> bool {
        self.state == State::Collecting
    }

    /// The record will not be written: what becomes of the request. `None` if that is decided already.
    pub fn fail(&mut self, route: &Route) -> Option<End> {
        let waited = std::mem::replace(&mut self.state, State::Over) != State::Over;
        waited.then(|| end(route, false))
    }

    fn produce(&mut self) -> Step {
        self.state = State::Waiting;
        Step::Produce
    }
}

/// What a request of `route` comes to, once its record is written (`success`) or known not to be.
pub fn end(route: &Route, success: bool) -> End {
    match (route.then, route.on_error) {
        (Then::Continue, _) if success => End::Continue,
        (Then::Continue, OnError::Continue) => End::Continue,
        (Then::Continue, OnError::Respond) | (Then::Respond, _) => End::Respond,
    }
}

fn announced_length(head: &Head<'_>) -> Option<u64> {
    std::str::from_utf8(head.get("content-length")?)
        .ok()?
        .parse()
        .ok()
}

fn too_large(size: u64, route: &Route) -> Step {
    Step::Reject(Reject {
        class: ErrorClass::TooLarge,
        error: format!(
            "the request body has {size} bytes or more, max_body_bytes is {}",
            route.max_body_bytes
        ),
    })
}

#[cfg(test)]
mod tests;

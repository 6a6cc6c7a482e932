//! Answers that wait for their turn.

use std::collections::VecDeque;

use crate::exchange::End;
use crate::reply::Reply;

/// How many requests other than its own a callback answers.
///
/// Envoy answers once the callback has returned, but each answer's own last callbacks run before the next answer
/// and return only after all of them: they nest. Envoy 1.40 lost the VM (`Maximum call stack size exceeded`) at 305.
const AT_ONCE: usize = 64;

/// How soon the answers that wait have their turn, in milliseconds.
const TURN_MS: u32 = 1;

/// What a request comes to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) context: u32,
    pub(super) end: End,
    pub(super) reply: Reply,
}

/// The answers of a worker.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: VecDeque<Answer>,
    /// How many more the present callback may give.
    room: usize,
}

impl Answers {
    /// A callback begins.
    pub(super) fn begin(&mut self) {
        self.room = AT_ONCE;
    }

    /// Adds an answer to those that wait.
    pub(super) fn push(&mut self, answer: Answer) {
        self.waiting.push_back(answer);
    }

    /// Takes the answer of a request that is gone off the queue; `false` if it has none there. Envoy does not
    /// refuse an answer to it: it deletes the context some time after it has told the filter, and calls a
    /// context that the SDK does not know any more, which panics.
    pub(super) fn forget(&mut self, context: u32) -> bool {
        let at = self.waiting.iter().position(|answer| answer.context == context);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// The next answer that the present callback may give.
    pub(super) fn next(&mut self) -> Option<Answer> {
        let room = self.room.checked_sub(1)?;
        let next = self.waiting.pop_front()?;
        self.room = room;
        Some(next)
    }

    /// The period in which ticks are needed.
    pub(super) fn tick_ms(&self) -> Option<u32> {
        (!self.waiting.is_empty()).then_some(TURN_MS)
    }
}

//! What may be with the handler at the same time: events of a lane go one after the other, lanes side by side.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

/// What names an event in here.
pub(super) type Ticket = u64;
/// What names a partition in here.
pub(super) type Part = u64;

/// Which events go one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Those of a partition that have this key.
    Key(Part, Bytes),
    /// All of a partition.
    Partition(Part),
    /// This one goes whenever it may.
    Alone(Part, Ticket),
}

impl Lane {
    fn part(&self) -> Part {
        match self {
            Self::Key(part, _) | Self::Partition(part) | Self::Alone(part, _) => *part,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In `ready`.
    Ready,
    /// The first ones were given out: so many.
    Busy(usize),
    /// The first one is not to go for now.
    Held,
}

#[derive(Debug)]
struct Queue {
    tickets: VecDeque<Ticket>,
    state: State,
}

/// The lanes. An event is in one from [`Lanes::offer`] to [`Lanes::done`].
#[derive(Debug, Default)]
pub(super) struct Lanes {
    queues: HashMap<Lane, Queue>,
    /// Lanes whose first event may go, each once, the one that waits longest first.
    ready: VecDeque<Lane>,
    of: HashMap<Ticket, Lane>,
}

impl Lanes {
    /// Puts an event at the end of a lane.
    pub(super) fn offer(&mut self, ticket: Ticket, lane: Lane) {
        self.of.insert(ticket, lane.clone());
        match self.queues.get_mut(&lane) {
            Some(queue) => queue.tickets.push_back(ticket),
            None => {
                let queue = Queue {
                    tickets: VecDeque::from([ticket]),
                    state: State::Ready,
                };
                self.ready.push_back(lane.clone());
                self.queues.insert(lane, queue);
            }
        }
    }

    /// As [`Self::offer`]; if it is the first of its lane, it is held.
    pub(super) fn offer_held(&mut self, ticket: Ticket, lane: Lane) {
        if self.queues.contains_key(&lane) {
            return self.offer(ticket, lane);
        }
        self.of.insert(ticket, lane.clone());
        let queue = Queue {
            tickets: VecDeque::from([ticket]),
            state: State::Held,
        };
        self.queues.insert(lane, queue);
    }

    /// Gives out events that may go in one request, `most` at most: those at the beginning of lanes, and those that come right
    /// after them in theirs. They are given out until [`Self::done`], [`Self::hold`] or [`Self::again`]; until then nothing else
    /// of their lanes is. Those that are `alone` go by themselves.
    pub(super) fn next(&mut self, most: usize, alone: impl Fn(Ticket) -> bool) -> Vec<Ticket> {
        let mut given: Vec<Ticket> = Vec::new();
        while given.len() < most
            && let Some(lane) = self.ready.pop_front()
        {
            let Some(queue) = self.queues.get_mut(&lane) else {
                continue;
            };
            let Some(first) = queue.tickets.front().copied() else {
                continue;
            };
            if alone(first) {
                if given.is_empty() {
                    queue.state = State::Busy(1);
                    given.push(first);
                } else {
                    self.ready.push_front(lane);
                }
                return given;
            }
            let before = given.len();
            let some = queue.tickets.iter().copied().take(most - before);
            given.extend(some.take_while(|ticket| !alone(*ticket)));
            queue.state = State::Busy(given.len() - before);
        }
        given
    }

    /// How many could be given out now, at most: one of each lane that is ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many could be given out in one request, counted up to `most`.
    pub(super) fn gatherable(&self, most: usize) -> usize {
        let mut count = 0;
        for lane in &self.ready {
            count += self.queues.get(lane).map_or(0, |queue| queue.tickets.len());
            if count >= most {
                return most;
            }
        }
        count
    }

    /// An event that was given out is finished. The next one may go when all are that were given out with it.
    pub(super) fn done(&mut self, ticket: Ticket) {
        let Some(lane) = self.of.remove(&ticket) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&lane) else {
            return;
        };
        let at = queue.tickets.iter().position(|other| *other == ticket);
        let at = at.unwrap_or_default();
        queue.tickets.remove(at);
        match queue.state {
            State::Busy(given) if at < given => queue.state = State::Busy(given - 1),
            State::Held if at == 0 => queue.state = State::Busy(0),
            _ => {}
        }
        self.settle(lane);
    }

    /// The first event of a lane, which was given out, is not to go again until [`Self::release`]; others that were given out with
    /// it count as not given out.
    pub(super) fn hold(&mut self, ticket: Ticket) {
        self.set(ticket, State::Held);
    }

    /// Of its lane only this event, the first one, counts as given out.
    pub(super) fn only(&mut self, ticket: Ticket) {
        self.set(ticket, State::Busy(1));
    }

    /// The first event of a lane, which was given out, may go again at once; others that were given out with it after it.
    pub(super) fn again(&mut self, ticket: Ticket) {
        self.set(ticket, State::Busy(0));
        if let Some(lane) = self.of.get(&ticket).cloned() {
            self.settle(lane);
        }
    }

    /// An event that was held may go.
    pub(super) fn release(&mut self, ticket: Ticket) {
        let held = |this: &Self| {
            let lane = this.of.get(&ticket)?;
            let queue = this.queues.get(lane)?;
            (queue.state == State::Held && queue.tickets.front() == Some(&ticket)).then(|| lane.clone())
        };
        if let Some(lane) = held(self) {
            self.set(ticket, State::Busy(0));
            self.settle(lane);
        }
    }

    /// As [`Self::release`], before everything else that is ready.
    pub(super) fn release_first(&mut self, ticket: Ticket) {
        let Some(lane) = self.of.get(&ticket).cloned() else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(&lane)
            && queue.state == State::Held
            && queue.tickets.front() == Some(&ticket)
        {
            queue.state = State::Ready;
            self.ready.push_front(lane);
        }
    }

    /// Whether the first of the event's lane is held.
    pub(super) fn is_held(&self, ticket: Ticket) -> bool {
        let queue = self.of.get(&ticket).and_then(|lane| self.queues.get(lane));
        queue.is_some_and(|queue| queue.state == State::Held)
    }

    /// The first of the event's lane.
    pub(super) fn first(&self, ticket: Ticket) -> Option<Ticket> {
        let queue = self.of.get(&ticket).and_then(|lane| self.queues.get(lane));
        queue?.tickets.front().copied()
    }

    /// Those that come after the event in its lane.
    pub(super) fn behind(&self, ticket: Ticket) -> Vec<Ticket> {
        let queue = self.of.get(&ticket).and_then(|lane| self.queues.get(lane));
        let Some(queue) = queue else {
            return Vec::new();
        };
        let after = queue.tickets.iter().copied().skip_while(|other| *other != ticket);
        after.skip(1).collect()
    }

    /// Takes out everything of a partition.
    pub(super) fn drop_part(&mut self, part: Part) {
        self.ready.retain(|lane| lane.part() != part);
        self.queues.retain(|lane, _| lane.part() != part);
        self.of.retain(|_, lane| lane.part() != part);
    }

    /// Takes out everything of a partition that is not given out.
    pub(super) fn drop_waiting(&mut self, part: Part) -> Vec<Ticket> {
        let mut dropped = Vec::new();
        for (_, queue) in self.queues.iter_mut().filter(|(lane, _)| lane.part() == part) {
            let given = match queue.state {
                State::Busy(given) => given,
                State::Ready | State::Held => 0,
            };
            dropped.extend(queue.tickets.drain(given..));
        }
        self.ready.retain(|lane| lane.part() != part);
        self.queues.retain(|_, queue| !queue.tickets.is_empty());
        for ticket in &dropped {
            self.of.remove(ticket);
        }
        dropped
    }

    /// What is given out of a lane whose first event this is.
    fn set(&mut self, ticket: Ticket, state: State) {
        if let Some(queue) = self.of.get(&ticket).and_then(|lane| self.queues.get_mut(lane))
            && queue.state != State::Ready
            && queue.tickets.front() == Some(&ticket)
        {
            queue.state = state;
        }
    }

    /// Makes a lane ready, or forgets it, when nothing of it is given out.
    fn settle(&mut self, lane: Lane) {
        let Some(queue) = self.queues.get_mut(&lane) else {
            return;
        };
        if queue.tickets.is_empty() {
            self.queues.remove(&lane);
        } else if queue.state == State::Busy(0) {
            queue.state = State::Ready;
            self.ready.push_back(lane);
        }
    }
}

#[cfg(test)]
mod tests;

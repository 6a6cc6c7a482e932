//! Whose turn it is with the key of an object: one event of a key is with a service's exclusive handlers at a time, whatever
//! subscription it comes by.
//!
//! What waits for a key comes to its turn in the order in which it began to wait. Who is told that it is its turn takes it, or lets
//! the next one have it: nobody waits for a key while holding another one, so that nobody waits for ever. A key that nobody
//! has or waits for takes no memory, and each event waits for one key at most.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::lanes::Ticket;

/// The keys of one service.
#[derive(Debug, Default)]
pub(super) struct Gate {
    keys: Mutex<HashMap<Bytes, Key>>,
    seats: AtomicU64,
}

/// An event of somebody's.
type Holder = (u64, Ticket);

#[derive(Debug)]
struct Key {
    /// Whose it is, or whose turn it is to take it.
    holder: Holder,
    /// Whether it was taken.
    taken: bool,
    waiting: VecDeque<(Holder, mpsc::UnboundedSender<Ticket>)>,
}

impl Gate {
    fn keys(&self) -> MutexGuard<'_, HashMap<Bytes, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys somebody has or waits for.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.keys().len()
    }
}

/// One subscription's part in it.
pub(super) struct Turns {
    gate: Arc<Gate>,
    seat: u64,
    sender: mpsc::UnboundedSender<Ticket>,
    receiver: mpsc::UnboundedReceiver<Ticket>,
    /// The events that have a key or wait for one.
    own: HashMap<Ticket, Bytes>,
    /// Those whose turn it is, and that did not take it yet.
    called: HashSet<Ticket>,
    /// Those that have their key.
    taken: HashSet<Ticket>,
}

impl Turns {
    /// Nothing waits.
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            seat: gate.seats.fetch_add(1, Ordering::Relaxed),
            gate,
            sender,
            receiver,
            own: HashMap::new(),
            called: HashSet::new(),
            taken: HashSet::new(),
        }
    }

    /// Whether an event has its key now; if not, it waits, and [`Self::next`] says when it is its turn.
    pub(super) fn enter(&mut self, ticket: Ticket, key: &Bytes) -> bool {
        let me = (self.seat, ticket);
        let mut keys = self.gate.keys();
        let entered = match keys.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Key {
                    holder: me,
                    taken: true,
                    waiting: VecDeque::new(),
                });
                true
            }
            Entry::Occupied(mut there) => {
                let there = there.get_mut();
                if there.holder == me {
                    there.taken = true;
                } else if !self.own.contains_key(&ticket) {
                    there.waiting.push_back((me, self.sender.clone()));
                }
                there.holder == me
            }
        };
        drop(keys);
        self.own.insert(ticket, key.clone());
        self.called.remove(&ticket);
        if entered {
            self.taken.insert(ticket);
        }
        entered
    }

    /// An event has its key no more, or does not wait for it any more.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Some(key) = self.own.remove(&ticket) else {
            return;
        };
        self.called.remove(&ticket);
        self.taken.remove(&ticket);
        let me = (self.seat, ticket);
        let mut keys = self.gate.keys();
        let Some(there) = keys.get_mut(&key) else {
            return;
        };
        if there.holder != me {
            there.waiting.retain(|(holder, _)| *holder != me);
            return;
        }
        while let Some((next, tell)) = there.waiting.pop_front() {
            if tell.send(next.1).is_ok() {
                there.holder = next;
                there.taken = false;
                return;
            }
        }
        keys.remove(&key);
    }

    /// Lets others have their turn where it is one of ours that was not taken: those events are to enter again.
    pub(super) fn pass(&mut self) {
        for ticket in std::mem::take(&mut self.called) {
            self.leave(ticket);
        }
    }

    /// Nothing waits any more; what has its key keeps it.
    pub(super) fn stop(&mut self) {
        let waiting: Vec<Ticket> = self.own.keys().copied().collect();
        for ticket in waiting {
            if !self.taken.contains(&ticket) {
                self.leave(ticket);
            }
        }
    }

    /// The next event whose turn it is. Cancel-safe.
    pub(super) async fn next(&mut self) -> Ticket {
        loop {
            let Some(ticket) = self.receiver.recv().await else {
                // There is always our own sender.
                return std::future::pending().await;
            };
            if self.is_turn(ticket) {
                return ticket;
            }
        }
    }

    /// Whether it is the event's turn, which it may have left since it was said.
    fn is_turn(&mut self, ticket: Ticket) -> bool {
        let Some(key) = self.own.get(&ticket) else {
            return false;
        };
        let turn = self
            .gate
            .keys()
            .get(key)
            .is_some_and(|there| there.holder == (self.seat, ticket) && !there.taken);
        if turn {
            self.called.insert(ticket);
        }
        turn
    }

    #[cfg(test)]
    fn told(&mut self) -> Option<Ticket> {
        loop {
            let ticket = self.receiver.try_recv().ok()?;
            if self.is_turn(ticket) {
                return Some(ticket);
            }
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        let own: Vec<Ticket> = self.own.keys().copied().collect();
        for ticket in own {
            self.leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    #[test]
    fn who_waits_longest_is_next_and_who_does_not_want_to_lets_the_next_one() {
        let gate = Arc::new(Gate::default());
        let [mut a, mut b, mut c] = [(); 3].map(|()| Turns::new(Arc::clone(&gate)));
        assert!(a.enter(1, &key(0)));
        assert!(!b.enter(1, &key(0)));
        assert!(!c.enter(1, &key(0)));
        assert!(b.enter(2, &key(1)), "another key is another matter");
        a.leave(1);
        // It is b's turn: a, which is as quick as ever, comes after those that waited.
        assert!(!a.enter(3, &key(0)));
        assert_eq!((b.told(), c.told()), (Some(1), None));
        b.pass();
        assert_eq!(c.told(), Some(1));
        assert!(!b.enter(1, &key(0)));
        assert!(c.enter(1, &key(0)));
        drop(c);
        assert_eq!(a.told(), Some(3));
        drop(a);
        assert_eq!(b.told(), Some(1));
        assert!(b.enter(1, &key(0)));
        b.stop();
        assert_eq!(gate.len(), 2, "what has its key keeps it");
        drop(b);
        assert_eq!(gate.len(), 0);
    }

    proptest! {
        /// One has a key at a time; while somebody waits, somebody has it or was told that it is its turn; and nothing is left.
        #[test]
        fn one_at_a_time_and_nobody_waits_for_nobody(
            steps in prop::collection::vec((0_usize..3, 0_u64..6, 0_u8..5), 0..200),
        ) {
            let gate = Arc::new(Gate::default());
            let mut all = [(); 3].map(|()| Turns::new(Arc::clone(&gate)));
            for (seat, ticket, what) in steps {
                let turns = &mut all[seat];
                let of = key(u8::try_from(ticket % 2).unwrap());
                match what {
                    0 | 1 => if !turns.taken.contains(&ticket) { turns.enter(ticket, &of); },
                    2 => turns.leave(ticket),
                    3 => if let Some(ticket) = turns.told() {
                        let of = key(u8::try_from(ticket % 2).unwrap());
                        prop_assert!(turns.enter(ticket, &of));
                    },
                    _ => { while turns.told().is_some() {} turns.pass(); }
                }
                for n in 0..2 {
                    let having = all.iter().flat_map(|turns| turns.taken.iter().filter(|ticket| turns.own[ticket] == key(n)));
                    let having = having.count();
                    prop_assert!(having <= 1);
                    let keys = gate.keys();
                    let there = keys.get(&key(n));
                    prop_assert_eq!(there.is_some_and(|there| there.taken), having == 1);
                    let interested = all.iter().flat_map(|turns| turns.own.values().filter(|own| **own == key(n))).count();
                    prop_assert_eq!(there.map_or(0, |there| 1 + there.waiting.len()), interested);
                }
            }
            drop(all);
            prop_assert_eq!(gate.len(), 0);
        }
    }
}

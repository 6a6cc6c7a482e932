//! Random schedules, checked against what must hold whatever happens.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const MAX_RECORDS: usize = 12;
const MAX_BYTES: usize = 400;
const GATHER_BYTES: usize = 90;
/// What a route may have.
const ROUTE_MAX: usize = 5;

/// What may happen. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    Produce {
        size: usize,
        patience_ms: u64,
        client: u64,
        route: usize,
    },
    CannotWrite {
        size: usize,
    },
    Departs(usize),
    Opened(usize),
    /// Fates of some records, wherever they are: also of those not sent, or of another stream.
    Reply {
        stream: usize,
        picks: Vec<usize>,
        drain: bool,
    },
    Garbled(usize),
    Closed(usize),
    Later {
        ms: u64,
    },
    RefuseOpen(bool),
    RefuseSend(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0usize..120, 0u64..200, 0u64..4, 0usize..3)
            .prop_map(|(size, patience_ms, client, route)| Event::Produce { size, patience_ms, client, route }),
        1 => (400usize..500, 0u64..200)
            .prop_map(|(size, patience_ms)| Event::Produce { size, patience_ms, client: 0, route: 0 }),
        1 => (0usize..60).prop_map(|size| Event::CannotWrite { size }),
        2 => any::<usize>().prop_map(Event::Departs),
        6 => (0usize..2).prop_map(Event::Opened),
        8 => (0usize..3, prop::collection::vec(any::<usize>(), 0..4), prop::bool::weighted(0.15))
            .prop_map(|(stream, picks, drain)| Event::Reply { stream, picks, drain }),
        1 => (0usize..3).prop_map(Event::Garbled),
        1 => (0usize..4).prop_map(Event::Closed),
        8 => prop_oneof![Just(0u64), Just(1), 2u64..60, Just(1500), Just(2500)].prop_map(|ms| Event::Later { ms }),
        1 => prop::bool::weighted(0.2).prop_map(Event::RefuseOpen),
        1 => prop::bool::weighted(0.1).prop_map(Event::RefuseSend),
    ]
}

/// What is known of a record.
#[derive(Debug, Default)]
struct Known {
    bytes: usize,
    deadline_us: u64,
    sent_on: Option<Token>,
    /// The sidecar said `stored`, on the stream that the record was sent on.
    fated: bool,
    departed: bool,
    answered: bool,
    client: u64,
    route: usize,
}

#[derive(Debug)]
struct Model {
    stream: Stream<u32>,
    world: World,
    now_us: u64,
    /// By owner; owners are given ids.
    known: BTreeMap<u32, Known>,
    ids: BTreeMap<RecordId, u32>,
    greeted: BTreeSet<Token>,
    gone: BTreeSet<Token>,
    next_tick_us: Option<u64>,
    /// What each of two bounded routes has; records without are of route 0.
    routes: [Rc<Cell<usize>>; 2],
}

impl Model {
    fn new() -> Self {
        let settings = StreamSettings {
            max_outstanding_records: MAX_RECORDS,
            max_outstanding_bytes: MAX_BYTES,
            gather_bytes: GATHER_BYTES,
        };
        Self {
            stream: Stream::new(settings),
            world: World::default(),
            now_us: 5_000_000,
            known: BTreeMap::new(),
            ids: BTreeMap::new(),
            greeted: BTreeSet::new(),
            gone: BTreeSet::new(),
            next_tick_us: None,
            routes: Default::default(),
        }
    }

    fn tag(&self, client: u64, route: usize) -> (Tag, usize) {
        let route = route.checked_sub(1).and_then(|at| self.routes.get(at)).cloned();
        (Tag { client, route }, ROUTE_MAX)
    }

    /// The n-th newest stream that is not gone, as Envoy would name it.
    fn live(&self, nth: usize) -> Option<Token> {
        let live = self
            .world
            .opened
            .iter()
            .rev()
            .filter(|token| !self.gone.contains(*token));
        live.copied().nth(nth)
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Produce {
                size,
                patience_ms,
                client,
                route,
            } => self.produce(*size, *patience_ms, *client, *route),
            Event::CannotWrite { size } => {
                let tag = self.tag(3, 2);
                let written = self
                    .stream
                    .produce(self.now_us, u64::MAX, tag, &mut self.world, |out, id| {
                        write(out, id, *size);
                        Err::<u32, _>(())
                    });
                assert!(written.is_err());
            }
            Event::Departs(pick) => {
                let waiting: Vec<_> = self.ids.iter().filter(|(_, owner)| self.waits(**owner)).collect();
                if let Some((id, owner)) = waiting.get(pick % waiting.len().max(1)) {
                    let (id, owner) = (**id, **owner);
                    assert!(self.stream.departed(id, false));
                    self.known.get_mut(&owner).unwrap().departed = true;
                }
            }
            Event::Opened(nth) => {
                if let Some(token) = self.live(*nth) {
                    self.greeted.insert(token);
                    self.stream.opened(token, self.now_us, &mut self.world);
                }
            }
            Event::Reply { stream, picks, drain } => {
                if let Some(token) = self.live(*stream).filter(|token| self.greeted.contains(token)) {
                    self.reply(token, picks, *drain);
                }
            }
            Event::Garbled(nth) => {
                if let Some(token) = self.live(*nth) {
                    self.stream
                        .reply(token, &[0x0a, 0x7f, 1], self.now_us, &mut self.world);
                }
            }
            Event::Closed(nth) => {
                if let Some(token) = self.live(*nth) {
                    self.gone.insert(token);
                    self.stream.closed(token, self.now_us, &mut self.world);
                }
            }
            Event::Later { ms } => self.later(ms * 1000),
            Event::RefuseOpen(refuse) => self.world.refuse_open = *refuse,
            Event::RefuseSend(refuse) => self.world.refuse_send = *refuse,
        }
        self.check();
    }

    fn waits(&self, owner: u32) -> bool {
        self.known
            .get(&owner)
            .is_some_and(|known| !known.departed && !known.answered)
    }

    fn produce(&mut self, size: usize, patience_ms: u64, client: u64, route: usize) {
        let owner = u32::try_from(self.known.len()).unwrap();
        let deadline_us = self.now_us + patience_ms * 1000;
        let (mut id, mut bytes) = (0, 0);
        let known = Known {
            deadline_us,
            client,
            route,
            ..Default::default()
        };
        let before = self.of(|known| known.client == client);
        self.known.insert(owner, known);
        let left = MAX_RECORDS - self.stream.outstanding();
        let tag = self.tag(client, route);
        let taken = self
            .stream
            .produce(self.now_us, deadline_us, tag, &mut self.world, |out, given| {
                let start = out.len();
                write(out, given, size);
                (id, bytes) = (given, out.len() - start);
                Ok::<_, ()>(owner)
            });
        let known = self.known.get_mut(&owner).unwrap();
        known.bytes = bytes;
        match taken {
            Ok(given) => {
                assert_eq!(given, id);
                assert!(self.ids.insert(id, owner).is_none(), "an id was used twice");
            }
            // Whoever asked answers.
            Err(refused) => {
                known.answered = true;
                let small = before * 2 < left && before < ROUTE_MAX && route == 0;
                let room = self.stream.slots.bytes() + bytes <= MAX_BYTES / 2 && small;
                let of_client = matches!(refused, Refused::Stream(CLIENT_FULL));
                assert!(!of_client || (client != 0 && !room), "{before} of {left} left");
            }
        }
    }

    /// How many of those records are outstanding.
    fn of(&self, which: impl Fn(&Known) -> bool) -> usize {
        let outstanding = self
            .ids
            .iter()
            .filter(|(id, owner)| self.stream.slots.place(**id).is_some() && which(&self.known[owner]));
        outstanding.count()
    }

    fn reply(&mut self, token: Token, picks: &[usize], drain: bool) {
        let ids: Vec<_> = self.ids.keys().copied().collect();
        let fates: Vec<_> = picks
            .iter()
            .filter_map(|pick| ids.get(pick % ids.len().max(1)).copied())
            .collect();
        for id in &fates {
            let known = self.known.get_mut(&self.ids[id]).unwrap();
            known.fated |= known.sent_on == Some(token);
        }
        self.stream
            .reply(token, &stored(&fates, drain), self.now_us, &mut self.world);
    }

    /// Lets time pass, with ticks as asked for.
    fn later(&mut self, us: u64) {
        let end_us = self.now_us + us;
        while let Some(at_us) = self.next_tick_us.filter(|at| *at <= end_us) {
            self.now_us = at_us.max(self.now_us);
            self.stream.tick(self.now_us, &mut self.world);
            self.next_tick_us = self.stream.tick_ms().map(|ms| self.now_us + u64::from(ms) * 1000);
            self.check();
            let busy = self.stream.outstanding() > 0 || matches!(self.stream.state, State::Opening { .. });
            assert!(
                busy || self.stream.tick_ms().is_none(),
                "a tick with nothing to do"
            );
        }
        self.now_us = end_us;
    }

    fn check(&mut self) {
        self.gone.extend(self.world.cancelled.drain(..));
        self.gone.extend(self.world.closed.drain(..));
        self.check_sent();
        self.check_answers();
        self.check_bounds();
        self.check_ticks();
    }

    fn check_sent(&mut self) {
        for (token, ids) in std::mem::take(&mut self.world.sent) {
            assert!(self.greeted.contains(&token), "sent before the sidecar spoke");
            let mut bytes = 0;
            for id in &ids {
                let known = self.known.get_mut(&self.ids[id]).unwrap();
                assert_eq!(known.sent_on, None, "sent twice");
                assert!(!known.departed && !known.answered, "sent for nobody");
                known.sent_on = Some(token);
                bytes += known.bytes;
            }
            assert!(ids.len() == 1 || bytes <= GATHER_BYTES);
        }
    }

    fn check_answers(&mut self) {
        for (owner, outcome) in std::mem::take(&mut self.world.answers) {
            let known = self.known.get_mut(&owner).unwrap();
            assert!(!known.answered, "answered twice");
            assert!(!known.departed, "answered, and gone");
            known.answered = true;
            match outcome {
                Outcome::Fates(_) | Outcome::Replayed(_) | Outcome::Answered(..) | Outcome::Chosen { .. } => {
                    assert!(known.fated, "stored, says nobody");
                }
                Outcome::Failed(failed) if failed.class == ErrorClass::OutcomeUnknown => {
                    assert!(
                        known.sent_on.is_some(),
                        "what was not sent is known not to be stored"
                    );
                }
                Outcome::Failed(_) => assert_eq!(known.sent_on, None, "it may be stored"),
            }
        }
        for known in self.known.values() {
            let due = known.fated && known.sent_on.is_some_and(|token| !self.gone.contains(&token));
            assert!(
                !due || known.answered || known.departed,
                "its fate is known, and nobody told it"
            );
        }
    }

    fn check_bounds(&self) {
        assert!(self.stream.outstanding() <= MAX_RECORDS);
        assert!(self.stream.slots.bytes() <= MAX_BYTES);
        for (at, route) in self.routes.iter().enumerate() {
            assert_eq!(route.get(), self.of(|known| known.route == at + 1));
            assert!(route.get() <= ROUTE_MAX);
        }
        for client in 1..4 {
            // It never has more than its share when it takes one more, hence never all.
            let own = self.of(|known| known.client == client);
            assert!(own * 5 <= MAX_RECORDS * 4 + 5, "{own}");
        }
        assert!(self.stream.draining.len() <= MAX_DRAINING);
        let held =
            |known: &&Known| !known.fated && known.sent_on.is_some_and(|token| !self.gone.contains(&token));
        let held: Vec<_> = self.known.values().filter(held).collect();
        assert!(held.len() <= MAX_RECORDS, "Envoy may hold more than that");
        assert!(held.iter().map(|known| known.bytes).sum::<usize>() <= MAX_BYTES);
        assert!(self.stream.gather.bytes.len() <= 2 * MAX_BYTES);
        let waiting = self.known.keys().filter(|owner| self.waits(**owner)).count();
        assert!(waiting <= self.stream.outstanding(), "somebody waits for nothing");
        let live = |token: &Token| !self.gone.contains(token);
        assert!(self.stream.draining.iter().all(live));
    }

    /// Ticks come while there is something to do, often enough.
    fn check_ticks(&mut self) {
        let tick_ms = self.stream.tick_ms();
        let anyone = self.known.keys().any(|owner| self.waits(*owner));
        assert!(!anyone || tick_ms.is_some(), "whoever waits would wait for ever");
        let gathered = !self.stream.gather.is_empty();
        if matches!(self.stream.state, State::Wanted) || (gathered && self.stream.is_open()) {
            assert_eq!(tick_ms, Some(GATHER_MS));
        }
        for (owner, known) in &self.known {
            let late_us = self.now_us.saturating_sub(known.deadline_us);
            assert!(
                !self.waits(*owner) || late_us <= 2 * u64::from(WATCH_MS) * 1000,
                "far too late"
            );
        }
        // A changed period starts anew.
        let due_us = tick_ms.map(|ms| self.now_us + u64::from(ms) * 1000);
        self.next_tick_us = match (self.next_tick_us, due_us) {
            (Some(at), Some(due)) => Some(at.min(due)),
            (_, due) => due,
        };
    }

    /// Whatever happened, in the end everybody is answered and nothing is left.
    fn settle(&mut self) {
        self.later(3_000_000);
        assert!(
            !self.known.keys().any(|owner| self.waits(*owner)),
            "somebody was never answered"
        );
        while let Some(token) = self.live(0) {
            self.gone.insert(token);
            self.stream.closed(token, self.now_us, &mut self.world);
            self.check();
        }
        self.later(100_000);
        assert_eq!(self.stream.outstanding(), 0);
        assert_eq!(self.stream.slots.bytes(), 0);
        assert!(self.stream.slots.shares().is_empty());
        assert!(self.routes.iter().all(|route| route.get() == 0));
        assert_eq!(self.stream.tick_ms(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn any_schedule_answers_everybody_once_and_truthfully(events in prop::collection::vec(event(), 1..120)) {
        let mut model = Model::new();
        for event in &events {
            model.apply(event);
        }
        model.settle();
    }
}

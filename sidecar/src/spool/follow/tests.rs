//! Order against a model, and that a key leaves the spool.

use proptest::prelude::*;

use super::*;

/// Keys, of which some share a place.
const KEYS: usize = 6;
const PLACES: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// A record comes that may go to the producer.
    Come(usize),
    /// A record comes that is spooled: the cluster is away, or it is meant to be.
    Spool(usize),
    /// The drainer delivers the first record of a key.
    Deliver(usize),
    /// What is delivered is removed from the disk.
    Remove,
    /// The drainer takes lines that may go, and hands them over.
    Take,
    HandOver,
    /// The cluster is away: lines are spooled.
    Flush,
    /// The first of a line has waited for long.
    Late(usize),
    /// It is given up.
    Over(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS).prop_map(Step::Come),
        2 => (0..KEYS).prop_map(Step::Spool),
        4 => (0..KEYS).prop_map(Step::Deliver),
        2 => Just(Step::Remove),
        2 => Just(Step::Take),
        2 => Just(Step::HandOver),
        1 => Just(Step::Flush),
        1 => (0..PLACES).prop_map(Step::Late),
        1 => (0..KEYS).prop_map(Step::Over),
    ]
}

type Record = (usize, u64);

#[derive(Default)]
struct World {
    next: u64,
    disk: Vec<Record>,
    delivered: Vec<Record>,
    taken: Vec<(Place, Vec<Record>)>,
    /// What Kafka has, in its order.
    log: Vec<Record>,
    given_up: Vec<Record>,
}

fn of(key: usize) -> Place {
    key % PLACES
}

impl World {
    fn step(&mut self, following: &mut Following<Record>, step: &Step) {
        match step {
            Step::Come(key) => {
                let record = (*key, self.next);
                self.next += 1;
                if following.is_busy(of(*key)) {
                    following.wait(of(*key), record);
                } else {
                    self.log.push(record);
                }
            }
            Step::Spool(key) => {
                self.disk.extend(following.spool(of(*key)));
                self.disk.push((*key, self.next));
                self.next += 1;
            }
            Step::Deliver(key) => {
                // One thread does both, in this order.
                self.step(following, &Step::HandOver);
                if let Some(at) = self.disk.iter().position(|(of, _)| of == key) {
                    let record = self.disk.remove(at);
                    self.log.push(record);
                    self.delivered.push(record);
                }
            }
            Step::Remove => {
                for (key, _) in self.delivered.drain(..) {
                    following.uncount(of(key));
                }
            }
            Step::Take => self.taken.extend(following.take_ready()),
            Step::HandOver => {
                for (place, records) in self.taken.drain(..) {
                    self.log.extend(records);
                    following.left(place);
                }
            }
            Step::Flush => {
                let places: Vec<Place> = following.lines().iter().map(|(place, _)| *place).collect();
                for place in places {
                    self.disk.extend(following.take_line(place));
                }
            }
            Step::Late(place) => self.disk.extend(following.take_late(*place, |_| true)),
            Step::Over(key) => {
                let over = following.take_over(of(*key), |(of, _)| of == key);
                self.given_up.extend(over);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes between: of a key Kafka gets the records in the order in which they came, each once, and when
    /// nothing comes any more nothing follows any more.
    #[test]
    fn a_key_keeps_its_order_and_leaves(steps in prop::collection::vec(step(), 1..100)) {
        let mut following = Following::with_places(PLACES);
        let mut world = World::default();
        for step in &steps {
            world.step(&mut following, step);
        }
        for _ in 0..steps.len() * 2 + 4 {
            if !following.is_any_busy() {
                break;
            }
            for key in 0..KEYS {
                world.step(&mut following, &Step::Deliver(key));
            }
            for step in [Step::Remove, Step::Take, Step::HandOver] {
                world.step(&mut following, &step);
            }
        }
        for key in 0..KEYS {
            let ids: Vec<u64> = world.log.iter().filter(|(of, _)| *of == key).map(|(_, id)| *id).collect();
            prop_assert!(ids.is_sorted_by(|a, b| a < b), "key {}: {:?}", key, ids);
        }
        prop_assert_eq!((world.log.len() + world.given_up.len()) as u64, world.next);
        prop_assert!(!following.is_any_busy());
        prop_assert_eq!(following.waiting(), 0);
    }
}

/// Clients that never pause, and come faster than one record at a time is delivered.
#[test]
fn a_key_leaves_although_more_come_than_go() {
    let mut following = Following::with_places(PLACES);
    let mut world = World::default();
    for _ in 0..100 {
        world.step(&mut following, &Step::Spool(0));
    }
    let mut rounds = 0;
    while following.is_any_busy() {
        rounds += 1;
        for _ in 0..5 {
            world.step(&mut following, &Step::Come(0));
        }
        // Each of them has waited for too long at once.
        for _ in 0..5 {
            world.step(&mut following, &Step::Late(0));
        }
        for step in [Step::Deliver(0), Step::Remove, Step::Take, Step::HandOver] {
            world.step(&mut following, &step);
        }
        assert!(rounds <= 201, "{} are left", world.disk.len());
    }
    assert!(world.log.iter().is_sorted(), "{:?}", world.log);
    assert_eq!(world.log.len() as u64, world.next);
}

#[test]
fn a_key_has_one_place_and_lanes_do_not_share_it() {
    let following = Following::<()>::default();
    let lane = |topic: &str| Lane {
        cluster: "main".to_owned(),
        producer: "default".to_owned(),
        topic: topic.to_owned(),
    };
    assert_eq!(
        following.place(&lane("a"), b"k"),
        following.place(&lane("a"), b"k")
    );
    // One in a million that these do by chance.
    assert_ne!(
        following.place(&lane("a"), b"k"),
        following.place(&lane("b"), b"k")
    );
}

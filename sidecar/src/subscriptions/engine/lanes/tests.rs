use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn key(name: &'static str) -> Lane {
    Lane::Key(0, Bytes::from_static(name.as_bytes()))
}

fn one(lanes: &mut Lanes) -> Option<Ticket> {
    lanes.next(1, |_| false).first().copied()
}

#[test]
fn keys_go_side_by_side_and_each_in_order() {
    let mut lanes = Lanes::default();
    for (ticket, name) in [(1, "a"), (2, "a"), (3, "b")] {
        lanes.offer(ticket, key(name));
    }
    assert_eq!(
        (one(&mut lanes), one(&mut lanes), one(&mut lanes)),
        (Some(1), Some(3), None)
    );
    lanes.done(1);
    assert_eq!(one(&mut lanes), Some(2));
}

#[test]
fn a_held_event_holds_its_lane_only() {
    let mut lanes = Lanes::default();
    for (ticket, name) in [(1, "a"), (2, "a"), (3, "b")] {
        lanes.offer(ticket, key(name));
    }
    one(&mut lanes);
    lanes.hold(1);
    assert!(lanes.is_held(1) && lanes.is_held(2) && !lanes.is_held(3));
    assert_eq!(lanes.behind(1), [2]);
    assert_eq!((one(&mut lanes), one(&mut lanes)), (Some(3), None));
    lanes.release(2);
    assert_eq!(one(&mut lanes), None);
    lanes.release(1);
    lanes.release(1);
    assert_eq!((one(&mut lanes), one(&mut lanes)), (Some(1), None));
    lanes.hold(1);
    lanes.done(1);
    assert_eq!(one(&mut lanes), Some(2));
}

#[test]
fn a_request_of_several_has_them_in_order() {
    let mut lanes = Lanes::default();
    for (ticket, name) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c")] {
        lanes.offer(ticket, key(name));
    }
    assert_eq!((lanes.gatherable(9), lanes.gatherable(4)), (5, 4));
    assert_eq!(lanes.next(4, |ticket| ticket == 4 || ticket == 5), [1, 3, 2]);
    assert_eq!(lanes.next(4, |ticket| ticket == 5), [5]);
    assert_eq!(one(&mut lanes), None);
    lanes.done(3);
    assert_eq!(one(&mut lanes), None);
    lanes.done(1);
    assert_eq!(one(&mut lanes), Some(4));
}

#[test]
fn what_is_given_back_goes_again() {
    let mut lanes = Lanes::default();
    for ticket in 1..=3 {
        lanes.offer(ticket, key("a"));
    }
    assert_eq!(lanes.next(3, |_| false), [1, 2, 3]);
    lanes.again(1);
    assert_eq!(lanes.next(3, |ticket| ticket == 1), [1]);
    lanes.done(1);
    assert_eq!(lanes.next(3, |_| false), [2, 3]);
    lanes.only(2);
    lanes.done(2);
    assert_eq!(one(&mut lanes), Some(3));
}

#[test]
fn what_was_held_before_waits_from_the_beginning() {
    let mut lanes = Lanes::default();
    lanes.offer_held(1, key("a"));
    lanes.offer_held(2, key("a"));
    lanes.offer(3, key("b"));
    assert_eq!((one(&mut lanes), one(&mut lanes)), (Some(3), None));
    lanes.release(1);
    assert_eq!(one(&mut lanes), Some(1));
    lanes.done(1);
    assert_eq!(one(&mut lanes), Some(2));
}

#[test]
fn what_is_given_out_outlives_its_partition() {
    let mut lanes = Lanes::default();
    for (ticket, name) in [(1, "a"), (2, "a"), (3, "b")] {
        lanes.offer(ticket, key(name));
    }
    lanes.offer(9, Lane::Partition(1));
    one(&mut lanes);
    let dropped: BTreeSet<_> = lanes.drop_waiting(0).into_iter().collect();
    assert_eq!(dropped, BTreeSet::from([2, 3]));
    assert_eq!((one(&mut lanes), one(&mut lanes)), (Some(9), None));
    lanes.done(1);
    lanes.drop_part(1);
    lanes.done(9);
    assert!(lanes.queues.is_empty() && lanes.of.is_empty() && lanes.ready.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u8),
    Next(usize),
    Done(prop::sample::Index),
    Hold(prop::sample::Index),
    Release(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (0_u8..4).prop_map(Step::Offer),
        3 => (1_usize..4).prop_map(Step::Next),
        2 => index().prop_map(Step::Done),
        1 => index().prop_map(Step::Hold),
        1 => index().prop_map(Step::Release),
    ]
}

proptest! {
    /// Of a lane nothing is given out while something is; everything is given out in order, and in the end all of it.
    #[test]
    fn order_holds_and_nothing_is_forgotten(steps in prop::collection::vec(step(), 1..200)) {
        let mut lanes = Lanes::default();
        let lane = |n: u8| Lane::Key(0, Bytes::copy_from_slice(&[n]));
        // By lane, what is in it.
        let mut model: BTreeMap<u8, VecDeque<Ticket>> = BTreeMap::new();
        let mut of: BTreeMap<Ticket, u8> = BTreeMap::new();
        let mut given: Vec<Ticket> = Vec::new();
        let mut held: Vec<Ticket> = Vec::new();
        let mut last = 0;
        let pick = |from: &Vec<Ticket>, at: prop::sample::Index| (!from.is_empty()).then(|| from[at.index(from.len())]);
        for step in steps {
            match step {
                Step::Offer(n) => {
                    last += 1;
                    lanes.offer(last, lane(n));
                    model.entry(n).or_default().push_back(last);
                    of.insert(last, n);
                }
                Step::Next(most) => {
                    let got = lanes.next(most, |_| false);
                    prop_assert!(got.len() <= most);
                    let mut at: BTreeMap<u8, usize> = BTreeMap::new();
                    for ticket in got {
                        let n = of[&ticket];
                        let busy = given.iter().chain(&held).any(|other| of[other] == n && !at.contains_key(&n));
                        prop_assert!(!busy, "{ticket} goes beside another of its lane");
                        let at = at.entry(n).or_default();
                        prop_assert_eq!(model[&n].get(*at), Some(&ticket));
                        *at += 1;
                        given.push(ticket);
                    }
                }
                Step::Done(at) => if let Some(ticket) = pick(&given, at) {
                    lanes.done(ticket);
                    given.retain(|other| *other != ticket);
                    model.get_mut(&of[&ticket]).unwrap().retain(|other| *other != ticket);
                },
                Step::Hold(at) => if let Some(ticket) = pick(&given, at) {
                    let n = of[&ticket];
                    let first = model[&n][0];
                    lanes.hold(first);
                    given.retain(|other| of[other] != n);
                    held.push(first);
                },
                Step::Release(at) => if let Some(ticket) = pick(&held, at) {
                    lanes.release(ticket);
                    held.retain(|other| *other != ticket);
                },
            }
        }
        for ticket in held { lanes.release(ticket); }
        loop {
            for ticket in given.drain(..) {
                lanes.done(ticket);
                model.get_mut(&of[&ticket]).unwrap().retain(|other| *other != ticket);
            }
            given = lanes.next(3, |_| false);
            if given.is_empty() { break; }
        }
        prop_assert!(model.values().all(VecDeque::is_empty));
        prop_assert!(lanes.of.is_empty() && lanes.queues.is_empty() && lanes.ready.is_empty());
    }
}

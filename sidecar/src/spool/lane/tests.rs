//! Order and retries, without disk or Kafka.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(60);

fn window() -> Window {
    Window::new(GRACE)
}

fn entry(key: Option<&str>, spooled_ms: i64) -> Entry {
    Entry {
        key: key.map(|key| key.to_owned().into()),
        spooled_ms,
        ..Entry::default()
    }
}

fn failed(class: ErrorClass) -> Outcome {
    Failure::new(class, "what happened").into()
}

const STORED: Outcome = Outcome::Stored {
    partition: 0,
    offset: 0,
};

fn all(window: &mut Window, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| window.next(now).map(|(number, _)| number)).collect()
}

#[test]
fn a_key_waits_for_its_own_records_only() {
    let now = Instant::now();
    let mut window = window();
    for (number, key) in [
        (1, Some("a")),
        (2, Some("b")),
        (3, Some("a")),
        (4, None),
        (5, Some("a")),
        (6, None),
    ] {
        window.push(number, entry(key, 0), 10);
    }
    assert_eq!(all(&mut window, now), [1, 2, 4, 6]);
    assert_eq!(window.settled(1, &STORED, now), Some(Verdict::Stored));
    assert_eq!(all(&mut window, now), [3]);
    // It is tried again before its successor, after a pause.
    let again = Verdict::Again { perhaps_stored: true };
    assert_eq!(
        window.settled(3, &failed(ErrorClass::OutcomeUnknown), now),
        Some(again)
    );
    assert_eq!(all(&mut window, now), [0_u64; 0]);
    let later = window.due().unwrap();
    assert_eq!(all(&mut window, later), [3]);
    window.settled(3, &STORED, later);
    assert_eq!(all(&mut window, later), [5]);
    for number in [2, 4, 5, 6] {
        window.settled(number, &STORED, later);
    }
    assert_eq!((window.len(), window.bytes()), (0, 0));
}

#[test]
fn what_kafka_refuses_is_tried_alone_before_it_is_given_up() {
    let now = Instant::now();
    let mut window = window();
    for (number, key) in [(1, "bad"), (2, "good"), (3, "bad")] {
        window.push(number, entry(Some(key), 0), 1);
    }
    assert_eq!(all(&mut window, now), [1, 2]);
    // One request carried both: the broker refuses it as a whole.
    let refused = failed(ErrorClass::BrokerRejected);
    window.settled(2, &refused, now);
    assert_eq!(all(&mut window, now), [0_u64; 0], "1 is still under way");
    window.settled(1, &refused, now);
    let mut tries = 0;
    loop {
        assert_eq!(all(&mut window, now), [1], "alone, and in its order");
        tries += 1;
        match window.settled(1, &refused, now) {
            Some(Verdict::Dead(failure)) => {
                assert_eq!(failure.message, "what happened");
                break;
            }
            verdict => assert!(matches!(verdict, Some(Verdict::Again { .. })), "{verdict:?}"),
        }
    }
    assert_eq!(tries, ALONE);
    assert_eq!(all(&mut window, now), [2], "alone, too");
    assert_eq!(window.settled(2, &STORED, now), Some(Verdict::Stored));
    assert_eq!(all(&mut window, now), [3], "the poison does not block its key");
}

#[test]
fn a_topic_is_given_up_when_the_grace_is_over_and_forgiven_when_it_is_there() {
    let start = Instant::now();
    let mut window = window();
    window.push(1, entry(None, 0), 1);
    window.push(2, entry(None, 0), 1);
    let unknown = failed(ErrorClass::UnknownTopic);
    assert_eq!(all(&mut window, start), [1, 2]);
    assert!(matches!(
        window.settled(1, &unknown, start),
        Some(Verdict::Again { .. })
    ));
    assert_eq!(window.settled(2, &STORED, start), Some(Verdict::Stored));
    // The topic was there meanwhile: a new record has all of the grace again, the old one has its own.
    window.push(3, entry(None, 0), 1);
    let late = start + GRACE;
    assert_eq!(all(&mut window, late), [1, 3]);
    assert!(matches!(
        window.settled(3, &unknown, late),
        Some(Verdict::Again { .. })
    ));
    assert!(matches!(
        window.settled(1, &unknown, late),
        Some(Verdict::Dead(_))
    ));
}

#[test]
fn pauses_grow_to_a_bound() {
    let mut now = Instant::now();
    let mut window = window();
    window.push(1, entry(None, 0), 1);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(all(&mut window, now), [1]);
        window.settled(1, &failed(ErrorClass::ClusterUnavailable), now);
        let due = window.due().unwrap();
        pauses.push(due - now);
        now = due;
    }
    assert_eq!(pauses[..3], [PAUSE, PAUSE * 2, PAUSE * 4]);
    assert_eq!(pauses[11], LONGEST_PAUSE);
}

#[test]
fn what_is_too_old_leaves_in_its_order_unless_it_is_under_way() {
    let now = Instant::now();
    let mut window = window();
    for number in 1..=4 {
        window.push(number, entry(Some("a"), i64::try_from(number).unwrap()), 1);
    }
    assert_eq!(all(&mut window, now), [1]);
    let expired: Vec<u64> = window.expire(4).into_iter().map(|(number, _)| number).collect();
    assert_eq!(expired, [2, 3], "1 is under way");
    assert_eq!(all(&mut window, now), [0_u64; 0], "1 is before 4");
    window.settled(1, &STORED, now);
    assert_eq!(all(&mut window, now), [4]);
    window.settled(4, &failed(ErrorClass::ClusterUnavailable), now);
    assert_eq!(window.expire(5).len(), 1);
    assert_eq!((window.len(), window.bytes(), window.due()), (0, 0, None));
}

proptest! {
    /// Whatever becomes of attempts, records of a key are stored in their order and none is forgotten.
    #[test]
    fn every_key_keeps_its_order(
        keys in prop::collection::vec(prop::option::of(0..4_u8), 1..60),
        fates in prop::collection::vec((0..8_u8, 0..1000_usize), 400),
    ) {
        let mut window = window();
        let mut now = Instant::now();
        for (number, key) in (1..).zip(&keys) {
            window.push(number, entry(key.map(|key| key.to_string()).as_deref(), 0), 1);
        }
        let mut under_way: Vec<u64> = Vec::new();
        let mut ended: Vec<u64> = Vec::new();
        let mut fates = fates.into_iter();
        while ended.len() < keys.len() {
            under_way.extend(all(&mut window, now));
            if under_way.is_empty() {
                now = window.due().expect("something is to be done");
                continue;
            }
            let of_key = |number: &u64| keys[usize::try_from(*number).unwrap() - 1];
            for key in 0..4 {
                let same = under_way.iter().filter(|number| of_key(number) == Some(key)).count();
                prop_assert!(same <= 1, "{under_way:?}");
            }
            let (fate, at) = fates.next().unwrap_or((0, 0));
            let number = under_way.remove(at % under_way.len());
            let outcome = match fate {
                1 => failed(ErrorClass::OutcomeUnknown),
                2 => failed(ErrorClass::BrokerRejected),
                3 => failed(ErrorClass::UnknownTopic),
                4 => failed(ErrorClass::ClusterUnavailable),
                _ => STORED,
            };
            match window.settled(number, &outcome, now) {
                Some(Verdict::Again { .. }) => {}
                _ => {
                    let after = ended.iter().filter(|other| of_key(other).is_some() && of_key(other) == of_key(&number));
                    prop_assert!(after.into_iter().all(|other| *other < number), "{ended:?} then {number}");
                    ended.push(number);
                }
            }
        }
        prop_assert_eq!((window.len(), window.bytes()), (0, 0));
    }
}

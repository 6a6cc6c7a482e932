//! Random schedules of requests, writes, outcomes, failures of the disk, and crashes after which the disk has forgotten
//! what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sluice_proto::v1::{self, ErrorClass};

use super::super::{Ask, Keys, Landings, Onward, writer};
use super::open;
use crate::config;
use crate::disk::Disk;
use crate::kafka::record::{Failure, Outcome, Recipient};
use crate::metrics::Metrics;
use crate::produce::FateSink;

/// What happens.
#[derive(Debug, Clone)]
enum Op {
    /// A request with that key and that body.
    Ask { key: u8, body: u8 },
    /// What waits for the disk is written, if the disk works for so many operations.
    Write { works: Option<usize> },
    /// One of the records that were handed on has its outcome.
    Land { which: usize, fates: [Fate; 2] },
    /// Everybody has waited too long.
    Late,
    /// The power is cut: of what is under way each is stored or not.
    Crash { seed: u64 },
}

/// What becomes of a record in a topic.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stored,
    Accepted,
    NotStored,
    UnknownStored,
    UnknownNot,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Stored),
        1 => Just(Fate::Accepted),
        3 => Just(Fate::NotStored),
        1 => Just(Fate::UnknownStored),
        1 => Just(Fate::UnknownNot),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u8, prop_oneof![4 => Just(0_u8), 1 => Just(1_u8)])
            .prop_map(|(key, body)| Op::Ask { key, body }),
        5 => prop::option::weighted(0.3, 0..25_usize).prop_map(|works| Op::Write { works }),
        5 => (any::<usize>(), [fate(), fate()]).prop_map(|(which, fates)| Op::Land { which, fates }),
        1 => Just(Op::Late),
        1 => any::<u64>().prop_map(|seed| Op::Crash { seed }),
    ]
}

/// The topics of a key's records: the last key has two.
fn topics(key: u8) -> Vec<String> {
    let topics = if key == 2 { 2 } else { 1 };
    (0..topics).map(|topic| format!("t{topic}")).collect()
}

/// Who asked for what.
#[derive(Debug, Clone, Copy)]
struct Asked {
    key: u8,
    body: u8,
    /// How many records of the key were stored before.
    before: usize,
}

/// A record in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    key: u8,
    body: u8,
    /// The request that it was written for.
    by: u64,
    topic: String,
    offset: i64,
}

#[derive(Default)]
struct World {
    /// Records that were handed on and have no outcome, with where that goes.
    handed: Vec<(v1::Record, Arc<Landings>)>,
    log: Vec<Written>,
    asked: BTreeMap<u64, Asked>,
    /// Those who were told.
    told: BTreeSet<u64>,
    /// Keys of which something was lost or never known.
    doubt: BTreeSet<u8>,
    wrong: Vec<String>,
}

/// A record's value says whose it is.
fn whose(record: &v1::Record) -> (u8, u8, u64) {
    let value = record.value.as_deref().unwrap();
    let by = u64::from_be_bytes(value[2..].try_into().unwrap());
    (value[0], value[1], by)
}

impl World {
    fn stored(&self, key: u8) -> usize {
        self.log.iter().filter(|written| written.key == key).count()
    }

    fn write(&mut self, record: &v1::Record, topic: &str) -> Outcome {
        let (key, body, by) = whose(record);
        let offset = i64::try_from(self.log.len()).unwrap();
        if self
            .log
            .iter()
            .any(|found| found.key == key && found.topic == topic)
        {
            self.wrong
                .push(format!("a second record of key {key} in {topic}"));
        }
        self.log.push(Written {
            key,
            body,
            by,
            topic: topic.to_owned(),
            offset,
        });
        Outcome::Stored { partition: 0, offset }
    }

    fn land(&mut self, which: usize, fates: [Fate; 2]) -> Option<(Arc<Landings>, u64, Vec<Outcome>)> {
        if self.handed.is_empty() {
            return None;
        }
        let which = which % self.handed.len();
        let (record, landings) = self.handed.swap_remove(which);
        let mut outcomes = Vec::new();
        for (topic, fate) in record.topics.iter().zip(fates) {
            let unknown = || Failure::new(ErrorClass::OutcomeUnknown, "the broker did not say").into();
            outcomes.push(match fate {
                Fate::Stored => self.write(&record, topic),
                Fate::Accepted => {
                    self.write(&record, topic);
                    Outcome::Accepted
                }
                Fate::NotStored => Failure::new(ErrorClass::ClusterUnavailable, "away").into(),
                Fate::UnknownStored => {
                    self.write(&record, topic);
                    self.doubt.insert(whose(&record).0);
                    unknown()
                }
                Fate::UnknownNot => {
                    self.doubt.insert(whose(&record).0);
                    unknown()
                }
            });
        }
        Some((landings, record.id, outcomes))
    }

    /// Somebody is told something: is it true?
    fn tell(&mut self, token: u64, outcomes: &[Outcome], replayed: bool) {
        let Some(asked) = self.asked.get(&token).copied() else {
            self.wrong.push(format!("{token} never asked"));
            return;
        };
        let mut complain = |what: &str| {
            self.wrong
                .push(format!("{token} ({asked:?}) is told {outcomes:?}: {what}"));
        };
        if !self.told.insert(token) {
            complain("a second answer");
        }
        let names = topics(asked.key);
        let success = outcomes.iter().all(|o| !matches!(o, Outcome::Failed(_)));
        if success && outcomes.len() != names.len() || replayed && !success {
            complain("no answer for each topic");
        }
        let written = |topic: &String| {
            let mut found = self
                .log
                .iter()
                .filter(|w| w.key == asked.key && w.topic == *topic);
            found.next()
        };
        for (outcome, topic) in outcomes.iter().zip(&names) {
            match outcome {
                Outcome::Stored { offset, .. } => match written(topic) {
                    Some(found) if found.offset == *offset && found.body == asked.body => {
                        if replayed && found.by == token {
                            complain("it is no replay");
                        }
                    }
                    _ => complain("that is not there"),
                },
                Outcome::Accepted if written(topic).is_none_or(|found| found.body != asked.body) => {
                    complain("that is not there");
                }
                Outcome::Accepted => {}
                Outcome::Failed(failure) => match failure.class {
                    ErrorClass::OutcomeUnknown => {
                        if failure.message.contains("nobody knows") && !self.doubt.contains(&asked.key) {
                            complain("somebody does");
                        }
                    }
                    ErrorClass::IdempotencyKeyReused => {}
                    // Certainly not stored, for this request.
                    _ if outcomes.len() == names.len() && names.len() > 1 => {
                        if written(topic).is_some() {
                            complain("it is there");
                        }
                    }
                    _ => {
                        if self.log.iter().filter(|w| w.key == asked.key).count() != asked.before {
                            complain("something was written");
                        }
                    }
                },
            }
        }
    }
}

/// What a life of the sidecar shares with the world.
struct Life(Arc<Mutex<World>>);

impl Onward for Life {
    fn hand_on(&self, records: Vec<(v1::Record, Instant)>, to: &Arc<Landings>) {
        let mut world = self.0.lock().unwrap();
        let records = records.into_iter().map(|(record, _)| (record, Arc::clone(to)));
        world.handed.extend(records);
    }
}

impl Recipient for Life {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        for (token, outcome) in outcomes.drain(..) {
            self.0.lock().unwrap().tell(token, &[outcome], false);
        }
    }
}

impl FateSink for Life {
    fn settle_many(&self, token: u64, outcomes: Vec<Outcome>, replayed: bool) {
        self.0.lock().unwrap().tell(token, &outcomes, replayed);
    }
}

struct Bench {
    disk: Disk,
    keys: Keys,
    life: Arc<Life>,
    world: Arc<Mutex<World>>,
    next: u64,
}

fn keys(disk: &Disk, life: &Arc<Life>) -> Keys {
    let settings = config::Idempotency {
        directory: PathBuf::from("disk"),
        max_keys: 100,
        window: Duration::from_secs(3600),
    };
    let metrics = Arc::new(Metrics::default());
    let keys = Keys::over(&settings, open(disk).unwrap(), metrics.idempotency()).unwrap();
    let onward: Weak<Life> = Arc::downgrade(life);
    *keys.shared.onward.lock().unwrap() = onward;
    keys
}

impl Bench {
    fn new() -> Self {
        let world = Arc::<Mutex<World>>::default();
        let life = Arc::new(Life(Arc::clone(&world)));
        let disk = Disk::default();
        Self {
            keys: keys(&disk, &life),
            disk,
            life,
            world,
            next: 0,
        }
    }

    fn ask(&mut self, key: u8, body: u8) -> u64 {
        self.next += 1;
        let token = self.next;
        let before = self.world.lock().unwrap().stored(key);
        let asked = Asked { key, body, before };
        self.world.lock().unwrap().asked.insert(token, asked);
        let value = [&[key, body][..], &token.to_be_bytes()].concat();
        let record = v1::Record {
            id: token,
            topics: topics(key),
            value: Some(value.into()),
            idempotency: Some(v1::Idempotency {
                key: vec![b'k', key].into(),
                fingerprint: vec![body].into(),
                window_ms: 0,
            }),
            ..v1::Record::default()
        };
        let sink = Arc::clone(&self.life) as Arc<dyn FateSink>;
        let deadline = Instant::now() + Duration::from_secs(3600);
        let ask = Ask::new(record, "main", self.keys.window(), (sink, token), deadline);
        self.keys.ask(vec![ask.unwrap()]);
        token
    }

    fn write(&self, works: Option<usize>) {
        self.disk.0.lock().unwrap().works = works;
        let now_ms = crate::epoch::now_ms();
        let batch = writer::take(&mut self.keys.shared.lock(), now_ms);
        writer::write(&self.keys.shared, batch, now_ms);
        // The pause is over.
        self.disk.0.lock().unwrap().works = None;
        self.keys.shared.lock().broken = None;
    }

    fn crash(&mut self, seed: u64) {
        let disk = self.disk.after_power_cut(seed);
        // A dead sidecar tells nobody anything, and writes nothing more.
        self.disk.0.lock().unwrap().works = Some(0);
        {
            let mut world = self.world.lock().unwrap();
            let handed = std::mem::take(&mut world.handed);
            for (n, (record, _)) in (0_u32..).zip(handed) {
                for (m, topic) in (0_u32..).zip(&record.topics) {
                    if seed.rotate_left(n * 2 + m) & 1 == 1 {
                        world.write(&record, topic);
                    }
                }
            }
            let mut state = self.keys.shared.lock();
            let flights: Vec<_> = state.flights.drain().collect();
            for key in 0..3 {
                let (named, written) = (topics(key), [b'k', key]);
                let scope = [&b"main"[..], &written].into_iter();
                let name =
                    sluice_proto::idempotency::fingerprint(scope.chain(named.iter().map(String::as_bytes)));
                if flights.iter().any(|(flight, _)| *flight == name) {
                    world.doubt.insert(key);
                }
            }
        }
        self.life = Arc::new(Life(Arc::clone(&self.world)));
        // Those who waited never hear of it.
        let mut world = self.world.lock().unwrap();
        let waiting: Vec<u64> = world.asked.keys().copied().collect();
        world.told.extend(waiting);
        drop(world);
        self.keys = keys(&disk, &self.life);
        self.disk = disk;
    }

    fn late(&self) {
        let late = self
            .keys
            .shared
            .lock()
            .expire(Instant::now() + Duration::from_secs(7200));
        for (waiter, told) in late {
            waiter.tell(told);
        }
    }

    fn land(&self, which: usize, fates: [Fate; 2]) -> bool {
        let landed = self.world.lock().unwrap().land(which, fates);
        let Some((landings, id, outcomes)) = landed else {
            return false;
        };
        match outcomes.as_slice() {
            [one] => landings.settle(&mut vec![(id, one.clone())]),
            _ => landings.settle_many(id, outcomes, false),
        }
        true
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Ask { key, body } => drop(self.ask(key, body)),
            Op::Write { works } => self.write(works),
            Op::Land { which, fates } => drop(self.land(which, fates)),
            Op::Late => self.late(),
            Op::Crash { seed } => self.crash(seed),
        }
    }

    /// Everything that is under way comes to an end.
    fn settle(&self) {
        for _ in 0..100 {
            self.write(None);
            while self.land(0, [Fate::Stored; 2]) {}
            if self.keys.shared.lock().flights.is_empty() {
                return;
            }
        }
        panic!("it never ends");
    }

    fn complaints(&self) -> Vec<String> {
        self.world.lock().unwrap().wrong.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever happens in whatever order: a key's record is written once, nobody is told what is not so, everybody is
    /// told something, and nothing is left over.
    #[test]
    fn a_key_is_written_once_and_every_answer_is_true(ops in prop::collection::vec(op(), 1..60)) {
        let mut bench = Bench::new();
        for op in ops {
            bench.run(op);
            prop_assert_eq!(bench.complaints(), Vec::<String>::new());
        }
        bench.settle();
        // Each key once more.
        for key in 0..3 {
            bench.ask(key, 0);
        }
        bench.settle();
        prop_assert_eq!(bench.complaints(), Vec::<String>::new());
        let state = bench.keys.shared.lock();
        prop_assert_eq!((state.waiting, state.queued, state.handed.len()), (0, 0, 0));
        prop_assert!(state.begin.is_empty() && state.end.is_empty());
        let held = bench.keys.shared.store.held().unwrap().0;
        prop_assert!(held <= 3 && held == state.held);
        let world = bench.world.lock().unwrap();
        let all: BTreeSet<u64> = world.asked.keys().copied().collect();
        prop_assert_eq!(&world.told, &all);
    }
}

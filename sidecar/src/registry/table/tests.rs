//! Several replicas, each with its own view of one topic that is compacted under them, against what the whole topic says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Entry = (Name, Option<Vec<u8>>);

/// The topic: what is left of it, by offset, and everything that was ever written.
#[derive(Default)]
struct Log {
    left: BTreeMap<usize, Entry>,
    whole: Vec<Entry>,
}

impl Log {
    fn append(&mut self, entry: Entry) {
        self.left.insert(self.whole.len(), entry.clone());
        self.whole.push(entry);
    }

    /// Drops some of what a later record of the same Kafka key replaces, and then some of the tombstones that everybody has
    /// read and that replace nothing any more: a cleaner that stops anywhere, between any two segments.
    ///
    /// From `young` on nothing is old enough yet.
    fn compact(&mut self, seed: u64, read_by_all: usize, young: usize) {
        let mut random = seed;
        let mut coin = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) & 1 == 1
        };
        let mut last = BTreeMap::new();
        for (offset, (name, _)) in &self.left {
            last.insert(name.clone(), *offset);
        }
        self.left
            .retain(|offset, (name, _)| *offset >= young || last.get(name) == Some(offset) || coin());
        let mut first = BTreeMap::new();
        for (offset, (name, _)) in &self.left {
            first.entry(name.clone()).or_insert(*offset);
        }
        self.left.retain(|offset, (name, value)| {
            let replaces = first.get(name) != Some(offset);
            value.is_some() || replaces || *offset >= read_by_all.min(young) || coin()
        });
    }
}

/// What the whole topic says, by the plainest of rules: a change is accepted if it is the next version of what is there.
fn whole(log: &Log) -> (BTreeMap<Arc<str>, Name>, BTreeSet<Name>) {
    let mut rows: BTreeMap<Arc<str>, Name> = BTreeMap::new();
    let mut accepted = BTreeSet::new();
    for (name, value) in &log.whole {
        let now = rows.get(&name.key);
        let next = now.map_or(0, |now| now.version) + 1 == name.version;
        if value.is_some() && next {
            accepted.insert(name.clone());
        }
        if value.is_none() && now == Some(name) {
            rows.remove(&name.key);
        } else if value.is_some() && next {
            rows.insert(Arc::clone(&name.key), name.clone());
        }
    }
    (rows, accepted)
}

struct Replica {
    table: Table<u32>,
    position: usize,
    /// Where the topic ended when it started: before it has read so far it says nothing.
    ready_at: usize,
    /// Its changes that somebody waits for, and what it had read when it wrote them.
    waiting: BTreeMap<Name, usize>,
}

impl Replica {
    fn start(log: &Log) -> Self {
        Self {
            table: Table::default(),
            position: 0,
            ready_at: log.whole.len(),
            waiting: BTreeMap::new(),
        }
    }

    fn is_ready(&self) -> bool {
        self.position >= self.ready_at
    }

    /// Reads `most` records, and gives what became of each.
    fn read(&mut self, log: &Log, most: usize) -> Vec<(usize, Applied)> {
        let mut told = Vec::new();
        for (offset, (name, value)) in log.left.range(self.position..).take(most) {
            let applied = self
                .table
                .apply(name.to_string().as_bytes(), value.as_deref(), 0, 0);
            told.push((*offset, applied));
            self.position = offset + 1;
        }
        if log.left.range(self.position..).next().is_none() {
            self.position = log.whole.len();
        }
        told
    }

    fn rows(&self) -> BTreeMap<Arc<str>, Name> {
        let rows = self.table.starting_with("");
        rows.map(|(key, row)| (Arc::clone(key), row.name(key))).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Propose {
        replica: usize,
        key: u8,
        delete: bool,
    },
    /// What is under way arrives, in some order.
    Arrive {
        which: usize,
    },
    Read {
        replica: usize,
        most: usize,
    },
    Sweep {
        replica: usize,
        most: usize,
    },
    Close {
        replica: usize,
    },
    Forget {
        replica: usize,
    },
    Compact {
        seed: u64,
    },
    Restart {
        replica: usize,
    },
    /// Whoever waits at it has waited for long enough.
    GiveUp {
        replica: usize,
    },
    /// A producer that did not hear that a record was stored sends it again.
    Repeat {
        which: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..3_usize;
    let step = prop_oneof![
        6 => (replica.clone(), 0..3_u8, prop::bool::weighted(0.3))
            .prop_map(|(replica, key, delete)| Step::Propose { replica, key, delete }),
        6 => (0..8_usize).prop_map(|which| Step::Arrive { which }),
        8 => (replica.clone(), 1..12_usize).prop_map(|(replica, most)| Step::Read { replica, most }),
        4 => (replica.clone(), 1..4_usize).prop_map(|(replica, most)| Step::Sweep { replica, most }),
        1 => replica.clone().prop_map(|replica| Step::Close { replica }),
        2 => replica.clone().prop_map(|replica| Step::Forget { replica }),
        3 => any::<u64>().prop_map(|seed| Step::Compact { seed }),
        1 => replica.clone().prop_map(|replica| Step::Restart { replica }),
        2 => replica.prop_map(|replica| Step::GiveUp { replica }),
        1 => (0..8_usize).prop_map(|which| Step::Repeat { which }),
    ];
    prop::collection::vec(step, 1..200)
}

struct World {
    log: Log,
    replicas: Vec<Replica>,
    under_way: Vec<Entry>,
    nonce: u128,
}

impl World {
    fn new() -> Self {
        let log = Log::default();
        let replicas = (0..3).map(|_| Replica::start(&log)).collect();
        Self {
            log,
            replicas,
            under_way: Vec::new(),
            nonce: 0,
        }
    }

    fn propose(&mut self, replica: usize, key: Arc<str>, version: u64, proposed: &Proposed<'_, u32>) {
        self.nonce += 1;
        let name = Name {
            key,
            version: version + 1,
            nonce: self.nonce,
        };
        let replica = &mut self.replicas[replica];
        replica.waiting.insert(name.clone(), replica.position);
        self.under_way.push((name, Some(encode(proposed).unwrap())));
    }

    fn read_by_all(&self) -> usize {
        self.replicas
            .iter()
            .map(|replica| replica.position)
            .min()
            .unwrap()
    }

    /// Reads, and checks what those who wait are told against the whole topic.
    fn read(&mut self, which: usize, most: usize) {
        let replica = &mut self.replicas[which];
        let told = replica.read(&self.log, most);
        let (_, accepted) = whole(&self.log);
        for (offset, applied) in told {
            let name = &self.log.whole[offset].0;
            if self.log.whole[offset].1.is_none() || replica.waiting.remove(name).is_none() {
                continue;
            }
            match applied {
                Applied::Accepted => assert!(accepted.contains(name), "{name} was refused"),
                Applied::Refused => assert!(!accepted.contains(name), "{name} was accepted"),
                Applied::Repeated | Applied::Swept | Applied::Foreign => panic!("{name}: {applied:?}"),
            }
        }
    }

    /// What was written after somebody who waits had read everything is too young to be compacted.
    fn young(&self) -> usize {
        let waiting = self.replicas.iter().flat_map(|replica| replica.waiting.values());
        waiting.min().copied().unwrap_or(usize::MAX)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Propose {
                replica: which,
                key,
                delete,
            } => {
                let replica = &self.replicas[which];
                let key: Arc<str> = format!("k/{key}").into();
                let row = replica.table.get(&key);
                if !replica.is_ready() || row.is_some_and(|row| matches!(row.content, Content::Closed)) {
                    return;
                }
                let version = replica.table.version(&key);
                match delete {
                    true if row.is_none() => {}
                    true => self.propose(which, key, version, &Proposed::Deleted),
                    false => self.propose(which, key, version, &Proposed::Value(&7)),
                }
            }
            Step::Arrive { which } => {
                if !self.under_way.is_empty() {
                    let entry = self.under_way.swap_remove(which % self.under_way.len());
                    self.log.append(entry);
                }
            }
            Step::Read { replica, most } => self.read(replica, most),
            Step::Sweep { replica, most } => {
                if self.replicas[replica].is_ready() {
                    let due = self.replicas[replica].table.due(0, 0, most);
                    self.under_way.extend(due.into_iter().map(|name| (name, None)));
                }
            }
            Step::Close { replica } => {
                if self.replicas[replica].is_ready() {
                    for name in self.replicas[replica].table.closable(1, 1) {
                        self.propose(replica, name.key, name.version, &Proposed::Closed);
                    }
                }
            }
            // A row was closed, and nothing of it taken back, for longer than anything is under way, what takes records back
            // included, and than anybody is behind.
            Step::Forget { replica } => {
                if self.replicas[replica].is_ready() {
                    for name in self.replicas[replica].table.forgettable(1, 1) {
                        let of_it = |entry: &Entry| entry.0.key == name.key;
                        let closed = |replica: &Replica| {
                            let unread = &self.log.whole[replica.position..];
                            let alone = replica.table.forgettable(1, usize::MAX).contains(&name);
                            alone && !unread.iter().any(of_it)
                        };
                        let nothing_comes = !self.under_way.iter().any(of_it);
                        if nothing_comes && self.replicas.iter().all(closed) {
                            self.under_way.push((name, None));
                        }
                    }
                }
            }
            Step::Compact { seed } => {
                let (read_by_all, young) = (self.read_by_all(), self.young());
                self.log.compact(seed, read_by_all, young);
            }
            Step::Restart { replica } => self.replicas[replica] = Replica::start(&self.log),
            Step::GiveUp { replica } => self.replicas[replica].waiting.clear(),
            Step::Repeat { which } => {
                // At once: a producer's session is over before anything that it wrote may be forgotten.
                if let Some(entry) = self
                    .log
                    .whole
                    .last()
                    .filter(|entry| entry.1.is_some() && which % 2 == 0)
                {
                    let entry = entry.clone();
                    self.log.append(entry);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn all_agree_whatever_is_compacted(steps in steps(), seeds: [u64; 3]) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        for entry in std::mem::take(&mut world.under_way) {
            world.log.append(entry);
        }
        for seed in seeds {
            world.log.compact(seed, world.read_by_all(), usize::MAX);
            let mut anew = Replica::start(&world.log);
            anew.read(&world.log, usize::MAX);
            prop_assert_eq!(anew.rows(), whole(&world.log).0);
        }
        for which in 0..world.replicas.len() {
            world.replicas[which].waiting.clear();
            world.read(which, usize::MAX);
            prop_assert_eq!(world.replicas[which].rows(), whole(&world.log).0);
        }
    }
}

#[test]
fn a_row_is_not_forgotten_before_all_that_was_taken_back_of_it_has_come() {
    let mut table = Table::<u32>::default();
    let name = |version, nonce| Name {
        key: "k".into(),
        version,
        nonce,
    };
    let value = |proposed| encode::<u32>(&proposed).unwrap();
    let mut apply = |name: Name, value: Option<Vec<u8>>, at_ms| {
        table.apply(name.to_string().as_bytes(), value.as_deref(), at_ms, 0)
    };
    apply(name(1, 1), Some(value(Proposed::Value(&7))), 10);
    apply(name(2, 2), Some(value(Proposed::Closed)), 20);
    apply(name(1, 1), None, 500);
    assert!(
        table.forgettable(500, 1).is_empty(),
        "another may take it back again"
    );
    assert_eq!(table.forgettable(501, 1), [name(2, 2)]);
    table.apply(name(2, 2).to_string().as_bytes(), None, 600, 0);
    assert!(table.get("k").is_none() && table.forgettable(i64::MAX, 1).is_empty());
}

/// The model can tell: with the rule that a later record of a version wins, two replicas do not agree.
#[test]
fn the_first_of_a_version_wins_and_a_later_one_is_dead() {
    let mut table = Table::<u32>::default();
    let name = |version, nonce| {
        Name {
            key: "a".into(),
            version,
            nonce,
        }
        .to_string()
        .into_bytes()
    };
    let value = |value: u32| encode(&Proposed::Value(&value)).unwrap();
    assert_eq!(table.apply(&name(1, 1), Some(&value(1)), 5, 9), Applied::Accepted);
    assert_eq!(table.apply(&name(1, 2), Some(&value(2)), 5, 9), Applied::Refused);
    assert_eq!(table.apply(&name(1, 1), Some(&value(1)), 5, 9), Applied::Repeated);
    assert_eq!(table.apply(&name(2, 3), Some(&value(3)), 5, 9), Applied::Accepted);
    assert_eq!(table.apply(&name(2, 4), Some(&value(4)), 5, 9), Applied::Refused);
    assert_eq!(table.due(8, 100, 10), []);
    let due: Vec<u128> = table.due(9, 100, 10).iter().map(|name| name.nonce).collect();
    assert_eq!(due, [1, 2, 4]);
    assert_eq!(table.due(99, 200, 10), []);
    for (version, nonce) in [(1, 1), (1, 2), (2, 4)] {
        assert_eq!(table.apply(&name(version, nonce), None, 5, 9), Applied::Swept);
    }
    assert_eq!(table.due(1000, 1000, 10), []);
    let Some(Content::Value(now)) = table.get("a").map(|row| row.content.clone()) else {
        panic!("{table:?}");
    };
    assert_eq!((*now, table.version("a")), (3, 2));
}

#[test]
fn what_cannot_be_read_is_kept_and_told() {
    let mut table = Table::<u32>::default();
    for (nonce, text) in [
        (1, r#"{"format":2,"value":1}"#),
        (2, r#"{"format":1,"value":"hunter2"}"#),
        (3, "hunter2"),
    ] {
        let name = Name {
            key: format!("{nonce}").into(),
            version: 1,
            nonce,
        };
        let applied = table.apply(name.to_string().as_bytes(), Some(text.as_bytes()), 0, 0);
        assert_eq!(applied, Applied::Accepted);
        let Some(Content::Unreadable(why)) = table.get(&name.key).map(|row| row.content.clone()) else {
            panic!("{text}");
        };
        assert!(!why.contains("hunter2"), "{why}");
    }
    assert_eq!(
        table.apply(b"somebody else's", Some(b"x"), 0, 0),
        Applied::Foreign
    );
    assert_eq!(table.foreign(), 1);
    assert_eq!(table.due(i64::MAX, 0, 9), []);
}

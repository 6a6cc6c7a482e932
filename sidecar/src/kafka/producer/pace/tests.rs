//! A broker, a network and clients, simulated in steps of a millisecond.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::kafka::producer::clients::{Clients, UNNAMED};

mod fair;

const MS: Duration = Duration::from_millis(1);
const BOUND: Duration = Duration::from_millis(500);
const BYTES: usize = 200;
const SECOND: u32 = 1000;

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: u32,
    lone: bool,
    client: u64,
    bytes: usize,
}

/// What serves a topic's records, one after the other.
struct Sim {
    pace: Pace,
    clients: Clients,
    begin: Instant,
    ms: u32,
    /// Records that are served in a second.
    rate: f64,
    /// From being served to being reported, and how many milliseconds' reports come together.
    back: u32,
    together: u32,
    credit: f64,
    /// All that waits is served at once, and takes as long as all of it: what comes meanwhile is the next.
    batches: bool,
    batch: Vec<Sent>,
    queue: VecDeque<Sent>,
    /// Served, with the time at which that is reported.
    served: VecDeque<(u32, Sent)>,
    records: usize,
    bytes: usize,
    patience: Duration,
    took: Vec<u32>,
    stored: HashMap<u64, usize>,
    refused: HashMap<u64, usize>,
    whys: Vec<Why>,
}

impl Sim {
    fn new(rate: f64, back: u32) -> Self {
        Self {
            pace: Pace::new(BOUND),
            clients: Clients::default(),
            begin: Instant::now(),
            ms: 0,
            rate,
            back,
            together: 1,
            credit: 0.0,
            batches: false,
            batch: Vec::new(),
            queue: VecDeque::new(),
            served: VecDeque::new(),
            records: 0,
            bytes: 0,
            patience: Duration::from_secs(60),
            took: Vec::new(),
            stored: HashMap::new(),
            refused: HashMap::new(),
            whys: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.begin + MS * self.ms
    }

    fn offer(&mut self, client: u64) -> bool {
        self.offer_of(client, BYTES)
    }

    fn offer_of(&mut self, client: u64, bytes: usize) -> bool {
        let now = self.now();
        let waiting = cost(self.records, self.bytes);
        let ask = Ask {
            cost: cost(1, bytes),
            records: self.records,
            waiting,
            client,
            clients: &self.clients,
            patience: self.patience,
        };
        if let Err(why) = self.pace.admit(ask, now) {
            *self.refused.entry(client).or_default() += 1;
            self.whys.push(why);
            return false;
        }
        self.queue.push_back(Sent {
            at: self.ms,
            lone: self.records < FEW,
            client,
            bytes,
        });
        self.records += 1;
        self.bytes += bytes;
        self.clients.add(client, cost(1, bytes));
        self.pace.handed(cost(1, bytes), now);
        true
    }

    /// A millisecond passes.
    fn step(&mut self) {
        self.ms += 1;
        self.credit += self.rate / 1000.0;
        if self.batches {
            if self.credit >= self.batch.len() as f64 {
                self.credit -= self.batch.len() as f64;
                let due = self.ms + self.back;
                self.served.extend(self.batch.drain(..).map(|sent| (due, sent)));
                self.batch = self.queue.drain(..).collect();
            }
            if self.batch.is_empty() {
                self.credit = 0.0;
            }
        }
        while !self.batches
            && self.credit >= 1.0
            && let Some(sent) = self.queue.pop_front()
        {
            self.credit -= 1.0;
            self.served.push_back((self.ms + self.back, sent));
        }
        if !self.batches && self.queue.is_empty() {
            self.credit = self.credit.min(1.0);
        }
        if !self.ms.is_multiple_of(self.together) {
            return;
        }
        while let Some((_, sent)) = self.served.pop_front_if(|(due, _)| *due <= self.ms) {
            let took = self.ms - sent.at;
            let now = self.now();
            let report = Report {
                took: MS * took,
                cost: cost(1, sent.bytes),
                answered: true,
                lone: sent.lone,
            };
            self.pace.reported(report, now);
            self.records -= 1;
            self.bytes -= sent.bytes;
            self.clients.remove(sent.client, cost(1, sent.bytes));
            if self.records == 0 {
                self.pace.idle(now);
            }
            self.took.push(took);
            *self.stored.entry(sent.client).or_default() += 1;
        }
    }

    /// `per_second` records of one client a second, for so many milliseconds.
    fn load(&mut self, per_second: f64, millis: u32) {
        let mut due = 0.0;
        for _ in 0..millis {
            due += per_second / 1000.0;
            while due >= 1.0 {
                due -= 1.0;
                self.offer(0);
            }
            self.step();
        }
    }

    fn rest(&mut self) {
        for _ in 0..60 * SECOND {
            self.step();
        }
        assert_eq!(self.records, 0);
    }

    fn refusals(&self) -> usize {
        self.refused.values().sum()
    }

    /// Forgets what came of it so far.
    fn forget(&mut self) {
        self.took.clear();
        self.stored.clear();
        self.refused.clear();
        self.whys.clear();
    }

    fn slowest(&self, of: f64) -> u32 {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = (took.len() as f64 * of) as usize;
        took[at.min(took.len() - 1)]
    }
}

/// Numbers from 0 to 1.
fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn ten_times_what_fits_is_refused_but_for_what_fits() {
    for together in [1, 20, 200] {
        let mut sim = Sim::new(2000.0, 3);
        sim.load(200.0, 3 * SECOND);
        assert_eq!(sim.refusals(), 0);
        sim.together = together;
        sim.rate = 60.0;
        sim.load(600.0, 8 * SECOND);
        // What came before it was noticed.
        let first = if together < 100 { 3500 } else { 5500 };
        assert!(sim.slowest(1.0) < first, "{} by {together} ms", sim.slowest(1.0));
        sim.forget();
        for _ in 0..52 {
            sim.load(600.0, SECOND);
        }
        let stored = sim.took.len();
        assert!(stored >= 52 * 60 * 9 / 10, "{stored} by {together} ms");
        assert!(
            sim.slowest(0.99) <= 1100,
            "{} ms by {together} ms",
            sim.slowest(0.99)
        );
        assert!(
            sim.slowest(0.5) <= 800,
            "{} ms by {together} ms",
            sim.slowest(0.5)
        );
        // It is over: as before within a second.
        sim.rate = 2000.0;
        sim.load(200.0, SECOND);
        sim.forget();
        sim.load(200.0, 5 * SECOND);
        assert_eq!(sim.refusals(), 0, "by {together} ms");
    }
}

#[test]
fn a_lone_client_is_never_refused_however_slow_it_is() {
    for back in [1, 50, 400, 5000] {
        let mut sim = Sim::new(1000.0, back);
        for _ in 0..100 {
            assert!(sim.offer(0), "{back} ms");
            while sim.records > 0 {
                sim.step();
            }
        }
    }
}

#[test]
fn a_burst_on_a_warm_topic_is_taken() {
    let mut sim = Sim::new(50_000.0, 3);
    sim.together = 5;
    sim.load(1000.0, 5 * SECOND);
    for _ in 0..10_000 {
        sim.offer(0);
    }
    sim.load(1000.0, 2 * SECOND);
    assert_eq!(sim.refusals(), 0);
    // After a lull, from a client that has sent one now and then: what the rate was says nothing.
    sim.load(5.0, 5 * SECOND);
    for _ in 0..10_000 {
        sim.offer(0);
    }
    sim.load(1000.0, 2 * SECOND);
    assert_eq!(sim.refusals(), 0);
}

#[test]
fn a_cold_start_is_waited_for() {
    // Connections, leaders: nothing comes for two seconds.
    let mut sim = Sim::new(0.0, 3);
    sim.load(200.0, 2 * SECOND);
    sim.rate = 20_000.0;
    sim.load(200.0, 5 * SECOND);
    assert_eq!(sim.refusals(), 0);
}

#[test]
fn a_link_with_a_long_way_to_go_is_no_overload() {
    let mut sim = Sim::new(5000.0, 400);
    sim.load(10.0, 5 * SECOND);
    // A step up by two hundred times: for 400 ms nothing of it is acknowledged.
    sim.load(2000.0, 5 * SECOND);
    for _ in 0..500 {
        sim.offer(0);
    }
    sim.load(2000.0, 2 * SECOND);
    assert_eq!(sim.refusals(), 0);
}

#[test]
fn a_link_that_becomes_slow_is_no_overload() {
    let mut sim = Sim::new(5000.0, 3);
    sim.together = 20;
    sim.load(200.0, 5 * SECOND);
    sim.back = 400;
    sim.load(200.0, 10 * SECOND);
    sim.back = 3;
    sim.load(200.0, 5 * SECOND);
    assert_eq!(sim.refusals(), 0);
}

/// After an overload, bursts that are served at once are not taken for more of it.
#[test]
fn bursts_after_an_overload_are_taken() {
    for together in [1, 50] {
        let mut sim = Sim::new(60.0, 3);
        sim.load(600.0, 20 * SECOND);
        sim.rate = 20_000.0;
        sim.together = together;
        for burst in 0..20 {
            for _ in 0..300 {
                sim.offer(0);
            }
            for _ in 0..SECOND / 2 {
                sim.step();
            }
            if burst == 3 {
                sim.forget();
            }
        }
        assert_eq!(sim.refusals(), 0, "by {together} ms");
    }
}

/// Longer than the bound, whatever the load: after some time it is known for what it is.
#[test]
fn a_link_that_becomes_very_slow_does_not_starve() {
    let mut sim = Sim::new(5000.0, 3);
    sim.load(200.0, 5 * SECOND);
    sim.back = 1500;
    for _ in 0..40 {
        sim.load(200.0, SECOND);
    }
    sim.forget();
    sim.load(200.0, 20 * SECOND);
    assert!(sim.took.len() >= 20 * 200 * 9 / 10, "{}", sim.took.len());
}

#[test]
fn a_broker_that_is_frozen_refuses_soon_and_serves_at_once_when_it_is_back() {
    let mut sim = Sim::new(5000.0, 3);
    sim.load(200.0, 2 * SECOND);
    sim.rate = 0.0;
    sim.load(200.0, 10 * SECOND);
    let taken = sim.records;
    // A second's, and then four a second.
    assert!(taken <= 200 + 20 + 40, "{taken}");
    assert!(matches!(sim.whys.last(), Some(Why::Stuck(_))));
    sim.rate = 5000.0;
    sim.load(200.0, SECOND / 10);
    sim.forget();
    sim.load(200.0, 2 * SECOND);
    assert_eq!(sim.refusals(), 0);
}

/// One of three partitions is stuck: the others' records go on.
#[test]
fn what_is_stuck_stops_nothing_else() {
    let mut pace = Pace::new(BOUND);
    let begin = Instant::now();
    let (mut stuck, mut refused) = (0, 0);
    for nth in 0..6000_u32 {
        let now = begin + MS * 5 * nth;
        let ask = Ask {
            cost: cost(1, BYTES),
            records: stuck,
            waiting: cost(stuck, stuck * BYTES),
            client: UNNAMED,
            clients: &Clients::default(),
            patience: Duration::from_secs(3),
        };
        if pace.admit(ask, now).is_err() {
            refused += 1;
            continue;
        }
        pace.handed(cost(1, BYTES), now);
        if nth > 1000 && nth % 3 == 0 {
            stuck += 1;
            continue;
        }
        let report = Report {
            took: MS * 2,
            cost: cost(1, BYTES),
            answered: true,
            lone: stuck < FEW,
        };
        pace.reported(report, now + MS * 2);
    }
    assert_eq!(refused, 0);
}

#[test]
fn what_is_stuck_stops_a_rare_client_of_another_partition_for_a_moment_at_most() {
    let mut pace = Pace::new(BOUND);
    let begin = Instant::now();
    let ask = Ask {
        cost: cost(1, BYTES),
        records: 1,
        waiting: cost(1, BYTES),
        client: UNNAMED,
        clients: &Clients::default(),
        patience: Duration::from_secs(3),
    };
    let quick = Report {
        took: MS * 2,
        cost: cost(1, BYTES),
        answered: true,
        lone: true,
    };
    pace.handed(300, begin);
    pace.reported(quick, begin + MS * 2);
    // Stuck for good.
    pace.handed(300, begin + MS * 10);
    for second in 2..100 {
        let now = begin + Duration::from_secs(second);
        assert_eq!(pace.admit(ask, now), Ok(()), "{second}");
        pace.handed(cost(1, BYTES), now);
        pace.reported(quick, now + MS * 2);
    }
}

#[test]
fn what_the_client_library_gave_up_is_no_answer_and_is_forgotten_after_a_while() {
    let mut pace = Pace::new(BOUND);
    let begin = Instant::now();
    let ask = Ask {
        cost: 300,
        records: 20,
        waiting: 6000,
        client: UNNAMED,
        clients: &Clients::default(),
        patience: Duration::from_secs(3),
    };
    let gave_up = Report {
        took: Duration::from_secs(4),
        cost: 300,
        answered: false,
        lone: true,
    };
    pace.handed(300, begin);
    let after = begin + Duration::from_secs(5);
    pace.reported(gave_up, after);
    assert_eq!(pace.admit(ask, after + MS), Ok(()), "one is let through");
    let Err(Why::Stuck(silent)) = pace.admit(ask, after + MS * 2) else {
        panic!("no answer, and no refusal");
    };
    assert!(silent >= Duration::from_secs(5));
    // Nothing waits: whoever comes an hour later is not the one to try whether anybody is there.
    pace.idle(after + MS * 3);
    let later = after + Duration::from_secs(3600);
    for _ in 0..100 {
        assert_eq!(pace.admit(ask, later), Ok(()));
    }
}

#[test]
fn a_modest_client_is_served_beside_one_that_sends_ten_times_what_fits() {
    for (greedy, rate, together, batches) in [
        (1_u64, 60.0, 1, false),
        (20, 60.0, 1, false),
        (3, 1500.0, 1, false),
        (1, 60.0, 300, false),
        (1, 60.0, 1, true),
    ] {
        let mut sim = Sim::new(rate * 10.0, 3);
        sim.batches = batches;
        sim.together = together;
        sim.load(rate, 2 * SECOND);
        sim.rate = rate;
        let (mut due, mut modest, mut random) = (0.0, 0, random(7));
        for ms in 0..60 * SECOND {
            // Clients are only told apart once something was refused.
            due += rate * 10.0 / 1000.0;
            while due >= 1.0 {
                due -= 1.0;
                let chosen = 1 + (random() * greedy as f64) as u64;
                let client = if ms < SECOND { 0 } else { chosen };
                sim.offer(client);
            }
            if ms % SECOND == 777 && ms > 20 * SECOND {
                modest += 1;
                sim.offer(999);
            }
            sim.step();
        }
        sim.rest();
        let (stored, refused) = (sim.stored[&999], sim.refused.get(&999));
        assert_eq!(
            (stored, refused),
            (modest, None),
            "{greedy} greedy at {rate}, batches: {batches}"
        );
        let of_greedy: Vec<usize> = (1..=greedy).map(|client| sim.stored[&client]).collect();
        let (least, most) = (of_greedy.iter().min().unwrap(), of_greedy.iter().max().unwrap());
        assert!(most < &(least * 2), "{of_greedy:?}");
        assert!(sim.took.len() as f64 >= rate * 60.0 * 0.9, "{}", sim.took.len());
    }
}

#[test]
fn what_cannot_be_acknowledged_within_a_clients_patience_is_refused() {
    let mut sim = Sim::new(60.0, 3);
    sim.patience = Duration::from_millis(200);
    sim.load(600.0, 5 * SECOND);
    sim.forget();
    sim.load(600.0, 10 * SECOND);
    assert!(sim.slowest(0.99) <= 350, "{}", sim.slowest(0.99));
    assert!(sim.took.len() >= 500, "{}", sim.took.len());
}

#[test]
fn without_a_bound_nothing_is_refused() {
    let mut sim = Sim::new(60.0, 3);
    sim.pace = Pace::new(Duration::ZERO);
    sim.load(600.0, 10 * SECOND);
    assert_eq!(sim.refusals(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever is slow, what is let through does not wait much longer than it may, and about as much is served as can be.
    #[test]
    fn what_is_let_through_keeps_to_the_bound_and_is_what_fits(
        rate in 20.0..2_000.0_f64,
        over in 1.5..20.0_f64,
        back in 1_u32..500,
        together in 1_u32..100,
    ) {
        let mut sim = Sim::new(rate, back);
        sim.together = together;
        sim.load(rate * 0.2, 5 * SECOND);
        sim.load(rate * over, 30 * SECOND);
        sim.forget();
        sim.load(rate * over, 20 * SECOND);
        let fits = (rate * 20.0) as usize;
        prop_assert!(sim.took.len() >= fits * 85 / 100, "{} of {fits}", sim.took.len());
        let few = (FEW as f64 * 1000.0 / rate) as u32;
        let most = back + 2 * together + few + 1000;
        prop_assert!(sim.slowest(0.99) <= most, "{} of {most} ms", sim.slowest(0.99));
    }

    /// What fits is taken, however it comes.
    #[test]
    fn what_fits_is_taken(
        rate in 100.0..2_000.0_f64,
        part in 0.05..0.7_f64,
        back in 1_u32..500,
        together in 1_u32..50,
        seed in any::<u64>(),
    ) {
        let mut sim = Sim::new(rate, back);
        sim.together = together;
        let mut random = random(seed);
        for _ in 0..60 {
            // Up to twice the mean, and what comes within 50 ms at once.
            let burst = (rate * part * 0.05 * 2.0 * random()) as usize;
            for _ in 0..burst {
                sim.offer(0);
            }
            for _ in 0..50 {
                sim.step();
            }
        }
        prop_assert_eq!(sim.refusals(), 0);
    }
}

//! Greedy clients and modest ones at one topic.

use super::*;

/// Who sends what, for a minute: records of [`BYTES`] bytes.
#[derive(Debug)]
struct Contest {
    /// Records that are served in a second.
    rate: f64,
    /// Clients that send ten times that together.
    greedy: u64,
    /// Clients that send a record now and then, and how many each in a second.
    modest: u64,
    each: f64,
    together: u32,
    batches: bool,
    seed: u64,
}

/// What came of it once it was noticed.
#[derive(Debug)]
struct Served {
    /// Of a thousand records of the modest clients'.
    modest: usize,
    /// Of a second's.
    all: f64,
    /// Milliseconds that half of it took, and 99 of 100.
    half: u32,
    most: u32,
    /// The most that one greedy client was served times the least.
    uneven: f64,
}

const FIRST_MODEST: u64 = 1_000_000;

impl Contest {
    fn run(&self) -> Served {
        let mut sim = Sim::new(self.rate * 10.0, 3);
        sim.batches = self.batches;
        sim.together = self.together;
        sim.load(self.rate, 2 * SECOND);
        sim.rate = self.rate;
        let mut random = random(self.seed);
        let (mut due, mut due_modest) = (0.0, 0.0);
        for ms in 0..60 * SECOND {
            // What came before it was noticed is another matter.
            if ms == 8 * SECOND {
                sim.forget();
            }
            due += self.rate * 10.0 / 1000.0;
            while due >= 1.0 {
                due -= 1.0;
                let client = 1 + (random() * self.greedy as f64) as u64;
                // Clients are only told apart once something was refused.
                sim.offer(if ms < SECOND { UNNAMED } else { client });
            }
            due_modest += self.modest as f64 * self.each / 1000.0 * 2.0 * random();
            while due_modest >= 1.0 {
                due_modest -= 1.0;
                sim.offer(FIRST_MODEST + (random() * self.modest as f64) as u64);
            }
            sim.step();
        }
        let of = |counts: &HashMap<u64, usize>, modest: bool| -> Vec<usize> {
            let them = counts
                .iter()
                .filter(|(client, _)| (**client >= FIRST_MODEST) == modest && **client != UNNAMED);
            them.map(|(_, count)| *count).collect()
        };
        let served: usize = of(&sim.stored, true).iter().sum();
        let refused: usize = of(&sim.refused, true).iter().sum();
        let greedy = of(&sim.stored, false);
        let (least, most) = (greedy.iter().min(), greedy.iter().max());
        Served {
            modest: served * 1000 / (served + refused).max(1),
            all: sim.took.len() as f64 / 52.0,
            half: sim.slowest(0.5),
            most: sim.slowest(0.99),
            uneven: *most.unwrap_or(&1) as f64 / *least.unwrap_or(&1) as f64,
        }
    }
}

/// Far more is asked for than there is, and who asks for less than a fair part of it is served, in time.
#[test]
fn whoever_asks_for_less_than_a_fair_part_is_served() {
    for (rate, greedy, modest, each, least) in [
        (50.0, 1, 1, 2.0, 970),
        (50.0, 1, 1, 10.0, 940),
        (50.0, 2, 1, 2.0, 970),
        (50.0, 20, 1, 1.0, 970),
        // Its fair part is little more.
        (50.0, 30, 1, 1.0, 900),
        (50.0, 3, 10, 1.0, 970),
        // Together the modest ones ask for three fifths of what there is.
        (50.0, 1, 30, 1.0, 930),
        (500.0, 3, 100, 2.0, 940),
    ] {
        for (together, batches) in [(1, false), (100, false), (300, false), (1, true)] {
            let contest = Contest {
                rate,
                greedy,
                modest,
                each,
                together,
                batches,
                seed: 7,
            };
            let served = contest.run();
            println!("{contest:?}: {served:?}");
            assert!(served.modest >= least, "{least} of 1000 at least");
            assert!(served.all >= rate * 0.95);
            assert!(served.half <= 1000);
            assert!(served.most <= 1500);
            assert!(served.uneven < 1.5);
        }
    }
}

/// Then nobody's fair part is a record, and whoever comes when there is room is served. The others are not served later
/// for that.
#[test]
fn more_clients_than_there_is_room_for_records_make_nothing_slower_than_a_few() {
    for greedy in [100, 1000, 100_000] {
        for (together, batches) in [(1, false), (100, false), (1, true)] {
            let contest = Contest {
                rate: 50.0,
                greedy,
                modest: 1,
                each: 1.0,
                together,
                batches,
                seed: 7,
            };
            let served = contest.run();
            println!("{contest:?}: {served:?}");
            assert!(served.all >= 47.5);
            assert!(served.half <= 1000);
            assert!(served.most <= 1500);
        }
    }
}

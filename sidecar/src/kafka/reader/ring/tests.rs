use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn record(offset: i64, size: usize) -> Arc<Record> {
    Arc::new(Record {
        topic: Arc::from("t"),
        partition: 0,
        offset,
        timestamp: None,
        key: None,
        headers: Vec::new(),
        value: Some(Bytes::from(vec![0; size])),
        ..Record::default()
    })
}

/// What happens to a partition, its ring and a reader.
#[derive(Debug, Clone)]
enum Event {
    /// A record of this size is written.
    Written(usize),
    /// A transaction marker, or a record that is aborted or will be compacted away: an offset that is no record.
    Nothing,
    /// The tail hears of what comes next, or of the end.
    Tail,
    /// The tail is told again what it was told before.
    Again(usize),
    /// The reader takes at most so many.
    Read(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_usize..20).prop_map(Event::Written),
        1 => Just(Event::Nothing),
        6 => Just(Event::Tail),
        1 => (0_usize..10).prop_map(Event::Again),
        3 => (1_usize..6).prop_map(Event::Read),
    ]
}

/// A partition: the size of the record at each offset, if there is one.
struct Log(Vec<Option<usize>>);

impl Log {
    fn records_from(&self, offset: i64) -> impl Iterator<Item = (i64, usize)> {
        let found = (0_i64..)
            .zip(&self.0)
            .filter_map(|(at, size)| Some((at, (*size)?)));
        found.filter(move |(at, _)| *at >= offset)
    }

    fn end(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap()
    }

    /// What Kafka gives a reader at `offset`: records, and where to go on.
    fn read(&self, offset: i64, most: usize) -> (Vec<i64>, i64) {
        let found: Vec<i64> = self.records_from(offset).map(|(at, _)| at).take(most).collect();
        let next = if found.len() == most {
            found.last().unwrap() + 1
        } else {
            self.end()
        };
        (found, next)
    }
}

struct Reader {
    position: i64,
    seen: Vec<i64>,
}

impl Reader {
    fn read(&mut self, ring: &Ring, log: &Log, most: usize) {
        let limits = Limits {
            records: most,
            bytes: 50,
        };
        match ring.after(self.position, limits) {
            View::Behind => {
                let (found, next) = log.read(self.position, most);
                self.seen.extend(found);
                self.position = next;
            }
            View::Here { records, next } => {
                assert!(records.len() <= most);
                assert!(next >= self.position, "back from {} to {next}", self.position);
                self.seen.extend(records.iter().map(|record| record.offset));
                self.position = next;
            }
        }
    }
}

proptest! {
    /// Whatever the tail lags, the ring drops, and the reader waits: it sees every record from where it starts, once and
    /// in order.
    #[test]
    fn a_reader_sees_everything_once(
        before in vec(event(), 0..20),
        start in 0_i64..10,
        joined in 0_i64..10,
        events in vec(event(), 0..200),
        kept in 1_usize..6,
        bytes in 1_usize..60,
    ) {
        let mut log = Log(Vec::new());
        for event in before {
            match event {
                Event::Written(size) => log.0.push(Some(size)),
                _ => log.0.push(None),
            }
        }
        let mut reader = Reader { position: start.min(log.end()), seen: Vec::new() };
        let first = reader.position;
        let kept = Limits { records: kept, bytes };
        let mut ring = Ring::new(joined.min(log.end()));
        let mut heard = Vec::new();
        for event in events {
            match event {
                Event::Written(size) => log.0.push(Some(size)),
                Event::Nothing => log.0.push(None),
                Event::Tail => match log.records_from(ring.next()).next() {
                    Some((at, size)) => {
                        heard.push((at, size));
                        ring.push(record(at, size), kept);
                    }
                    None => ring.advance(log.end()),
                },
                Event::Again(back) => if let Some((at, size)) = heard.iter().rev().nth(back) {
                    let next = ring.next();
                    ring.push(record(*at, *size), kept);
                    prop_assert_eq!(ring.next(), next);
                },
                Event::Read(most) => reader.read(&ring, &log, most),
            }
            prop_assert!(ring.records.len() <= kept.records);
            let held: usize = ring.records.iter().map(|record| record.size()).sum();
            prop_assert_eq!(held, ring.bytes);
            prop_assert!(held <= kept.bytes || ring.records.len() == 1);
        }
        while let Some((at, size)) = log.records_from(ring.next()).next() {
            ring.push(record(at, size), kept);
        }
        ring.advance(log.end());
        // Each step takes a record or goes on.
        for _ in 0..=2 * log.0.len() {
            reader.read(&ring, &log, 3);
        }
        let all: Vec<i64> = log.records_from(first).map(|(at, _)| at).collect();
        prop_assert_eq!(reader.seen, all);
        prop_assert_eq!(reader.position, log.end());
    }
}

#[test]
fn a_record_that_is_too_large_is_given_alone() {
    let keep = Limits {
        records: 10,
        bytes: 10,
    };
    let mut ring = Ring::new(5);
    ring.push(record(7, 100), keep);
    ring.push(record(8, 1), keep);
    let View::Behind = ring.after(7, keep) else {
        panic!("it was dropped")
    };
    let View::Here { records, next } = ring.after(8, Limits { records: 5, bytes: 0 }) else {
        panic!("behind")
    };
    assert_eq!((records.len(), next), (1, 9));
    assert!(ring.covers(8) && ring.covers(9) && !ring.covers(7) && !ring.covers(10));
}

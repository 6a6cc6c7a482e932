//! The file: windows, bounds, and files that must not be opened.

use prost::Message;
use tempfile::TempDir;

use super::*;
use crate::database::Trouble;
use crate::database::tests::{Kept, kept_as_it_is, told};
use crate::disk::Disk;
use crate::idempotency::row::State;
use crate::kafka::record::Outcome;

const MAX: u64 = 1000;

/// The keys' file.
struct Keys;

impl Kept for Keys {
    type Open = Store;
    const FILE: &str = FILE;
    const VERSION: u64 = VERSION;

    fn open(directory: &Path) -> Result<Store, (Trouble, String)> {
        Store::open(directory).map_err(told)
    }

    fn close(store: &Store) {
        store.close();
    }
}

kept_as_it_is! { Keys:
    a_second_one_is_told_that_the_directory_is_in_use,
    a_later_version_is_left_alone,
    a_later_format_is_no_damage,
    no_damage_is_a_panic,
    what_is_none_of_its_is_left_alone,
    a_directory_that_cannot_be_made_is_named,
}

fn begin(key: u8, now_ms: i64) -> Begin {
    Begin {
        name: [key; 32],
        fingerprint: b"print".to_vec(),
        expires_ms: now_ms + 100,
        attempt: u64::from(key) + now_ms.unsigned_abs() * 1000,
        topics: 1,
    }
}

/// One record is to be written.
fn one(store: &Store, begin: &Begin, now_ms: i64, max: u64) -> (Verdict, u64) {
    let (mut verdicts, held) = store
        .commit(std::slice::from_ref(begin), &[], now_ms, max)
        .unwrap();
    (verdicts.remove(0), held)
}

/// What became of it.
fn end(store: &Store, begin: &Begin, row: &Row, outcome: &Outcome, now_ms: i64) {
    let row = Row {
        topics: vec![Topic::of(outcome)],
        ..row.clone()
    };
    let row = (!row.is_blank()).then_some(row);
    let name = begin.name;
    store.commit(&[], &[End { name, row }], now_ms, MAX).unwrap();
}

const STORED: Outcome = Outcome::Stored {
    partition: 1,
    offset: 2,
};

fn row(verdict: Verdict) -> Row {
    match verdict {
        Verdict::Begun(row) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_known_until_its_window_is_over_and_not_a_moment_less() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = begin(1, 1000);
    let begun = row(one(&store, &first, 1000, MAX).0);
    end(&store, &first, &begun, &STORED, 1010);
    let (verdict, held) = one(&store, &begin(1, 1099), 1099, MAX);
    let Verdict::Known(known) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(
        (known.topics[0].state(), known.expires_ms, held),
        (State::Stored, 1100, 1)
    );
    assert_eq!(store.held().unwrap(), (1, Some(1100)));
    let (verdict, held) = one(&store, &begin(1, 1100), 1100, MAX);
    assert_eq!((row(verdict).expires_ms, held), (1200, 1));
}

#[test]
fn what_is_past_its_window_makes_room_and_nothing_else_does() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for key in 0..3 {
        row(one(&store, &begin(key, i64::from(key)), i64::from(key), 3).0);
    }
    assert_eq!(one(&store, &begin(3, 99), 99, 3), (Verdict::Full(3), 3));
    // The first of them is over.
    row(one(&store, &begin(3, 100), 100, 3).0);
    assert_eq!(one(&store, &begin(4, 100), 100, 3), (Verdict::Full(3), 3));
    // One that is held takes no more room when it comes again.
    assert!(matches!(one(&store, &begin(1, 100), 100, 3).0, Verdict::Known(_)));
    // Without anything to write what is over goes too.
    assert_eq!(store.commit(&[], &[], 150, 3).unwrap().1, 1);
    assert_eq!(store.held().unwrap(), (1, Some(200)));
    assert_eq!(store.commit(&[], &[], 200, 3).unwrap().1, 0);
}

#[test]
fn a_record_that_outlives_its_window_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = begin(1, 0);
    let begun = row(one(&store, &first, 0, MAX).0);
    store.commit(&[], &[], 100, MAX).unwrap();
    end(&store, &first, &begun, &STORED, 101);
    assert_eq!(store.held().unwrap(), (0, None));
}

#[test]
fn what_is_certainly_not_stored_is_forgotten() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = begin(1, 0);
    let begun = row(one(&store, &first, 0, MAX).0);
    let refused = crate::idempotency::words::stopping().into();
    end(&store, &first, &begun, &refused, 1);
    assert_eq!(store.held().unwrap(), (0, None));
}

/// A transaction that was said to have failed was there all the same: the same attempt goes on, another does not.
#[test]
fn only_the_attempt_that_wrote_it_goes_on() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = begin(1, 0);
    let begun = row(one(&store, &first, 0, MAX).0);
    assert_eq!(one(&store, &first, 1, MAX).0, Verdict::Begun(begun.clone()));
    assert_eq!(one(&store, &begin(1, 1), 1, MAX).0, Verdict::Known(begun));
    let other = Begin {
        fingerprint: b"other".to_vec(),
        ..first
    };
    assert_eq!(one(&store, &other, 1, MAX).0, Verdict::Conflict);
}

#[test]
fn who_only_asks_does_not_wait_for_the_disk() {
    let disk = Disk::default();
    let store = super::super::tests::open(&disk).unwrap();
    let first = begin(1, 0);
    row(one(&store, &first, 0, MAX).0);
    // It does not work any more.
    disk.0.lock().unwrap().works = Some(0);
    assert!(matches!(one(&store, &begin(1, 1), 1, MAX).0, Verdict::Known(_)));
    assert!(store.commit(&[begin(2, 1)], &[], 1, MAX).is_err());
}

#[test]
fn a_full_disk_refuses_and_takes_more_when_there_is_room() {
    let disk = Disk::default();
    let store = super::super::tests::open(&disk).unwrap();
    let size = disk.0.lock().unwrap().now.len() as u64;
    disk.0.lock().unwrap().size = Some(size);
    let mut taken = 0_u16;
    let many = |from: u16| -> Vec<Begin> {
        let name = |n: u16| {
            let mut name = [0; 32];
            name[..2].copy_from_slice(&n.to_be_bytes());
            name
        };
        let one = |n| Begin {
            name: name(n),
            ..begin(1, 0)
        };
        (from..from + 1000).map(one).collect()
    };
    let why = loop {
        match store.commit(&many(taken), &[], 0, u64::MAX) {
            Ok(_) => taken += 1000,
            Err(why) => break why.to_string(),
        }
        assert!(taken < 60_000);
    };
    assert!(why.contains("No space left on device"), "{why}");
    store.reopen().unwrap();
    assert_eq!(store.held().unwrap().0, u64::from(taken));
    disk.0.lock().unwrap().size = None;
    store.commit(&many(taken), &[], 0, u64::MAX).unwrap();
    assert_eq!(store.held().unwrap().0, u64::from(taken) + 1000);
}

/// A row that the first version wrote: it must read so for ever.
#[test]
fn rows_of_the_first_version_are_read() {
    let frozen =
        b"\x0a\x02fp\x10\x05\x18\x06\x21\x07\0\0\0\0\0\0\0\x2a\x06\x08\x01\x10\x03\x18\x29\x2a\x02\x08\x04";
    let row = Row {
        fingerprint: b"fp".to_vec(),
        expires_ms: 5,
        begun_ms: 6,
        attempt: 7,
        topics: vec![
            Topic {
                state: State::Stored.into(),
                partition: 3,
                offset: 41,
            },
            Topic::under_way(),
        ],
    };
    assert_eq!(row.encode_to_vec(), frozen);
    assert_eq!(decode(frozen), row);
    // A field of a later version is passed over, and a state of one is known to nobody.
    assert_eq!(decode(&[&frozen[..], b"\x78\x01"].concat()), row);
    let later = Row::decode(&b"\x2a\x02\x08\x09"[..]).unwrap();
    assert_eq!(later.topics[0].state(), State::Unknown);
}

/// What docs/idempotency.md says of the disk: 64 records at a time, each begun and then stored.
#[test]
fn a_key_takes_as_much_of_the_disk_as_is_documented() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut ends = Vec::new();
    let keys = 20_000_u32;
    for batch in 0..keys / 64 {
        let now_ms = 1_700_000_000_000 + i64::from(batch);
        let name = |n: u32| sluice_proto::idempotency::fingerprint([&(batch * 64 + n).to_be_bytes()[..]]);
        let begins: Vec<Begin> = (0..64)
            .map(|n| Begin {
                name: name(n),
                fingerprint: vec![0; 32],
                ..begin(1, now_ms)
            })
            .collect();
        let (verdicts, _) = store.commit(&begins, &ends, 0, u64::MAX).unwrap();
        let stored = |(begin, verdict): (&Begin, Verdict)| End {
            name: begin.name,
            row: Some(Row {
                topics: vec![Topic::of(&STORED)],
                ..row(verdict)
            }),
        };
        ends = begins.iter().zip(verdicts).map(stored).collect();
    }
    let size = std::fs::metadata(directory.path().join(FILE)).unwrap().len() / u64::from(keys);
    println!("{size} bytes a key");
    assert!(size < 450, "{size} bytes a key");
}

#[test]
fn keys_that_are_gone_give_their_space_back_at_the_next_start() {
    let directory = TempDir::new().unwrap();
    let size = || std::fs::metadata(directory.path().join(FILE)).unwrap().len();
    let store = Store::open(directory.path()).unwrap();
    let begins: Vec<Begin> = (0..20_000_u32)
        .map(|n| Begin {
            name: sluice_proto::idempotency::fingerprint([&n.to_be_bytes()[..]]),
            ..begin(1, 0)
        })
        .collect();
    store.commit(&begins, &[], 0, u64::MAX).unwrap();
    while store.held().unwrap().0 > 0 {
        store.commit(&[], &[], 1000, u64::MAX).unwrap();
    }
    let large = size();
    store.close();
    drop(Store::open(directory.path()).unwrap());
    assert!(size() < large / 2, "{large}, {}", size());
}

fn row_of(write: &redb::WriteTransaction, name: &Name) -> Result<Row, redb::Error> {
    let keys = write.open_table(KEYS)?;
    let row = keys.get(name)?.unwrap();
    Ok(Row::open(row.value()).unwrap())
}

/// Its record may be stored: it is not written again, and others are.
#[test]
fn of_a_row_that_cannot_be_read_nobody_knows_and_it_holds_up_nobody() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let first = begin(1, 0);
    row(one(&store, &first, 0, MAX).0);
    store
        .with(|database| {
            let write = database.begin_write()?;
            let mut row = row_of(&write, &first.name)?.seal();
            row[20] ^= 1;
            write.open_table(KEYS)?.insert(&first.name, &row[..])?;
            write.commit()?;
            Ok(())
        })
        .unwrap();
    let begins = [begin(1, 1), begin(2, 1)];
    let (verdicts, _) = store.commit(&begins, &[], 1, MAX).unwrap();
    let [Verdict::Known(unknown), Verdict::Begun(_)] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(unknown.those(State::Unknown), [0]);
    // It goes with its window.
    assert_eq!(store.commit(&[], &[], 100, MAX).unwrap().1, 1);
    row(one(&store, &begin(1, 100), 100, MAX).0);
}

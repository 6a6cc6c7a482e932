//! The file against a model, on a disk that can be switched off, and files that must not be opened.

use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;

use super::super::entry::Entry;
use super::*;
use crate::database::tests::{Kept, kept_as_it_is, told};
use crate::disk::Disk;

/// A spool's file.
struct Spool;

impl Kept for Spool {
    type Open = Store;
    const FILE: &str = FILE;
    const VERSION: u64 = VERSION;

    fn open(directory: &Path) -> Result<Store, (Trouble, String)> {
        match Store::open(directory) {
            Ok((store, _)) => Ok(store),
            Err(error) => Err(told(error)),
        }
    }

    fn close(store: &Store) {
        store.close();
    }
}

kept_as_it_is! { Spool:
    a_second_one_is_told_that_the_directory_is_in_use,
    a_later_version_is_left_alone,
    a_later_format_is_no_damage,
    no_damage_is_a_panic,
    what_is_none_of_its_is_left_alone,
    a_directory_that_cannot_be_made_is_named,
}

impl Disk {
    fn open(&self) -> Result<(Store, Book), Error> {
        let disk = self.clone();
        let make = move || {
            redb::Builder::new()
                .set_cache_size(CACHE)
                .create_with_backend(disk.clone())
        };
        Store::over(PathBuf::from("disk"), Box::new(make))
    }
}

impl Book {
    fn number_of(&self, lane: &Lane) -> u64 {
        self.numbers[lane]
    }
}

fn lane(n: u8) -> Lane {
    Lane {
        cluster: "main".to_owned(),
        producer: "default".to_owned(),
        topic: format!("topic-{n}"),
    }
}

fn entry(text: &str) -> Entry {
    Entry {
        value: Some(text.to_owned().into()),
        ..Entry::default()
    }
}

fn append(lane: Lane, text: &str) -> (Lane, Vec<u8>) {
    (lane, entry(text).seal())
}

/// What is in the spool, lane by lane in order, and the dead letters.
#[derive(Debug, Clone, Default, PartialEq)]
struct Contents {
    lanes: Vec<(Lane, Vec<Vec<u8>>)>,
    dead: Vec<DeadLetter>,
}

fn contents(store: &Store, book: &Book) -> Contents {
    let read = |number: u64| {
        let found = store.read(number, 0, usize::MAX, usize::MAX).unwrap();
        found.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>()
    };
    let mut lanes: Vec<_> = book
        .lanes
        .iter()
        .map(|(number, row)| (row.lane(), read(*number)))
        .collect();
    lanes.sort();
    let dead = store.dead_letters(0, usize::MAX).unwrap();
    let contents = Contents {
        lanes,
        dead: dead.into_iter().map(|(_, letter)| letter.unwrap()).collect(),
    };
    // What is counted is what is there.
    for (lane, entries) in &contents.lanes {
        let row = book.lanes.values().find(|row| row.lane() == *lane).unwrap();
        let bytes: usize = entries.iter().map(Vec::len).sum();
        assert_eq!((row.records, row.bytes), (entries.len() as u64, bytes as u64));
    }
    let bytes: usize = contents.dead.iter().map(|letter| letter.seal().len()).sum();
    let dead = Amount {
        records: contents.dead.len() as u64,
        bytes: bytes as u64,
    };
    assert_eq!(book.dead, dead);
    contents
}

/// One transaction, in terms of what is there.
#[derive(Debug, Clone)]
struct Step {
    append: Vec<(u8, u16)>,
    /// How many of the first records of a lane are delivered.
    deliver: (u8, usize),
    /// Whether the first of another one is given up.
    bury: Option<u8>,
    replay: bool,
    forget: bool,
    /// After how many operations on the disk the power is cut, and what is left then.
    cut: Option<(usize, u64)>,
}

fn step() -> impl Strategy<Value = Step> {
    let append = prop::collection::vec((0..3_u8, 0..3000_u16), 0..12);
    let cut = prop::option::weighted(0.4, (0..40_usize, any::<u64>()));
    (
        append,
        (0..3_u8, 0..10_usize),
        prop::option::of(0..3_u8),
        any::<bool>(),
        any::<bool>(),
        cut,
    )
        .prop_map(|(append, deliver, bury, replay, forget, cut)| Step {
            append,
            deliver,
            bury,
            replay,
            forget,
            cut,
        })
}

impl Step {
    /// The changes, and what is there after them.
    fn changes(&self, store: &Store, book: &Book, before: &Contents) -> (Changes, Contents) {
        let mut after = before.clone();
        let mut changes = Changes::default();
        let mut entries = |lane: &Lane, entry: Vec<u8>| match after.lanes.iter_mut().find(|(l, _)| l == lane)
        {
            Some((_, entries)) => entries.push(entry),
            None => after.lanes.push((lane.clone(), vec![entry])),
        };
        for (n, length) in &self.append {
            let (lane, entry) = append(lane(*n), &"x".repeat(usize::from(*length)));
            entries(&lane, entry.clone());
            changes.append.push((lane, entry));
        }
        let dead = store.dead_letters(0, usize::MAX).unwrap();
        if self.replay
            && let Some((number, letter)) = dead.first()
        {
            changes.replay.push(*number);
            let letter = letter.as_ref().unwrap();
            entries(&letter.lane(), letter.entry.seal());
            after.dead.remove(0);
        }
        if self.forget
            && let Some((number, _)) = dead.last().filter(|(number, _)| !changes.replay.contains(number))
        {
            changes.forget.push(*number);
            after.dead.pop();
        }
        let number = |n: u8| {
            book.lanes
                .iter()
                .find(|(_, row)| row.lane() == lane(n))
                .map(|(n, _)| *n)
        };
        let (from, count) = self.deliver;
        if let Some(number) = number(from) {
            let found = store.read(number, 0, count, usize::MAX).unwrap();
            changes
                .remove
                .extend(found.iter().map(|(record, _)| (number, *record)));
            let (_, entries) = after.lanes.iter_mut().find(|(l, _)| *l == lane(from)).unwrap();
            entries.drain(..found.len());
        }
        if let Some(of) = self.bury.filter(|of| *of != from)
            && let Some(number) = number(of)
        {
            let (record, encoded) = store.read(number, 0, 1, 1).unwrap().remove(0);
            let letter = DeadLetter {
                cluster: "main".to_owned(),
                producer: "default".to_owned(),
                topic: lane(of).topic,
                entry: Entry::open(&encoded).unwrap(),
                code: "too_large".to_owned(),
                reason: "not stored: too large".to_owned(),
                given_up_ms: 1,
            };
            changes.bury.push((number, record, letter.clone()));
            let (_, entries) = after.lanes.iter_mut().find(|(l, _)| *l == lane(of)).unwrap();
            entries.remove(0);
            after.dead.push(letter);
        }
        after.lanes.retain(|(_, entries)| !entries.is_empty());
        after.lanes.sort();
        (changes, after)
    }
}

/// Dead letters are in the order of their records, the model's in that of their burial.
fn alike(found: &Contents, expected: &Contents) -> bool {
    let sorted = |contents: &Contents| {
        let mut dead: Vec<Vec<u8>> = contents.dead.iter().map(Message::encode_to_vec).collect();
        dead.sort();
        dead
    };
    found.lanes == expected.lanes && sorted(found) == sorted(expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Wherever the power is cut, and whatever is then left of what was not synced: what was committed is there, and
    /// what was not is there as a whole or not at all.
    #[test]
    fn a_power_cut_loses_nothing_that_was_committed(steps in prop::collection::vec(step(), 1..25)) {
        let mut disk = Disk::default();
        let (mut store, mut book) = disk.open().unwrap();
        let mut known = Contents::default();
        for step in steps {
            let (changes, after) = step.changes(&store, &book, &known);
            let works = step.cut.map(|(works, _)| works);
            disk.0.lock().unwrap().works = works;
            let committed = store.commit(&mut book, &changes).is_ok();
            if let Some((_, seed)) = step.cut {
                let left = disk.after_power_cut(seed);
                // Closing it writes to a disk that is off.
                drop(store);
                disk = left;
                (store, book) = disk.open().unwrap();
                let found = contents(&store, &book);
                prop_assert!(
                    alike(&found, &after) || (!committed && alike(&found, &known)),
                    "committed: {committed}\nfound {found:?}\nexpected {after:?}"
                );
                known = found;
            } else {
                prop_assert!(committed);
                known = contents(&store, &book);
                prop_assert!(alike(&known, &after));
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_and_takes_more_when_there_is_room() {
    let disk = Disk::default();
    let (store, mut book) = disk.open().unwrap();
    let add = |book: &mut Book, text: &str| {
        let changes = Changes {
            append: vec![append(lane(0), text)],
            ..Changes::default()
        };
        store.commit(book, &changes)
    };
    add(&mut book, "first").unwrap();
    let size = disk.0.lock().unwrap().now.len() as u64;
    disk.0.lock().unwrap().size = Some(size);
    let large = "x".repeat(usize::try_from(size).unwrap());
    let why = add(&mut book, &large).unwrap_err().to_string();
    assert!(why.contains("No space left on device"), "{why}");
    let mut book = store.reopen().unwrap();
    assert_eq!(book.waiting().records, 1);
    // What fits is still taken, and what is delivered makes room.
    add(&mut book, "second").unwrap();
    disk.0.lock().unwrap().size = None;
    add(&mut book, &large).unwrap();
    assert_eq!(contents(&store, &book).lanes[0].1.len(), 3);
}

/// As after an error of the file system: it says so, keeps what it has, and goes on when the disk does.
#[test]
fn a_disk_that_becomes_read_only_keeps_what_it_has() {
    let disk = Disk::default();
    let (store, mut book) = disk.open().unwrap();
    let add = |book: &mut Book, text: &str| {
        let changes = Changes {
            append: vec![append(lane(0), text)],
            ..Changes::default()
        };
        store.commit(book, &changes)
    };
    add(&mut book, "before").unwrap();
    disk.0.lock().unwrap().read_only = true;
    let error = add(&mut book, "refused").unwrap_err();
    assert!(matches!(error.trouble, Trouble::Io { .. }), "{error}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    // A sidecar that is started now is told the same, or reads what is there.
    if let Err(error) = disk.open() {
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
    disk.0.lock().unwrap().read_only = false;
    let mut book = store.reopen().unwrap();
    add(&mut book, "after").unwrap();
    let found = contents(&store, &book);
    let expected = [append(lane(0), "before").1, append(lane(0), "after").1];
    assert_eq!(found.lanes[0].1, expected);
}

/// All of it is another version's, and not only the number: that is what is told of, and nothing is changed.
#[test]
fn a_whole_file_of_a_later_version_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(FILE);
    let records: TableDefinition<'_, &str, u64> = TableDefinition::new("records");
    let lanes: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("lanes");
    let database = Database::create(&file).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(META)
        .unwrap()
        .insert("version", VERSION + 1)
        .unwrap();
    write.open_table(records).unwrap().insert("a", 1).unwrap();
    write
        .open_table(lanes)
        .unwrap()
        .insert(&b"\xff"[..], &b"\xff"[..])
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let before = std::fs::read(&file).unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error.trouble, Trouble::Newer { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("run that one until the spool is empty"), "{error}");
    // Being opened at all is noted at the file's beginning.
    let after = std::fs::read(&file).unwrap();
    assert_eq!(before.len(), after.len());
    let database = Database::create(&file).unwrap();
    let read = database.begin_read().unwrap();
    assert_eq!(
        read.open_table(records)
            .unwrap()
            .get("a")
            .unwrap()
            .unwrap()
            .value(),
        1
    );
}

/// Rows that the first version wrote: they must be read for ever.
#[test]
fn rows_of_the_first_version_are_read() {
    // Entry: partition 3, key "k", value "v", header a=b, timestamp 5, spooled 6.
    let frozen = b"\x08\x03\x12\x01k\x1a\x01v\x22\x06\x0a\x01a\x12\x01b\x28\x05\x30\x06";
    let entry = Entry {
        partition: Some(3),
        key: Some("k".into()),
        value: Some("v".into()),
        headers: vec![sluice_proto::v1::Header {
            name: "a".to_owned(),
            value: Some(b"b".to_vec()),
        }],
        timestamp_ms: 5,
        spooled_ms: 6,
    };
    assert_eq!(entry.encode_to_vec(), frozen);
    assert_eq!(Entry::open(frozen).unwrap(), entry);
    // A field of a later version is passed over.
    assert_eq!(Entry::open(&[&frozen[..], b"\x78\x01"].concat()).unwrap(), entry);
    let row = LaneRow {
        records: 1,
        bytes: 2,
        ..LaneRow::new(&lane(1))
    };
    let frozen = b"\x0a\x04main\x12\x07default\x1a\x07topic-1\x20\x01\x28\x02";
    assert_eq!(row.encode_to_vec(), frozen);
    assert_eq!(LaneRow::open(frozen).unwrap(), row);
    let letter = DeadLetter {
        cluster: "main".to_owned(),
        entry,
        given_up_ms: 9,
        ..DeadLetter::default()
    };
    assert_eq!(DeadLetter::open(&letter.encode_to_vec()).unwrap(), letter);
}

/// A spool with two records in each of two lanes and two dead letters, and what is in it.
fn filled(store: &Store, book: &mut Book) -> Contents {
    let letter = |text: &str| DeadLetter {
        cluster: "main".to_owned(),
        entry: entry(text),
        code: "too_large".to_owned(),
        ..DeadLetter::default()
    };
    let changes = Changes {
        append: ["a", "b", "c", "d", "e", "f"]
            .iter()
            .zip([0, 0, 1, 1, 0, 0])
            .map(|(text, n)| append(lane(n), text))
            .collect(),
        ..Changes::default()
    };
    let done = store.commit(book, &changes).unwrap();
    let bury = |at: usize, text| (done.appended[at].0, done.appended[at].1, letter(text));
    let changes = Changes {
        bury: vec![bury(4, "e"), bury(5, "f")],
        ..Changes::default()
    };
    store.commit(book, &changes).unwrap();
    contents(store, book)
}

/// Changes a byte of a row, as a disk does.
fn spoil<K: redb::Key + 'static>(
    store: &Store,
    table: TableDefinition<'static, K, &'static [u8]>,
    at: usize,
    byte: usize,
) {
    store
        .with(|database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(table)?;
                let found = table.iter()?.nth(at).unwrap()?;
                let mut row = found.1.value().to_vec();
                let byte = byte % (row.len() - 1) + 1;
                row[byte] ^= 4;
                let bytes = K::as_bytes(&found.0.value()).as_ref().to_vec();
                drop(found);
                table.insert(K::from_bytes(&bytes), &row[..])?;
            }
            write.commit()?;
            Ok(())
        })
        .unwrap();
}

/// Whatever kind of row the disk changed: nobody takes it for what it is not, and all others are as they were.
#[test]
fn a_row_that_the_disk_changed_is_told_and_nothing_else_is_lost() {
    for byte in [0, 3, 7, 11, 40] {
        let disk = Disk::default();
        let (store, mut book) = disk.open().unwrap();
        let before = filled(&store, &mut book);

        // A record: it is in its place, and cannot be read.
        spoil(&store, RECORDS, 1, byte);
        let book = store.reopen().unwrap();
        let number = book.number_of(&lane(0));
        let rows = store.read(number, 0, 10, usize::MAX).unwrap();
        let rows: Vec<_> = rows.iter().map(|(_, row)| Entry::open(row)).collect();
        assert_eq!(rows[0], Ok(entry("a")));
        assert_eq!(rows[1], Err("its checksum does not fit".to_owned()));

        // A dead letter: it stays, whatever is asked for, until it is dropped.
        spoil(&store, DEAD, 0, byte);
        let mut book = store.reopen().unwrap();
        let dead = store.dead_letters(0, 10).unwrap();
        let (bad, good) = (dead[0].0, dead[1].0);
        assert_eq!(dead[0].1, Err("its checksum does not fit".to_owned()));
        assert_eq!(dead[1].1.as_ref(), Ok(&before.dead[1]));
        assert!(store.dead_letter(bad).unwrap().unwrap().is_err());
        let changes = Changes {
            replay: vec![bad, good],
            ..Changes::default()
        };
        let done = store.commit(&mut book, &changes).unwrap();
        assert_eq!(done.replayed.len(), 1);
        assert_eq!(
            (book.dead.records, store.dead_letters(0, 10).unwrap().len()),
            (1, 1)
        );

        // A lane: its records stay, and are nobody's; the other goes on, and so does a new one of its name.
        spoil(&store, LANES, 0, byte);
        let mut book = store.reopen().unwrap();
        let lanes = store.lanes().unwrap();
        assert_eq!(
            lanes.iter().find(|(at, _)| *at == number).unwrap().1,
            Err("its checksum does not fit".to_owned())
        );
        assert!(!book.lanes.contains_key(&number));
        let found = store.read(book.number_of(&lane(1)), 0, 10, usize::MAX).unwrap();
        let found: Vec<_> = found.iter().map(|(_, row)| Entry::open(row).unwrap()).collect();
        assert_eq!(found, [entry("c"), entry("d")]);
        let changes = Changes {
            append: vec![append(lane(0), "new")],
            ..Changes::default()
        };
        let done = store.commit(&mut book, &changes).unwrap();
        assert_ne!(done.appended[0].0, number);
        assert_eq!(store.read(number, 0, 10, usize::MAX).unwrap().len(), 2);

        let changes = Changes {
            forget: vec![bad],
            ..Changes::default()
        };
        assert_eq!(store.commit(&mut book, &changes).unwrap().forgotten, 1);
        assert_eq!(store.reopen().unwrap().dead, Amount::default());
    }
}

/// The counters have no checksum: a number is not given twice, and nothing written over, whatever they say.
#[test]
fn counters_that_the_disk_changed_are_counted_again() {
    let disk = Disk::default();
    let (store, mut book) = disk.open().unwrap();
    let mut expected = filled(&store, &mut book);
    store
        .with(|database| {
            let write = database.begin_write()?;
            for counter in ["next", "dead_records", "dead_bytes"] {
                write.open_table(META)?.insert(counter, 1)?;
            }
            write.commit()?;
            Ok(())
        })
        .unwrap();
    let mut book = store.reopen().unwrap();
    assert_eq!(contents(&store, &book), expected);
    let (to, new) = append(lane(0), "new");
    let changes = Changes {
        append: vec![(to, new.clone())],
        ..Changes::default()
    };
    store.commit(&mut book, &changes).unwrap();
    expected.lanes[0].1.push(new);
    assert_eq!(contents(&store, &book), expected);
}

#[test]
fn an_empty_spool_gives_its_space_back() {
    let directory = TempDir::new().unwrap();
    let size = || std::fs::metadata(directory.path().join(FILE)).unwrap().len();
    let (store, mut book) = Store::open(directory.path()).unwrap();
    let small = size();
    let changes = Changes {
        append: (0..5000).map(|_| append(lane(0), &"x".repeat(2000))).collect(),
        ..Changes::default()
    };
    let done = store.commit(&mut book, &changes).unwrap();
    let large = size();
    let changes = Changes {
        remove: done.appended,
        ..Changes::default()
    };
    store.commit(&mut book, &changes).unwrap();
    store.reopen().unwrap();
    assert!(
        large > 10_000_000 && size() <= small.max(2_000_000),
        "{small}, {large}, {}",
        size()
    );
}

/// What is left in it is moved.
#[test]
fn free_space_is_given_back_while_it_is_open() {
    let directory = TempDir::new().unwrap();
    let (store, mut book) = Store::open(directory.path()).unwrap();
    let changes = Changes {
        append: (0..5000).map(|_| append(lane(0), &"x".repeat(2000))).collect(),
        ..Changes::default()
    };
    let mut done = store.commit(&mut book, &changes).unwrap();
    let large = store.size();
    done.appended.remove(2500);
    let changes = Changes {
        remove: done.appended,
        ..Changes::default()
    };
    store.commit(&mut book, &changes).unwrap();
    store.compact().unwrap();
    let small = store.size();
    assert!(large > 10_000_000 && small < 1_000_000, "{large}, {small}");
    assert_eq!(contents(&store, &book).lanes[0].1.len(), 1);
}

//! A spool's file, and its rows: whatever is in it, it is opened or refused, and no record comes out that did not go in.

use std::sync::LazyLock;

use sluice::spool::{DeadLetter, Entry, Lane, parsers};

use crate::damage;

/// The records of the file that is changed.
static RECORDS: LazyLock<Vec<(Lane, Entry)>> = LazyLock::new(|| {
    let lane = |topic: &str| Lane {
        cluster: "main".to_owned(),
        producer: "default".to_owned(),
        topic: topic.to_owned(),
    };
    let record = |at: usize| {
        let mut entry = Entry::default();
        entry.key = (!at.is_multiple_of(3)).then(|| format!("key-{at}").into());
        entry.value = (!at.is_multiple_of(5)).then(|| "value ".repeat(at).into());
        entry.spooled_ms = 1_700_000_000_000 + at as i64;
        entry.timestamp_ms = entry.spooled_ms;
        (lane(["orders", "audit"][at % 2]), entry)
    };
    (0..40).map(record).collect()
});

/// Its dead letters.
static DEAD: LazyLock<Vec<DeadLetter>> = LazyLock::new(|| {
    let letter = |(at, (lane, entry)): (i64, &(Lane, Entry))| {
        let mut letter = DeadLetter::default();
        letter.cluster.clone_from(&lane.cluster);
        letter.producer.clone_from(&lane.producer);
        letter.topic = "refused".to_owned();
        letter.entry = entry.clone();
        letter.code = "too_large".to_owned();
        letter.reason = "not stored: too large".repeat(at as usize % 5);
        letter.given_up_ms = 1_700_000_100_000 + at;
        letter
    };
    (0..).zip(RECORDS.iter().step_by(4)).map(letter).collect()
});

static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| parsers::file(&RECORDS, &DEAD).expect("a file"));

/// A file as [`damage::file`] makes it.
pub(crate) fn file(data: &[u8]) {
    let Some((bytes, any)) = damage::file(data, &FILE) else {
        return;
    };
    let contents = damage::quietly(|| parsers::open(&bytes));
    assert!(
        contents.is_ok() || bytes != *FILE,
        "a good file is refused: {:?}",
        contents.err()
    );
    let Ok(contents) = contents else { return };
    for (letter, sealed) in contents.dead {
        assert!(
            !sealed || DEAD.contains(&letter) || any,
            "{letter:?} never was in it"
        );
    }
    for (_, row) in contents.records {
        let Ok(entry) = parsers::entry(&row) else { continue };
        // A row without a checksum is one of the first version, and any bytes may be a whole file of somebody else's.
        let sealed = parsers::row(&entry) == row;
        let known = RECORDS.iter().any(|(_, known)| *known == entry);
        assert!(!sealed || known || any, "{entry:?} never was in it");
    }
}

/// A row: what can be read can be written, and is the same then.
pub(crate) fn row(data: &[u8]) {
    let Ok(entry) = parsers::entry(data) else { return };
    let row = parsers::row(&entry);
    assert_eq!(parsers::entry(&row).as_ref(), Ok(&entry));
    // Any byte that is changed shows, but for the one that says that there is a checksum.
    if let Some(at) = data.first().map(|first| usize::from(*first) % row.len())
        && at > 0
    {
        let mut changed = row;
        changed[at] ^= 1;
        assert!(parsers::entry(&changed).is_err(), "byte {at} of {changed:?}");
    }
}

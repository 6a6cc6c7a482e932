//! A file of idempotency keys, and its rows: whatever is in it, it is opened or refused, and no answer comes out that was not
//! given.

use std::sync::LazyLock;

use sluice::idempotency::parsers;

use crate::damage;

/// How many keys the file that is changed has.
const KEYS: u8 = 60;

static WRITTEN: LazyLock<parsers::Written> = LazyLock::new(|| parsers::file(KEYS).expect("a file"));

/// A file as [`damage::file`] makes it.
pub(crate) fn file(data: &[u8]) {
    let (good, rows) = &*WRITTEN;
    let Some((bytes, any)) = damage::file(data, good) else {
        return;
    };
    let Ok(found) = damage::quietly(|| parsers::open(&bytes, KEYS)) else {
        return;
    };
    for row in found {
        // A row without a checksum is one of the first version, and any bytes may be a whole file of somebody else's.
        let sealed = parsers::row(&row).is_ok_and(|(again, _)| again == row);
        assert!(
            !sealed || any || rows.contains(&row),
            "{} never was in it",
            row.escape_ascii()
        );
    }
}

/// A row: what can be read can be written, and is the same then; any byte that is changed shows.
pub(crate) fn row(data: &[u8]) {
    let Ok((row, unknown)) = parsers::row(data) else {
        return;
    };
    assert_eq!(parsers::row(&row), Ok((row.clone(), unknown)));
    if let Some(at) = data.first().map(|first| usize::from(*first) % row.len())
        && at > 0
    {
        let mut changed = row;
        changed[at] ^= 1;
        assert!(parsers::row(&changed).is_err(), "byte {at} of {changed:?}");
    }
}

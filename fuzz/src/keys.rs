//! The rows of idempotency keys: whatever the disk made of them, no answer comes out that was not given.

use std::sync::LazyLock;

use sluice::idempotency::parsers;

use crate::damage;

static WRITTEN: LazyLock<parsers::Written> = LazyLock::new(|| parsers::file(60).expect("a file"));

/// A good file whose rows are changed: each four bytes are a row, an offset in it (2 bytes), and the bits that are other ones
/// then. What is between rows stays as it is: in a damaged page redb may panic while it cleans up for another panic, which no
/// handler catches and ends the fuzzer with nothing to be said about this code.
pub(crate) fn file(data: &[u8]) {
    let (good, rows) = &*WRITTEN;
    let mut bytes = good.clone();
    for change in data.chunks_exact(4) {
        let row = &rows[usize::from(change[0]) % rows.len()];
        let offset = usize::from(u16::from_be_bytes([change[1], change[2]])) % row.len();
        // redb leaves a row where it was when it writes it anew elsewhere.
        let places = good.windows(row.len()).enumerate();
        for (at, _) in places.filter(|(_, found)| found == row) {
            bytes[at + offset] ^= change[3];
        }
    }
    let found = damage::quietly(|| parsers::open(&bytes)).expect("the rows are no part of what is opened");
    for row in found {
        // A row without a checksum is one of the first version.
        let sealed = parsers::row(&row).is_ok_and(|(again, _)| again == row);
        assert!(
            !sealed || rows.contains(&row),
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

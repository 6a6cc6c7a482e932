//! A spool's file, and its rows: whatever is in it, it is opened or refused, and no record comes out that did not go in.

use std::cell::Cell;
use std::sync::{LazyLock, Once};

use sluice::spool::{Entry, Lane, parsers};

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

static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| parsers::file(&RECORDS).expect("a file"));

thread_local! {
    /// redb panics at some of these files. The sidecar takes that for the error that it is; the fuzzer must, too.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The last one, for the case that it was one too many.
    static LAST: Cell<String> = const { Cell::new(String::new()) };
}

/// Opens the file, and reports no panic that the sidecar takes care of.
fn open(bytes: &[u8]) -> Result<parsers::Contents, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                report(panic);
                return;
            }
            let last = LAST.replace(panic.to_string());
            if !last.is_empty() {
                eprintln!("{panic}, after {last}");
            }
        }));
    });
    QUIET.set(true);
    LAST.take();
    let opened = parsers::open(bytes);
    QUIET.set(false);
    opened
}

/// A good file with changes, each an offset (3 bytes), a length, and so many bytes; or any bytes, behind a 0xff.
pub(crate) fn file(data: &[u8]) {
    let any = data.first() == Some(&0xff);
    let bytes = match data.split_first() {
        None => return,
        Some((_, file)) if any => file.to_vec(),
        Some(_) => changed(data),
    };
    let Ok(contents) = open(&bytes) else { return };
    for (_, row) in contents.records {
        let Ok(entry) = parsers::entry(&row) else { continue };
        // A row without a checksum is one of the first version, and any bytes may be a whole file of somebody else's.
        let sealed = parsers::row(&entry) == row;
        let known = RECORDS.iter().any(|(_, known)| *known == entry);
        assert!(!sealed || known || any, "{entry:?} never was in it");
    }
}

fn changed(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = FILE.clone();
    while let Some((&[a, b, c, length], rest)) = data.split_first_chunk() {
        let at = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let at = at % bytes.len();
        let length = usize::from(length).min(rest.len()).min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&rest[..length]);
        data = &rest[length..];
    }
    bytes
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

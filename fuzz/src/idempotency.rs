//! `Idempotency-Key`.

use sluice_proto::idempotency::{self, MAX_KEY};

/// A key is within its bounds, and comes back when it is written in quotes; without quotes it is what was sent.
pub(crate) fn key(data: &[u8]) {
    let Ok(key) = idempotency::key(data) else {
        return;
    };
    assert!((1..=MAX_KEY).contains(&key.len()), "{}", key.len());
    assert!(
        key.iter().all(|byte| matches!(byte, b' '..=b'~')),
        "{}",
        key.escape_ascii()
    );
    let sent = data.trim_ascii();
    if !sent.starts_with(b"\"") {
        assert_eq!(*key, *sent);
    }
    let mut quoted = vec![b'"'];
    for byte in key.iter() {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    assert_eq!(
        idempotency::key(&quoted).as_deref(),
        Ok(&*key),
        "{}",
        quoted.escape_ascii()
    );
}

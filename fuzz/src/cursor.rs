//! Cursors and event ids, and where reading starts.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sluice::read::cursor::{Cursor, MAX_PARTITIONS};
use sluice::read::from::From;

/// What is read is within its bounds, and is read again from each form that it may be written in.
pub(crate) fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(cursor) = Cursor::parse(text) else {
        return;
    };
    let named: Vec<_> = cursor.iter().collect();
    assert!((1..=MAX_PARTITIONS).contains(&named.len()), "{}", named.len());
    for (topic, partition, offset) in named {
        assert!(sluice::config::check_topic(topic).is_ok(), "{topic:?}");
        assert!(
            partition >= 0 && (-1..i64::MAX).contains(&offset),
            "{partition} {offset}"
        );
        assert_eq!(cursor.seen(topic, partition), Some(offset));
    }
    let plain = cursor.to_string();
    // By another implementation's hand.
    let forms = [
        plain.clone(),
        cursor.text(true),
        STANDARD.encode(&plain),
        URL_SAFE_NO_PAD.encode(&plain),
    ];
    for form in forms
        .iter()
        .filter(|form| form.len() <= sluice::read::cursor::MAX_BYTES)
    {
        assert_eq!(Cursor::parse(form).as_ref(), Ok(&cursor), "{form}");
    }
}

/// Nothing panics, a time is what the library says of it in UTC, and records are named as they are in a cursor.
pub(crate) fn from(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match From::parse(text) {
        Ok(From::Last(count)) => assert_eq!(text.parse().ok(), Some(-count)),
        Ok(From::At(named)) => assert_eq!(Cursor::parse(text), Ok(named)),
        Ok(From::Time(ms)) => {
            if let Ok(utc) = humantime::parse_rfc3339(text) {
                let since = utc.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
                assert_eq!(i128::from(ms), since.as_millis().cast_signed());
            }
        }
        Ok(From::Earliest | From::Latest) | Err(_) => {}
    }
}

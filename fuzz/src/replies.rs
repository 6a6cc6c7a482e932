//! Locations of replies.

use sluice::config::Secret;
use sluice::replies::token::{Seal, Token};

/// Any text is a token or none; one that is one comes back when it is sealed again. What a key did not sign, it does not open.
pub(crate) fn token(data: &[u8]) {
    let bare = Seal::new(None);
    let keyed = Seal::new(Some(&Secret::new("0123456789abcdef")));
    let text = String::from_utf8_lossy(data);
    assert_eq!(keyed.open(&text), None);
    if let Some(token) = bare.open(&text) {
        assert_eq!(bare.open(&bare.seal(&token)).as_ref(), Some(&token));
    }
    let (id, rest) = data.split_at(data.len() / 2);
    let positions = rest.iter().map(|byte| i64::from(*byte) << (byte % 50));
    let token = Token {
        made_ms: data.len() as u64,
        cluster: text.chars().take(3).collect(),
        topic: text.chars().rev().take(5).collect(),
        id: id.to_vec(),
        positions: positions.collect(),
    };
    let sealed = keyed.seal(&token);
    if sealed.len() < 10_000 && token.positions.len() <= 1024 {
        assert_eq!(keyed.open(&sealed), Some(token));
    }
    let mut changed = sealed.into_bytes();
    if let Some(first) = changed.first_mut() {
        *first = if *first == b'A' { b'B' } else { b'A' };
    }
    assert_eq!(keyed.open(&String::from_utf8_lossy(&changed)), None);
}

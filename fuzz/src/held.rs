//! The held topic: what anybody who may write it can put there.

use sluice::subscriptions::engine::parsers::{held_id, held_value};

/// An id up to the first zero byte, and a value after it. Both come back as what they were read as.
pub(crate) fn held(input: &[u8]) {
    let (id, value) = match input.iter().position(|byte| *byte == 0) {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &[][..]),
    };
    if let Ok(text) = std::str::from_utf8(id)
        && let Some(again) = held_id(text)
    {
        assert_eq!(held_id(&again).as_ref(), Some(&again));
        assert_eq!(text.matches('/').count(), 3, "{text:?}");
    }
    if let Some(again) = held_value(value) {
        assert_eq!(held_value(&again), Some(again));
    }
}

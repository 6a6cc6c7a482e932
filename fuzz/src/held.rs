//! The held topic, and what is beside a group's positions: what anybody who may write them can put there.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sluice::subscriptions::engine::parsers::{finished_ahead, held_id, held_value};

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

/// The text beside a position. What is read of it is what a decoder of bits as text finds, and comes back as it was; of a text
/// that is longer than Kafka keeps the end may be missing.
pub(crate) fn finished(input: &[u8]) {
    const BASE: i64 = 1000;
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (ranges, again) = finished_ahead(text, "a", BASE);
    assert_eq!(ranges, slowly(text, BASE).unwrap_or_default(), "{text:?}");
    assert!(again.len() <= 4096);
    let (back, _) = finished_ahead(&again, "a", BASE);
    assert!(ranges.starts_with(&back), "{ranges:?} became {back:?}");
    if text.len() <= 4000 {
        assert_eq!(ranges, back);
    }
}

/// The numbers of Elias' gamma code, in a string of bits; then what is left.
fn numbers(mut bits: &str) -> (Vec<i64>, &str) {
    let mut numbers = Vec::new();
    while let Some(zeros) = bits.find('1') {
        let Some(n) = bits.get(zeros..=2 * zeros) else {
            break;
        };
        let Ok(n) = i64::from_str_radix(n, 2) else { break };
        numbers.push(n);
        bits = &bits[2 * zeros + 1..];
    }
    (numbers, bits)
}

fn slowly(text: &str, base: i64) -> Option<Vec<(i64, i64)>> {
    let code = text.strip_prefix("sluice1 ")?;
    let code = code.split(' ').find_map(|word| word.strip_prefix("a="))?;
    let bytes = URL_SAFE_NO_PAD.decode(code).ok()?;
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (numbers, left) = numbers(&bits);
    if left.len() >= 8 || numbers.len() % 2 == 1 {
        return None;
    }
    let (mut at, mut ranges): (i64, Vec<(i64, i64)>) = (base, Vec::new());
    for (n, pair) in numbers.chunks(2).enumerate() {
        let start = at.checked_add(pair[0] - i64::from(n == 0))?;
        at = start.checked_add(pair[1])?;
        ranges.push((start, at));
    }
    Some(ranges)
}

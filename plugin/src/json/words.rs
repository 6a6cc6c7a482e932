//! Eight bytes at a time: which of them cannot stand in a JSON string as they are.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many of the eight bytes, from the first, are neither `"` nor `\` nor a control character.
///
/// Each term marks the high bit of a byte that is meant; what else it marks (by a borrow) stands behind such a
/// byte, never before the first.
pub(super) fn plain_bytes(word: [u8; 8]) -> usize {
    let w = u64::from_le_bytes(word);
    let control = w.wrapping_sub(LOW * 0x20);
    let quote = (w ^ (LOW * u64::from(b'"'))).wrapping_sub(LOW);
    let backslash = (w ^ (LOW * u64::from(b'\\'))).wrapping_sub(LOW);
    // A byte of 0x80 or more is none of the three, and its high bit, which no xor above changes, unmarks it.
    let marked = (control | quote | backslash) & !w & HIGH;
    (marked.trailing_zeros() / 8) as usize
}

/// Whether a byte cannot stand in a JSON string as it is.
pub(super) fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place_is_judged_right() {
        for place in 0..8 {
            for byte in 0..=255_u8 {
                for filler in [b'a', 0x80, 0xff, 0x7f, b'!', b'#', b'[', b']', 0x20] {
                    let mut word = [filler; 8];
                    word[place] = byte;
                    let plain = word.iter().position(|b| is_special(*b)).unwrap_or(8);
                    assert_eq!(plain_bytes(word), plain, "{word:?}");
                }
            }
        }
    }
}

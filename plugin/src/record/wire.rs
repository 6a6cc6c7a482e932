//! Protobuf fields, written straight into a buffer.
//!
//! What is written is canonical (fields in the order of their numbers, shortest varints), so that equal records
//! are equal bytes. Wire format: <https://protobuf.dev/programming-guides/encoding/>.

/// A field's tag byte: wire type 0.
pub(crate) const fn varint_tag(field: u8) -> u8 {
    field << 3
}

/// A field's tag byte: wire type 2.
pub(crate) const fn bytes_tag(field: u8) -> u8 {
    field << 3 | 2
}

/// Appends a varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// Appends an integer field, zero included.
pub(crate) fn integer(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(varint_tag(field));
    varint(out, value);
}

/// Appends a fixed64 field, zero included.
pub(crate) fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string or bytes field, empty ones included.
pub(crate) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(bytes_tag(field));
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// How many bytes [`varint`] writes for `value`.
pub(crate) const fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// How many bytes [`bytes`] writes for a value of `len` bytes.
pub(crate) const fn bytes_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

/// A length-delimited field that was begun and whose length is not known yet.
#[derive(Debug)]
#[must_use = "a field that is begun must be ended"]
pub(crate) struct Begun {
    /// Where its length stands.
    at: usize,
    /// How many bytes are kept for its length.
    width: usize,
}

/// Begins a length-delimited field of about `guess` bytes: with a guess that is off by so much that the length
/// takes another number of bytes, [`end`] moves what was written.
pub(crate) fn begin(out: &mut Vec<u8>, field: u8, guess: usize) -> Begun {
    out.push(bytes_tag(field));
    let begun = Begun {
        at: out.len(),
        width: varint_len(guess),
    };
    out.resize(begun.at + begun.width, 0);
    begun
}

/// As [`begin`], of a field whose number is from 16 to 2047, and whose tag has two bytes.
pub(crate) fn begin_far(out: &mut Vec<u8>, field: u16, guess: usize) -> Begun {
    varint(out, u64::from(field) << 3 | 2);
    let begun = Begun {
        at: out.len(),
        width: varint_len(guess),
    };
    out.resize(begun.at + begun.width, 0);
    begun
}

/// Ends a field: everything after its beginning is its value.
pub(crate) fn end(out: &mut Vec<u8>, begun: Begun) {
    let from = begun.at + begun.width;
    let len = out.len().saturating_sub(from);
    let width = varint_len(len);
    if width > begun.width {
        out.resize(out.len() + width - begun.width, 0);
    }
    if width != begun.width {
        out.copy_within(from..from + len, begun.at + width);
        out.truncate(begun.at + width + len);
    }
    let mut rest = len as u64;
    for (i, byte) in out.iter_mut().skip(begun.at).take(width).enumerate() {
        let more = if i + 1 < width { 0x80 } else { 0 };
        *byte = low_bits(rest) | more;
        rest >>= 7;
    }
}

fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint_of(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, value);
        out
    }

    #[test]
    fn varints_are_those_of_protobuf() {
        assert_eq!(varint_of(0), [0]);
        assert_eq!(varint_of(127), [127]);
        assert_eq!(varint_of(300), [0xac, 0x02]);
        assert_eq!(varint_of(u64::MAX).len(), 10);
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            assert_eq!(varint_len(value), varint_of(value as u64).len(), "{value}");
        }
    }

    #[test]
    fn a_guessed_length_comes_out_like_a_known_one() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let value = vec![7; len];
            let mut known = vec![1, 2, 3];
            bytes(&mut known, 11, &value);
            assert_eq!(known.len(), 3 + bytes_len(len));
            for guess in [0, 127, 128, 16_384, 3_000_000] {
                let mut out = vec![1, 2, 3];
                let begun = begin(&mut out, 11, guess);
                out.extend_from_slice(&value);
                end(&mut out, begun);
                assert_eq!(out, known, "{len} guessed as {guess}");
            }
        }
    }
}

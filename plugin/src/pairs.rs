//! The form in which a proxy-wasm host passes header maps.
//!
//! A count, then the length of each name and of each value, all of them 32-bit little-endian; then each name and
//! each value, followed by a zero byte.

/// A pair of name and value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs in `raw`, in order. What does not fit the form ends the list.
pub fn parse(raw: &[u8]) -> Vec<Pair<'_>> {
    let Some((count, rest)) = raw.split_first_chunk() else {
        return Vec::new();
    };
    let count = u32::from_le_bytes(*count) as usize;
    let Some((lengths, mut rest)) = count.checked_mul(8).and_then(|size| rest.split_at_checked(size)) else {
        return Vec::new();
    };
    let mut pairs = Vec::with_capacity(count);
    for length in lengths.chunks_exact(8) {
        let Some((name, value)) = length.split_first_chunk() else {
            break;
        };
        let Some((value, _)) = value.split_first_chunk() else {
            break;
        };
        let Some(name) = take(&mut rest, u32::from_le_bytes(*name) as usize) else {
            break;
        };
        let Some(value) = take(&mut rest, u32::from_le_bytes(*value) as usize) else {
            break;
        };
        pairs.push((name, value));
    }
    pairs
}

/// The next `len` bytes; skips the zero after them.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after.get(1..)?;
    Some(taken)
}

/// Writes `pairs` in that form.
pub fn write(pairs: &[Pair<'_>]) -> Vec<u8> {
    let size: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 10)
        .sum();
    let mut out = Vec::with_capacity(4 + size);
    let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    out.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs {
        out.extend_from_slice(&length(name));
        out.extend_from_slice(&length(value));
    }
    for (name, value) in pairs {
        for bytes in [name, value] {
            out.extend_from_slice(bytes);
            out.push(0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let pairs: Vec<Pair<'_>> = pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
            let raw = write(&pairs);
            prop_assert_eq!(parse(&raw), pairs);
        }

        #[test]
        fn anything_is_read_somehow(raw: Vec<u8>) {
            parse(&raw);
        }
    }

    #[test]
    fn the_form_is_the_hosts() {
        let raw = b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0a\0bc\0d\0\0";
        let pairs: [Pair<'_>; 2] = [(b"a", b"bc"), (b"d", b"")];
        assert_eq!(parse(raw), pairs);
        assert_eq!(write(&pairs), raw);
    }

    #[test]
    fn a_count_that_cannot_be_is_nothing() {
        assert!(parse(b"\xff\xff\xff\xff").is_empty());
        assert!(parse(b"").is_empty());
        assert!(parse(b"\x01\0\0").is_empty());
    }
}

//! Header maps and property paths as proxy-wasm passes them: a count, the lengths of each name and value, then
//! names and values, each ended by a NUL. Numbers are 32-bit, little endian.

/// Names and values in order; names may repeat, neither need be UTF-8.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Envoy reads no map that is larger than this (`PROXY_WASM_HOST_PAIRS_MAX_BYTES` of proxy-wasm-cpp-host).
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Envoy reads no map that has more pairs than this (`PROXY_WASM_HOST_PAIRS_MAX_COUNT`).
pub(crate) const MAX_COUNT: usize = 1024;

/// `pairs` as the filter reads them.
pub(crate) fn encode(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = number(pairs.len());
    for (name, value) in pairs {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for (name, value) in pairs {
        for part in [name, value] {
            out.extend_from_slice(part);
            out.push(0);
        }
    }
    out
}

/// What the filter wrote. A map past the bounds, or cut off, is empty, as it is for Envoy.
pub(crate) fn decode(bytes: &[u8]) -> Pairs {
    if bytes.len() > MAX_BYTES {
        return Pairs::new();
    }
    try_decode(bytes).unwrap_or_default()
}

fn try_decode(bytes: &[u8]) -> Option<Pairs> {
    let (count, mut rest) = take_number(bytes)?;
    if count > MAX_COUNT {
        return None;
    }
    let mut lengths = Vec::new();
    for _ in 0..count {
        let (name, after) = take_number(rest)?;
        let (value, after) = take_number(after)?;
        lengths.push((name, value));
        rest = after;
    }
    let mut pairs = Pairs::new();
    for (name, value) in lengths {
        let (name, after) = take_part(rest, name)?;
        let (value, after) = take_part(after, value)?;
        pairs.push((name.to_vec(), value.to_vec()));
        rest = after;
    }
    Some(pairs)
}

fn number(n: usize) -> Vec<u8> {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes().to_vec()
}

fn take_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head) as usize, rest))
}

fn take_part(bytes: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let (part, rest) = bytes.split_at_checked(len)?;
    let (0, rest) = rest.split_first()? else {
        return None;
    };
    Some((part, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Pairs {
        of.iter()
            .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn a_map_is_counts_then_lengths_then_texts() {
        let one = pairs(&[("a", "bc"), ("a", "")]);
        let bytes = encode(&one);
        assert_eq!(
            bytes,
            b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0a\0bc\0a\0\0"
        );
        assert_eq!(decode(&bytes), one);
    }

    #[test]
    fn what_is_cut_off_or_too_large_is_empty() {
        let bytes = encode(&pairs(&[("name", "value")]));
        for end in 0..bytes.len() {
            assert!(decode(bytes.get(..end).unwrap()).is_empty(), "{end}");
        }
        assert!(decode(&encode(&pairs(&[("a", &"x".repeat(MAX_BYTES))]))).is_empty());
        assert!(decode(&encode(&vec![(vec![], vec![]); MAX_COUNT + 1])).is_empty());
        assert_eq!(
            decode(&encode(&vec![(vec![], vec![]); MAX_COUNT])).len(),
            MAX_COUNT
        );
    }
}

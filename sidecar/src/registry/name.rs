//! The Kafka key of a record of a registry: `{key}@{version}.{nonce}`.

use std::fmt;
use std::sync::Arc;

/// The longest key of a row, in bytes.
pub const MAX_KEY: usize = 1024;

/// What a record proposes: that `key` has its version `version`. The nonce tells proposals of the same version apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The row's key.
    pub key: Arc<str>,
    /// The version that the row has if the record is accepted; the first is 1.
    pub version: u64,
    /// Random.
    pub nonce: u128,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{:032x}", self.key, self.version, self.nonce)
    }
}

impl Name {
    /// Reads a Kafka key; none: it is not a registry's. What is read is what [`fmt::Display`] writes, and nothing else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (key, rest) = text.rsplit_once('@')?;
        let (version, nonce) = rest.split_once('.')?;
        let legal = !key.is_empty()
            && key.len() <= MAX_KEY
            && version.starts_with(|first| matches!(first, '1'..='9'))
            && nonce.len() == 32
            && nonce
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !legal {
            return None;
        }
        Some(Self {
            key: key.into(),
            version: version.parse().ok()?,
            nonce: u128::from_str_radix(nonce, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_name_is_none() {
        for text in [
            "",
            "a",
            "a@1",
            "a@1.",
            "a@0.00000000000000000000000000000001",
            "a@01.00000000000000000000000000000001",
            "a@+1.00000000000000000000000000000001",
            "@1.00000000000000000000000000000001",
            "a@1.1",
            "a@1.0000000000000000000000000000000G",
            "a@1.000000000000000000000000000000FF",
            "a@99999999999999999999.00000000000000000000000000000001",
        ] {
            assert_eq!(Name::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Name::parse(b"\xff@1.00000000000000000000000000000001"), None);
        assert_eq!(
            Name::parse(b"kind/a@b@7.000000000000000000000000000000ff"),
            Some(Name {
                key: "kind/a@b".into(),
                version: 7,
                nonce: 255
            })
        );
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(key in ".{1,40}", version in 1_u64.., nonce: u128) {
            let name = Name { key: key.into(), version, nonce };
            prop_assert_eq!(Name::parse(name.to_string().as_bytes()), Some(name));
        }

        #[test]
        fn any_bytes_are_a_name_or_none(bytes: Vec<u8>) {
            if let Some(name) = Name::parse(&bytes) {
                prop_assert_eq!(name.to_string().into_bytes(), bytes);
            }
        }
    }
}

//! Rows with a checksum: what the disk changed is told from what was written.
//!
//! A row is a protobuf message, and begins with the CRC-32 of all that is behind it, as a `fixed32` that would be a field of
//! the message: who knows no checksums passes over it. Rows that have none are read as well, since there were none at first.

/// What a row with a checksum begins with: the tag of a `fixed32` field that the message does not have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal(u8);

impl Seal {
    /// The seal that would be the message's field `number`, which is below 16 and no other's.
    pub(crate) const fn field(number: u8) -> Self {
        Self(number << 3 | 5)
    }

    /// The row of a message.
    pub(crate) fn close(self, message: &impl prost::Message) -> Vec<u8> {
        let encoded = message.encode_to_vec();
        let mut row = Vec::with_capacity(encoded.len() + 5);
        row.push(self.0);
        row.extend(crc32fast::hash(&encoded).to_le_bytes());
        row.extend(encoded);
        row
    }

    /// The message of a row.
    ///
    /// # Errors
    /// When the row is not as it was written; in words.
    pub(crate) fn open<M: prost::Message + Default>(self, row: &[u8]) -> Result<M, String> {
        let message = match row.split_first_chunk::<5>() {
            Some(([seal, check @ ..], message)) if *seal == self.0 => {
                if crc32fast::hash(message) != u32::from_le_bytes(*check) {
                    return Err("its checksum does not fit".to_owned());
                }
                message
            }
            _ => row,
        };
        M::decode(message).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with a string and a number.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Two {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(uint64, tag = "2")]
        number: u64,
    }

    #[test]
    fn every_bit_that_is_changed_shows_and_who_knows_no_checksums_reads_on() {
        let seal = Seal::field(15);
        let two = Two {
            name: "name".to_owned(),
            number: 300,
        };
        let row = seal.close(&two);
        assert_eq!(seal.open::<Two>(&row).unwrap(), two);
        // The first byte says that there is a checksum: all others are in it.
        for at in 1..row.len() {
            for bit in 0..8 {
                let mut changed = row.clone();
                changed[at] ^= 1 << bit;
                let why = seal.open::<Two>(&changed).unwrap_err();
                assert_eq!(why, "its checksum does not fit", "byte {at}, bit {bit}");
            }
        }
        for length in 5..row.len() {
            assert!(seal.open::<Two>(&row[..length]).is_err(), "{length}");
        }
        use prost::Message;
        assert_eq!(Two::decode(&row[..]).unwrap(), two);
        assert_eq!(seal.open::<Two>(&two.encode_to_vec()).unwrap(), two);
        assert!(seal.open::<Two>(b"\xff").is_err());
    }
}

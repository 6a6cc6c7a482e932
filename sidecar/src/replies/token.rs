//! What a Location ends with: which reply is looked for, and from where on.
//!
//! Base64 (URL-safe, without padding) of: the version (1); when it was made, in milliseconds since 1970; cluster, topic and
//! correlation id, each after its length; how many partitions there are, and the position in each; with a key the first 16
//! bytes of the HMAC-SHA256 of what is before them. Numbers are varints, as protobuf has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::config::{ReplyTopic, Secret};
use crate::read::cursor::Cursor;

const VERSION: u8 = 1;
/// The bytes of a signature that are kept.
const SIGNATURE: usize = 16;
/// The longest token that is read, in bytes of text.
const MAX_TEXT: usize = 16 * 1024;
/// The most partitions that one names.
const MAX_PARTITIONS: u64 = 1024;
/// How an id begins that was made here.
const MADE: &str = "sl-";
/// The random bytes of one.
const RANDOM: usize = 16;

/// A correlation id that nobody can guess: `sl-` and 32 hexadecimal digits.
pub(super) fn unguessable() -> Result<Vec<u8>, ErrorStack> {
    let mut random = [0; RANDOM];
    openssl::rand::rand_bytes(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{MADE}{digits}").into_bytes())
}

/// Whether it is one of those.
fn is_unguessable(id: &[u8]) -> bool {
    let digits = id.strip_prefix(MADE.as_bytes()).unwrap_or_default();
    digits.len() == 2 * RANDOM && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Which reply is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// When the request was, in milliseconds since 1970.
    pub made_ms: u64,
    /// The cluster.
    pub cluster: String,
    /// The topic where the reply comes.
    pub topic: String,
    /// Its correlation id.
    pub id: Vec<u8>,
    /// The position in each partition, before which it cannot be.
    pub positions: Vec<i64>,
}

impl Token {
    pub(super) fn new(entry: &ReplyTopic, id: &[u8], positions: &Cursor) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            made_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            cluster: entry.cluster.clone(),
            topic: entry.topic.clone(),
            id: id.to_vec(),
            positions: positions_of(positions),
        }
    }

    /// The same, looked for from further on.
    pub(super) fn further(self, positions: &Cursor) -> Self {
        Self {
            positions: positions_of(positions),
            ..self
        }
    }

    /// How old the request is.
    pub(super) fn age(&self) -> Duration {
        let made = UNIX_EPOCH.checked_add(Duration::from_millis(self.made_ms));
        let age = made.and_then(|made| SystemTime::now().duration_since(made).ok());
        age.unwrap_or_default()
    }

    /// What was seen of the topic.
    pub(super) fn cursor(&self) -> Cursor {
        let mut cursor = Cursor::default();
        for (partition, position) in (0..).zip(&self.positions) {
            cursor.see(&self.topic, partition, position.saturating_sub(1));
        }
        cursor
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint(&mut out, self.made_ms);
        for part in [self.cluster.as_bytes(), self.topic.as_bytes(), &self.id] {
            varint(&mut out, part.len() as u64);
            out.extend_from_slice(part);
        }
        varint(&mut out, self.positions.len() as u64);
        for position in &self.positions {
            varint(&mut out, position.max(&0).cast_unsigned());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let made_ms = number(&mut rest)?;
        let cluster = text(&mut rest)?;
        let topic = text(&mut rest)?;
        let id = part(&mut rest)?.to_vec();
        let count = number(&mut rest).filter(|count| *count <= MAX_PARTITIONS)?;
        let position = |_| i64::try_from(number(&mut rest)?).ok().filter(|at| *at < i64::MAX);
        let positions = (0..count).map(position).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self {
            made_ms,
            cluster,
            topic,
            id,
            positions,
        })
    }
}

/// The position in each partition: partitions are numbered from 0 on, and there are no gaps.
fn positions_of(cursor: &Cursor) -> Vec<i64> {
    let seen = cursor.iter().map(|(_, partition, seen)| (partition, seen));
    let mut seen: Vec<_> = seen.collect();
    seen.sort_unstable();
    seen.into_iter().map(|(_, seen)| seen.saturating_add(1)).collect()
}

/// Makes tokens, and knows those that were made.
pub struct Seal(Option<Secret>);

impl Seal {
    /// With a key tokens are signed.
    pub fn new(key: Option<&Secret>) -> Self {
        Self(key.cloned())
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    /// The text of a token.
    pub fn seal(&self, token: &Token) -> String {
        let mut bytes = token.encode();
        if let Some(signature) = self.signature(&bytes) {
            bytes.extend_from_slice(&signature);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The token of a text; nothing, if it is none that was made with this key. Without a key, only one whose correlation id
    /// nobody could guess.
    pub fn open(&self, text: &str) -> Option<Token> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        if self.0.is_none() {
            return Token::decode(&bytes).filter(|token| is_unguessable(&token.id));
        }
        let (said, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE)?)?;
        let own = self.signature(said)?;
        let same = own.len() == signature.len() && memcmp::eq(&own, signature);
        same.then(|| Token::decode(said))?
    }

    fn signature(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let key = PKey::hmac(self.0.as_ref()?.expose().as_bytes()).ok()?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key).ok()?;
        let mut signature = signer.sign_oneshot_to_vec(bytes).ok()?;
        signature.truncate(SIGNATURE);
        Some(signature)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has one bit left.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(number(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(part)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(part(rest)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(id: &[u8]) -> Token {
        Token {
            made_ms: 1_700_000_000_000,
            cluster: "main".to_owned(),
            topic: "orders.replies".to_owned(),
            id: id.to_vec(),
            positions: vec![0, 7, 1 << 40],
        }
    }

    #[test]
    fn only_what_was_sealed_opens() {
        let keyed = Seal::new(Some(&Secret::new("0123456789abcdef")));
        let other = Seal::new(Some(&Secret::new("fedcba9876543210")));
        let bare = Seal::new(None);
        let made = unguessable().unwrap();
        assert_ne!(made, unguessable().unwrap());
        for id in [&made[..], b"c-1"] {
            let text = keyed.seal(&token(id));
            assert_eq!(keyed.open(&text), Some(token(id)));
            assert_eq!(other.open(&text), None);
            assert_eq!(keyed.open(&bare.seal(&token(id))), None);
            for at in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(keyed.open(&String::from_utf8(changed).unwrap()), None, "{at}");
            }
        }
        assert_eq!(bare.open(&bare.seal(&token(&made))), Some(token(&made)));
        assert_eq!(bare.open(&bare.seal(&token(b"c-1"))), None, "it could be guessed");
        assert_eq!(bare.open(&bare.seal(&token(b"sl-0123"))), None);
        for text in ["", "AQ", "Ag", "*", &"A".repeat(MAX_TEXT + 4)] {
            assert_eq!(bare.open(text), None, "{text}");
            assert_eq!(keyed.open(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_where_a_cursor_was() {
        let entry = ReplyTopic {
            topic: "t".to_owned(),
            ..crate::replies::answer::tests::entry()
        };
        let mut cursor = Cursor::of("t", 0, -1);
        cursor.see("t", 1, 41);
        cursor.see("t", 10, 3);
        cursor.see("t", 2, 5);
        let token = Token::new(&entry, b"x", &cursor);
        assert_eq!(token.positions, [0, 42, 6, 4]);
        assert!(token.age() < Duration::from_secs(60));
        assert_eq!(token.cursor().seen("t", 1), Some(41));
        assert_eq!(token.cursor().seen("t", 0), Some(-1));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_what_is_opened(
            made_ms: u64, cluster: String, topic: String, id in proptest::collection::vec(any::<u8>(), 0..40),
            positions in proptest::collection::vec(0..i64::MAX, 0..20),
        ) {
            let token = Token { made_ms, cluster, topic, id, positions };
            let seal = Seal::new(Some(&Secret::new("0123456789abcdef")));
            prop_assert_eq!(seal.open(&seal.seal(&token)), Some(token));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(token) = Token::decode(&bytes) {
                prop_assert_eq!(Token::decode(&token.encode()), Some(token));
            }
        }
    }
}

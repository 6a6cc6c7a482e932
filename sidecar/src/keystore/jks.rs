//! Java's JKS, as `sun.security.provider.JavaKeyStore` and `KeyProtector` of OpenJDK write it. Numbers are big-endian:
//!
//! ```text
//! u32 0xfeedfeed, u32 version (1 or 2), u32 count, then each entry:
//!   u32 1 (a key),         alias, u64 ms, bytes (EncryptedPrivateKeyInfo), u32 count of certificates
//!   u32 2 (a certificate), alias, u64 ms, one certificate
//! certificate: [version 2: its type as text], bytes (DER)
//! text: u16 length, modified UTF-8    bytes: u32 length, as many
//! then SHA-1 of: the password in UTF-16BE, "Mighty Aphrodite", everything before
//! ```

use openssl::sha::Sha1;

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const JCEKS_MAGIC: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
const WHITENER: &[u8] = b"Mighty Aphrodite";
const DIGEST: usize = 20;
/// 1.3.6.1.4.1.42.2.17.1.1, Sun's own key protection.
const PROTECTION: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];

const DAMAGED: &str = "is damaged: it ends too early, or is no JKS store";

/// Whether the bytes begin like a JKS store, or like its sibling JCEKS.
pub fn is_jks(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || bytes.starts_with(&JCEKS_MAGIC)
}

/// A store's entries. Keys are still encrypted.
#[derive(Debug)]
pub struct Store<'a> {
    keys: Vec<Key<'a>>,
    trusted: Vec<&'a [u8]>,
}

#[derive(Debug)]
struct Key<'a> {
    encrypted: &'a [u8],
    chain: Vec<&'a [u8]>,
}

/// Reads a store; checks its integrity where there is a password.
///
/// # Errors
/// What is wrong, in words without secrets.
pub fn read<'a>(bytes: &'a [u8], password: Option<&str>) -> Result<Store<'a>, String> {
    if bytes.starts_with(&JCEKS_MAGIC) {
        return Err("is a JCEKS store, which is not read: convert it by keytool -importkeystore -deststoretype pkcs12".to_owned());
    }
    let store = parse(bytes).ok_or(DAMAGED)?;
    if let Some(password) = password {
        let (body, digest) = bytes
            .split_at_checked(bytes.len().saturating_sub(DIGEST))
            .ok_or(DAMAGED)?;
        let mut hash = Sha1::new();
        hash.update(&utf16(password));
        hash.update(WHITENER);
        hash.update(body);
        if hash.finish() != digest {
            return Err(
                "cannot be opened: the store's password is wrong, or the store is damaged".to_owned(),
            );
        }
    }
    Ok(store)
}

fn parse(bytes: &[u8]) -> Option<Store<'_>> {
    let body = bytes.len().checked_sub(DIGEST)?;
    let mut reader = Reader(bytes.get(..body)?);
    if reader.take(4)? != MAGIC {
        return None;
    }
    let version = reader.u32()?;
    if !matches!(version, 1 | 2) {
        return None;
    }
    let mut store = Store {
        keys: Vec::new(),
        trusted: Vec::new(),
    };
    for _ in 0..reader.u32()? {
        let tag = reader.u32()?;
        let _alias = reader.text()?;
        let _created = reader.take(8)?;
        match tag {
            1 => {
                let encrypted = reader.bytes()?;
                let count = reader.u32()?;
                let chain = (0..count)
                    .map(|_| reader.certificate(version))
                    .collect::<Option<_>>()?;
                store.keys.push(Key { encrypted, chain });
            }
            2 => store.trusted.push(reader.certificate(version)?),
            _ => return None,
        }
    }
    reader.0.is_empty().then_some(store)
}

impl<'a> Store<'a> {
    /// The certificates that Java would trust (DER): the trusted ones, and the first of each key's.
    pub fn certificates(&self) -> impl Iterator<Item = &'a [u8]> {
        let own = self.keys.iter().filter_map(|key| key.chain.first().copied());
        self.trusted.iter().copied().chain(own)
    }

    /// The one key that the store holds (PKCS#8, DER), and its certificates (DER), its own first.
    ///
    /// # Errors
    /// It holds no key, or several, or the password is not the key's.
    pub fn only_key(&self, password: &str) -> Result<(Vec<u8>, &[&'a [u8]]), String> {
        match self.keys.as_slice() {
            [] => Err("holds no private key".to_owned()),
            [key] => {
                let plain = decrypt(key.encrypted, password)?;
                Ok((plain, &key.chain))
            }
            several => Err(format!(
                "holds {} private keys: make a store with the one to use",
                several.len()
            )),
        }
    }
}

/// Takes off Sun's protection: salt (20 bytes), the key XORed with a chain of SHA-1 digests, SHA-1 of password and key.
fn decrypt(info: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let protected = protected(info).ok_or("its private key is not protected in the way of JKS")?;
    let password = utf16(password);
    let digest = |with: &[u8]| {
        let mut hash = Sha1::new();
        hash.update(&password);
        hash.update(with);
        hash.finish()
    };
    let (salt, rest) = protected.split_at_checked(DIGEST).ok_or(DAMAGED)?;
    let (encrypted, check) = rest
        .len()
        .checked_sub(DIGEST)
        .and_then(|at| rest.split_at_checked(at))
        .ok_or(DAMAGED)?;
    let mut plain = Vec::with_capacity(encrypted.len());
    let mut pad = digest(salt);
    for block in encrypted.chunks(DIGEST) {
        plain.extend(block.iter().zip(pad).map(|(byte, pad)| byte ^ pad));
        pad = digest(&pad);
    }
    if digest(&plain) != check {
        return Err("its private key cannot be decrypted: the key's password is wrong".to_owned());
    }
    Ok(plain)
}

/// What is in an EncryptedPrivateKeyInfo (RFC 5208) whose algorithm is Sun's.
fn protected(info: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader(Reader(info).der(0x30)?);
    let mut algorithm = Reader(outer.der(0x30)?);
    (algorithm.der(0x06)? == PROTECTION).then_some(())?;
    outer.der(0x04)
}

/// A password's characters as Java hashes them.
fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn certificate(&mut self, version: u32) -> Option<&'a [u8]> {
        if version == 2 {
            self.text()?;
        }
        self.bytes()
    }

    /// The content of the DER element that comes next, if its tag is this one.
    fn der(&mut self, tag: u8) -> Option<&'a [u8]> {
        let [found, first] = *self.take(2)?.as_array()?;
        if found != tag {
            return None;
        }
        let length = match first {
            0..=0x7f => first.into(),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                self.take(count)?
                    .iter()
                    .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte))
            }
            _ => return None,
        };
        self.take(length)
    }
}

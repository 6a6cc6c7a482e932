//! Java key stores: any bytes, and stores that a writer of our own makes of them.

use openssl::sha::Sha1;
use sluice::keystore::jks;

/// Any bytes are read or refused. A store that is made of them comes out as it went in, and none that is cut off or
/// changed does.
pub(crate) fn jks(bytes: &[u8]) {
    if let Ok(store) = jks::read(bytes, None) {
        for der in store.certificates() {
            let inside = bytes.as_ptr_range();
            assert!(der.is_empty() || inside.contains(&der.as_ptr()));
        }
        drop(store.only_key("secret"));
    }
    let (head, rest) = bytes.split_at(bytes.len().min(2));
    let (version, password) = match head {
        [a, b] => (1 + u32::from(a % 2), format!("secret{}", char::from(*b))),
        _ => (2, "secret".to_owned()),
    };
    let (key, certificate) = rest.split_at(rest.len() / 2);
    let made = Writer::new(version, 2)
        .key(version, key, &[certificate, b"second"], &password)
        .trusted(version, certificate)
        .finish(&password);
    let store = jks::read(&made, Some(&password)).expect("a store that was just made");
    let (found, chain) = store.only_key(&password).expect("its key");
    assert_eq!(found, key);
    assert_eq!(chain, [certificate, b"second"]);
    assert!(store.certificates().eq([certificate, certificate]));
    assert!(store.only_key("another").is_err());
    assert!(jks::read(&made, Some("another")).is_err());
    let at = bytes
        .first()
        .map_or(0, |byte| usize::from(*byte) * made.len() / 256);
    assert!(jks::read(&made[..at], Some(&password)).is_err());
    let mut changed = made.clone();
    changed[at] ^= 1;
    assert!(jks::read(&changed, Some(&password)).is_err());
}

fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn digest(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// Writes stores as OpenJDK's `JavaKeyStore` and `KeyProtector` do.
struct Writer(Vec<u8>);

impl Writer {
    fn new(version: u32, entries: u32) -> Self {
        let mut this = Self(Vec::new());
        [0xfeed_feed, version, entries]
            .into_iter()
            .for_each(|number| this.number(number));
        this
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).expect("short input"));
        self.0.extend(bytes);
    }

    fn head(&mut self, tag: u32) {
        self.number(tag);
        self.0.extend([0, 5]);
        self.0.extend(b"alias");
        self.0.extend([0; 8]);
    }

    fn certificate(&mut self, version: u32, der: &[u8]) {
        if version == 2 {
            self.0.extend([0, 5]);
            self.0.extend(b"X.509");
        }
        self.bytes(der);
    }

    fn key(mut self, version: u32, key: &[u8], chain: &[&[u8]], password: &str) -> Self {
        let password = utf16(password);
        let salt = [7; 20];
        let mut protected = salt.to_vec();
        let mut pad = digest(&[&password, &salt]);
        for block in key.chunks(20) {
            protected.extend(block.iter().zip(pad).map(|(byte, pad)| byte ^ pad));
            pad = digest(&[&password, &pad]);
        }
        protected.extend(digest(&[&password, key]));
        let oid = [
            0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01,
        ];
        let algorithm = der(0x30, &[&oid[..], &[0x05, 0x00]].concat());
        let info = der(0x30, &[algorithm, der(0x04, &protected)].concat());
        self.head(1);
        self.bytes(&info);
        self.number(u32::try_from(chain.len()).expect("a short chain"));
        chain.iter().for_each(|one| self.certificate(version, one));
        self
    }

    fn trusted(mut self, version: u32, der: &[u8]) -> Self {
        self.head(2);
        self.certificate(version, der);
        self
    }

    fn finish(mut self, password: &str) -> Vec<u8> {
        let end = digest(&[&utf16(password), b"Mighty Aphrodite", &self.0]);
        self.0.extend(end);
        self.0
    }
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => out.push(length),
        _ => {
            out.push(0x84);
            out.extend(u32::try_from(content.len()).expect("short input").to_be_bytes());
        }
    }
    out.extend(content);
    out
}

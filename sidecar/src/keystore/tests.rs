//! The stores of `testdata/keystores`, which keytool and openssl made.

use std::path::Path;

use super::*;

const STORE: Option<&str> = Some("store-secret");
const KEY: Option<&str> = Some("key-secret");

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/keystores");
    std::fs::read(folder.join(name)).unwrap()
}

fn identity_of(name: &str, password: Option<&str>, key_password: Option<&str>) -> Result<Identity, String> {
    let bytes = file(name);
    identity(Format::of(&bytes).unwrap(), &bytes, password, key_password)
}

fn why<T>(result: Result<T, String>) -> String {
    match result {
        Ok(_) => panic!("it is good"),
        Err(why) => {
            assert!(!why.contains("secret"), "{why}");
            why
        }
    }
}

/// However the client's key and chain are kept, what comes out is the same.
#[test]
fn every_store_has_the_same_identity() {
    let (chain, key) = (file("chain.pem"), file("key.pem"));
    let stores = [
        ("both.pem", None, None),
        ("openssl.p12", STORE, None),
        ("openssl.p12", STORE, STORE),
        ("keytool.p12", STORE, None),
        ("legacy.p12", STORE, None),
        ("one-password.jks", STORE, None),
        ("two-passwords.jks", STORE, KEY),
    ];
    for (name, password, key_password) in stores {
        let found = identity_of(name, password, key_password).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(found.chain_pem().unwrap().as_bytes(), chain, "{name}");
        assert_eq!(found.key_pem().unwrap().as_bytes(), key, "{name}");
        assert_eq!(found.check_validity(), Ok(()), "{name}");
    }
    for (name, password) in [
        ("key.pem", None),
        ("key-encrypted.pem", KEY),
        ("key-traditional.pem", KEY),
    ] {
        let found = identity_pem(&chain, &file(name), password).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(found.key_pem().unwrap().as_bytes(), key, "{name}");
    }
}

#[test]
fn formats_are_told_apart() {
    for (name, format) in [
        ("both.pem", Format::Pem),
        ("root.pem", Format::Pem),
        ("keytool.p12", Format::Pkcs12),
        ("openssl.p12", Format::Pkcs12),
        ("trust.jks", Format::Jks),
        ("jceks.jks", Format::Jks),
    ] {
        assert_eq!(Format::of(&file(name)), Some(format), "{name}");
    }
    assert_eq!(Format::of(b"neither"), None);
    assert_eq!(Format::of(b""), None);
}

#[test]
fn every_trusted_certificate_comes_out() {
    let root = file("root.pem");
    let count = |name: &str, password| {
        let bytes = file(name);
        let trusted = trust(Format::of(&bytes).unwrap(), &bytes, password).unwrap();
        assert_eq!(trusted.check_validity(), Ok(Vec::new()));
        let pem = trusted.to_pem().unwrap();
        assert!(pem.contains(std::str::from_utf8(&root).unwrap().trim()), "{name}");
        pem.matches("BEGIN CERTIFICATE").count()
    };
    assert_eq!(count("root.pem", None), 1);
    assert_eq!(count("trust.p12", STORE), 1);
    assert_eq!(count("trust.jks", STORE), 2);
    assert_eq!(
        count("trust.jks", None),
        2,
        "as Java, which then does not check it"
    );
    // Java trusts a key's own certificate too.
    let bytes = file("one-password.jks");
    let own = trust(Format::Jks, &bytes, STORE).unwrap().to_pem().unwrap();
    assert!(file("chain.pem").starts_with(own.as_bytes()));
}

#[test]
fn what_is_wrong_is_told() {
    let wrong = Some("guess");
    let rows = [
        ("openssl.p12", wrong, None, "the store's password is wrong"),
        ("keytool.p12", None, None, "the store's password is wrong"),
        ("legacy.p12", wrong, None, "the store's password is wrong"),
        ("keytool.p12", STORE, KEY, "a PKCS#12 store has one password"),
        ("one-password.jks", wrong, None, "the store's password is wrong"),
        ("one-password.jks", None, None, "needs its password"),
        ("two-passwords.jks", STORE, None, "the key's password is wrong"),
        ("two-keys.jks", STORE, None, "holds 2 private keys"),
        ("trust.jks", STORE, None, "holds no private key"),
        ("trust.p12", STORE, None, "holds no private key"),
        ("jceks.jks", STORE, None, "keytool -importkeystore"),
        ("root.pem", None, None, "holds no private key"),
        ("key.pem", None, None, "holds no certificate"),
    ];
    for (name, password, key_password, expected) in rows {
        let why = why(identity_of(name, password, key_password));
        assert!(why.contains(expected), "{name}: {why}");
    }
    let chain = file("chain.pem");
    for (name, password, expected) in [
        ("key-encrypted.pem", None, "`key_password` is needed"),
        ("key-encrypted.pem", wrong, "the key's password is wrong"),
        ("key-traditional.pem", None, "`key_password` is needed"),
        ("key-traditional.pem", wrong, "the key's password is wrong"),
        (
            "old-key.pem",
            None,
            "is not that of the certificate O=Example, CN=client",
        ),
    ] {
        let why = why(identity_pem(&chain, &file(name), password));
        assert!(why.contains(expected), "{name}: {why}");
    }
    let chain = String::from_utf8(chain).unwrap();
    let (client, middle) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
    let turned = format!("{middle}{client}");
    let why = why(identity_pem(turned.as_bytes(), &file("key.pem"), None));
    assert!(
        why.contains("must be the first certificate of the chain"),
        "{why}"
    );
}

#[test]
fn an_expired_certificate_is_told() {
    let old = identity_pem(&file("old.pem"), &file("old-key.pem"), None).unwrap();
    let why = old.check_validity().unwrap_err();
    assert!(why.starts_with("the certificate CN=old expired on "), "{why}");
    let only = trust(Format::Pem, &file("old.pem"), None).unwrap();
    assert!(only.check_validity().unwrap_err().contains("expired"));
    let both = [file("old.pem"), file("root.pem")].concat();
    let both = trust(Format::Pem, &both, None).unwrap();
    let warnings = both.check_validity().unwrap();
    assert_eq!(warnings.len(), 1);
}

/// Wherever a store is cut off or damaged, that is an error, and never a panic.
#[test]
fn damaged_stores_are_refused() {
    for name in ["one-password.jks", "trust.jks", "keytool.p12"] {
        let whole = file(name);
        let format = Format::of(&whole).unwrap();
        for cut in (4..whole.len()).step_by(7) {
            assert!(
                identity(format, &whole[..cut], STORE, None).is_err(),
                "{name} at {cut}"
            );
        }
        if format == Format::Jks {
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                assert!(jks::read(&damaged, STORE).is_err(), "{name} at {at}");
            }
        }
    }
}

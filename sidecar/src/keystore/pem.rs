//! PEM text.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// Every certificate in the text; what is not a certificate is passed over.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<X509>, String> {
    let found = X509::stack_from_pem(text).map_err(|_| "holds a certificate that cannot be read as PEM")?;
    if found.is_empty() {
        return Err("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found)
}

/// The private key in the text.
pub(super) fn key(text: &[u8], password: Option<&str>) -> Result<PKey<Private>, String> {
    let Some(begin) = memchr::memmem::find(text, b"PRIVATE KEY-----") else {
        return Err("holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned());
    };
    let encrypted = text
        .get(..begin)
        .is_some_and(|before| before.ends_with(b"ENCRYPTED "))
        || memchr::memmem::find(text, b"Proc-Type: 4,ENCRYPTED").is_some();
    let mut asked = false;
    let read = PKey::private_key_from_pem_callback(text, |into| {
        asked = true;
        let password = password.unwrap_or_default().as_bytes();
        let room = into.get_mut(..password.len());
        Ok(room.map_or(0, |room| {
            room.copy_from_slice(password);
            password.len()
        }))
    });
    read.map_err(|_| {
        match password {
            None if encrypted => "its private key is encrypted: `key_password` is needed",
            Some(_) if asked => "its private key cannot be decrypted: the key's password is wrong",
            _ => "its private key cannot be read",
        }
        .to_owned()
    })
}

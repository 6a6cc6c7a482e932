//! AES-256-GCM: base64 of the IV (16 bytes), what is encrypted, and the tag (16 bytes). The key is the first 32 bytes of the secret.
//! It is what `decrypt_field` of port-agent (`app/utils.py`) takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::symm::{Cipher, encrypt_aead};

/// The length of the key: the first bytes of the secret.
pub(super) const KEY: usize = 32;
const IV: usize = 16;
const TAG: usize = 16;

/// `plain`, encrypted with the first bytes of `secret`.
///
/// # Errors
/// The secret is too short, or OpenSSL fails; in words without either.
pub(crate) fn seal(secret: &[u8], plain: &[u8]) -> Result<String, String> {
    let Some(key) = secret.get(..KEY) else {
        return Err(format!(
            "has less than the {KEY} bytes that a key of aes256-gcm takes"
        ));
    };
    let failed = |_| "cannot be used: OpenSSL's aes-256-gcm failed".to_owned();
    let (mut iv, mut tag) = ([0; IV], [0; TAG]);
    openssl::rand::rand_bytes(&mut iv).map_err(failed)?;
    let sealed = encrypt_aead(Cipher::aes_256_gcm(), key, Some(&iv), &[], plain, &mut tag).map_err(failed)?;
    Ok(STANDARD.encode([&iv[..], &sealed, &tag].concat()))
}

//! Signatures: the Standard Webhooks specification
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>), and Port's
//! (<https://docs.port.io/actions-and-automations/setup-backend/webhook/signature-verification/>).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;

use crate::config::Secret;

const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const PORT_TIMESTAMP: HeaderName = HeaderName::from_static("x-port-timestamp");
const PORT_SIGNATURE: HeaderName = HeaderName::from_static("x-port-signature");

/// Secrets are written with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key that requests are signed with.
#[derive(Clone)]
pub struct Key {
    key: PKey<Private>,
    /// What it was made of: keys of OpenSSL's cannot be compared.
    secret: Secret,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

impl Eq for Key {}

/// What a request is signed with.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// `signature.secrets`: there is a signature by each, so that a receiver may know any of them while they are changed.
    pub standard: Vec<Key>,
    /// `signature.port_secret`
    pub port: Option<Key>,
}

impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signatures")
            .field("standard", &self.standard.len())
            .field("port", &self.port.is_some())
            .finish()
    }
}

impl Key {
    /// `whsec_` and base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// It is not; it is not quoted.
    pub fn standard(secret: &Secret) -> Result<Self, String> {
        let text = secret.expose();
        let text = text.strip_prefix("whsec_").unwrap_or(text);
        let bytes = LENIENT.decode(text).unwrap_or_default();
        if !(24..=64).contains(&bytes.len()) {
            return Err(
                "must be `whsec_` and base64 of 24 to 64 bytes, as `openssl rand -base64 32` makes"
                    .to_owned(),
            );
        }
        Self::of(&bytes, secret)
    }

    /// The secret's characters, as Port uses them.
    ///
    /// # Errors
    /// OpenSSL takes no such key.
    pub fn plain(secret: &Secret) -> Result<Self, String> {
        Self::of(secret.expose().as_bytes(), secret)
    }

    fn of(bytes: &[u8], secret: &Secret) -> Result<Self, String> {
        let key = PKey::hmac(bytes).map_err(|error| format!("OpenSSL cannot use it: {error}"))?;
        Ok(Self {
            key,
            secret: secret.clone(),
        })
    }

    /// Port's signature of `body`, sent at `timestamp`, in seconds since 1970.
    ///
    /// # Errors
    /// OpenSSL cannot sign.
    pub fn port(&self, timestamp: &str, body: &[u8]) -> Result<String, String> {
        let signature = self.sign(&[timestamp.as_bytes(), b".", body]);
        let signature = signature.map_err(|error| format!("cannot be signed: {error}"))?;
        Ok(format!("v1,{signature}"))
    }

    fn sign(&self, parts: &[&[u8]]) -> Result<String, ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        for part in parts {
            signer.update(part)?;
        }
        Ok(STANDARD.encode(signer.sign_to_vec()?))
    }
}

impl Signatures {
    /// Adds what says that `body` is from whoever has the keys, at the time of this attempt.
    ///
    /// # Errors
    /// OpenSSL cannot sign.
    pub(super) fn add(
        &self,
        headers: &mut HeaderMap,
        id: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), String> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let timestamp = seconds.to_string();
        let failed = |error: ErrorStack| format!("cannot be signed: {error}");
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| "cannot be signed".to_owned());
        if !self.standard.is_empty() {
            let mut all = String::new();
            for key in &self.standard {
                let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
                let separator = if all.is_empty() { "" } else { " " };
                all += separator;
                all += "v1,";
                all += &key.sign(&parts).map_err(failed)?;
            }
            headers.insert(TIMESTAMP, value(&timestamp)?);
            headers.insert(SIGNATURE, value(&all)?);
        }
        if let Some(key) = &self.port {
            headers.insert(PORT_TIMESTAMP, value(&timestamp)?);
            headers.insert(PORT_SIGNATURE, value(&key.port(&timestamp, body)?)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(signatures: &Signatures, seconds: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        signatures
            .add(
                &mut headers,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                br#"{"test": 2432232314}"#,
                now,
            )
            .unwrap();
        headers
    }

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signatures = Signatures {
            standard: vec![Key::standard(&secret).unwrap()],
            port: None,
        };
        let headers = signed(&signatures, 1_614_265_330);
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(
            headers["webhook-signature"],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(!headers.contains_key("x-port-signature"));
    }

    #[test]
    fn there_is_a_signature_by_each_key() {
        let key = |byte: u8| {
            let text = format!("whsec_{}", STANDARD.encode([byte; 32]));
            Key::standard(&Secret::new(text)).unwrap()
        };
        let both = Signatures {
            standard: vec![key(1), key(2)],
            port: Some(Key::plain(&Secret::new("client secret")).unwrap()),
        };
        let headers = signed(&both, 1);
        let one = Signatures {
            standard: vec![key(2)],
            port: None,
        };
        let all = headers["webhook-signature"].to_str().unwrap();
        let second = signed(&one, 1)["webhook-signature"].to_str().unwrap().to_owned();
        assert_eq!(all.split(' ').nth(1), Some(second.as_str()));
        assert_eq!(all.split(' ').count(), 2);
        assert_eq!(headers["x-port-timestamp"], "1");
        assert!(headers["x-port-signature"].to_str().unwrap().starts_with("v1,"));
        assert_eq!(format!("{both:?}"), "Signatures { standard: 2, port: true }");
    }

    #[test]
    fn a_secret_is_long_enough_and_not_quoted() {
        for bad in [
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_!!!",
            "",
            &STANDARD.encode([1; 65]),
        ] {
            let why = Key::standard(&Secret::new(bad)).err().unwrap();
            assert!(
                why.contains("24 to 64 bytes")
                    && (bad.is_empty() || !why.contains(&bad[6..]) || bad == "whsec_"),
                "{why}"
            );
        }
        for good in [
            STANDARD.encode([1; 24]),
            STANDARD.encode([1; 64]),
            STANDARD.encode([1; 25]).replace('=', ""),
        ] {
            assert!(Key::standard(&Secret::new(good)).is_ok());
        }
    }
}

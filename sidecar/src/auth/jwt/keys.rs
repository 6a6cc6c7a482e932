//! An issuer's keys: a JSON Web Key Set (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::signature;

/// The most keys that a set may have.
const MOST: usize = 100;

/// The keys of a set that signatures can be checked with.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// What it may have signed.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a set. Keys for encryption, secret ones, and those of a kind that is not known are left out.
    ///
    /// # Errors
    /// It is no key set, has too many keys, or none that can be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(bytes).map_err(|_| "it is no JSON".to_owned())?;
        let Some(Value::Array(items)) = set.get("keys") else {
            return Err("it is no JSON Web Key Set: it has no list `keys`".to_owned());
        };
        if items.len() > MOST {
            return Err(format!("it has {} keys, and may have {MOST}", items.len()));
        }
        let mut first = None;
        let mut keys = Vec::new();
        for item in items {
            match Key::read(item) {
                Ok(key) => keys.push(key),
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        if keys.is_empty() {
            let why = first.map_or_else(String::new, |why| format!("; of the first: {why}"));
            return Err(format!(
                "none of its {} keys can be used to check a signature{why}",
                items.len()
            ));
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What each key may have signed.
    #[cfg(feature = "parsers")]
    pub(super) fn list(&self) -> Vec<Vec<Algorithm>> {
        self.0.iter().map(|key| key.algorithms.clone()).collect()
    }

    /// The keys that may have signed a token with this `kid`: those of this id, or all if the token names none.
    pub(super) fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            let named = id.is_none_or(|id| key.id.as_deref() == Some(id));
            named && key.algorithms.contains(&algorithm)
        };
        self.0.iter().filter(fits).map(|key| &key.key)
    }

    /// Whether there is any.
    pub(super) fn has(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.fitting(id, algorithm).next().is_some()
    }
}

impl Key {
    fn read(item: &Value) -> Result<Self, String> {
        let unknown = |_| "it is none of the kinds RSA, EC and OKP".to_owned();
        let jwk: Jwk = serde_json::from_value(item.clone()).map_err(unknown)?;
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("its `use` is not `sig`".to_owned());
        }
        if let Some(operations) = &common.key_operations
            && !operations.contains(&KeyOperations::Verify)
        {
            return Err("its `key_ops` are without `verify`".to_owned());
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return Err("its curve is neither P-256 nor P-384".to_owned()),
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            AlgorithmParameters::OctetKeyPair(_) => return Err("its curve is not Ed25519".to_owned()),
            // A secret that is published is none.
            _ => return Err("it is none of the kinds RSA, EC and OKP".to_owned()),
        };
        if let Some(declared) = common.key_algorithm {
            algorithms.retain(|algorithm| Algorithm::try_from(declared).is_ok_and(|d| d == *algorithm));
        }
        let first = algorithms.first().ok_or("its `alg` is none that its kind has")?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are not in base64url".to_owned())?;
        signature::usable(*first, &key)?;
        Ok(Self {
            id: common.key_id.clone(),
            algorithms,
            key,
        })
    }
}

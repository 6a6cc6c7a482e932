//! Signatures, checked by OpenSSL: what `jsonwebtoken` asks a provider of cryptography for.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{self, RsaPssSaltlen};

/// The smallest RSA key that is taken, in bits (RFC 7518, section 3.3).
const SMALLEST: u32 = 2048;
/// The largest, which OpenSSL's own bound for checking signatures is (`OPENSSL_RSA_MAX_MODULUS_BITS`).
const LARGEST: u32 = 16_384;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Checker::new(*algorithm, key)?)),
    // For making keys of others and digests of keys, neither of which is done here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has `jsonwebtoken` check signatures here. To be called before any token is decoded.
pub(super) fn install() {
    if PROVIDER.install_default().is_err() {
        tracing::trace!("it was installed by another provider of tokens");
    }
}

/// Whether a key can be used with an algorithm.
///
/// Fails with what is wrong with it.
pub(super) fn usable(algorithm: Algorithm, key: &DecodingKey) -> std::result::Result<(), String> {
    Checker::new(algorithm, key)
        .map(drop)
        .map_err(|error| match error.kind() {
            ErrorKind::Provider(why) => why.clone(),
            _ => "it is not of the kind that its algorithm needs".to_owned(),
        })
}

/// Checks what is signed with one key.
struct Checker {
    algorithm: Algorithm,
    key: PKey<Public>,
}

impl Checker {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        // What keeps a public key from being taken for the secret of an HMAC, and one curve's key for another's.
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        let key = match (algorithm.family(), key.kind()) {
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => rsa(n, e)?,
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => match algorithm {
                Algorithm::ES256 => point_of(Nid::X9_62_PRIME256V1, point),
                _ => point_of(Nid::SECP384R1, point),
            }
            .map_err(|_| wrong("it is no point of its curve"))?,
            (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(bytes)) => {
                PKey::public_key_from_raw_bytes(bytes, Id::ED25519)
                    .map_err(|_| wrong("it is no Ed25519 key"))?
            }
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        Ok(Self { algorithm, key })
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> std::result::Result<bool, ErrorStack> {
        let digest = digest(self.algorithm);
        match self.algorithm.family() {
            AlgorithmFamily::Rsa => {
                let mut verifier = sign::Verifier::new(digest, &self.key)?;
                if matches!(
                    self.algorithm,
                    Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512
                ) {
                    verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                    verifier.set_rsa_mgf1_md(digest)?;
                    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                }
                verifier.verify_oneshot(signature, message)
            }
            AlgorithmFamily::Ec => {
                // R and S, each as long as the curve's order (RFC 7518, section 3.4).
                let half = if self.algorithm == Algorithm::ES256 {
                    32
                } else {
                    48
                };
                let Some((r, s)) = signature.split_at_checked(half).filter(|(_, s)| s.len() == half) else {
                    return Ok(false);
                };
                let signature =
                    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
                let own = self.key.ec_key()?;
                signature.verify(&hash(digest, message)?, &own)
            }
            AlgorithmFamily::Ed => {
                sign::Verifier::new_without_digest(&self.key)?.verify_oneshot(signature, message)
            }
            AlgorithmFamily::Hmac => Ok(false),
        }
    }
}

impl Verifier<Vec<u8>> for Checker {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        // An error is of a signature that cannot be one.
        match self.check(message, signature) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(signature::Error::new()),
        }
    }
}

impl JwtVerifier for Checker {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Result<PKey<Public>> {
    let read = || Rsa::from_public_components(BigNum::from_slice(n)?, BigNum::from_slice(e)?);
    let key = read().map_err(|_| wrong("it is no RSA key"))?;
    let bits = key.n().num_bits().unsigned_abs();
    if !(SMALLEST..=LARGEST).contains(&bits) {
        return Err(wrong(&format!(
            "it has {bits} bits, and RSA keys have {SMALLEST} to {LARGEST}"
        )));
    }
    // With 1 everything is its own signature.
    if key.e().num_bits() < 2 || !key.e().is_bit_set(0) {
        return Err(wrong("its exponent is none"));
    }
    PKey::from_rsa(key).map_err(|_| wrong("it is no RSA key"))
}

fn point_of(curve: Nid, bytes: &[u8]) -> std::result::Result<PKey<Public>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    let mut context = BigNumContext::new()?;
    // That the point is on the curve, OpenSSL checks where it reads it.
    let point = EcPoint::from_bytes(&group, bytes, &mut context)?;
    let key = EcKey::from_public_key(&group, &point)?;
    key.check_key()?;
    PKey::from_ec_key(key)
}

fn digest(algorithm: Algorithm) -> MessageDigest {
    match algorithm {
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => MessageDigest::sha384(),
        Algorithm::RS512 | Algorithm::PS512 => MessageDigest::sha512(),
        _ => MessageDigest::sha256(),
    }
}

fn wrong(why: &str) -> Error {
    ErrorKind::Provider(why.to_owned()).into()
}

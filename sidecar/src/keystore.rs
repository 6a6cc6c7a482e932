//! Certificates and keys from the files that people have them in: PEM, PKCS#12, and Java's JKS. What leaves here is
//! PEM in memory, which is what librdkafka takes.

pub mod jks;
mod pem;
mod pkcs12;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Ref};

/// What a store is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PEM text.
    Pem,
    /// PKCS#12 (`.p12`, `.pfx`).
    Pkcs12,
    /// Java's own format.
    Jks,
}

impl Format {
    /// What `bytes` look like; `None` if like none of them.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if jks::is_jks(bytes) {
            return Some(Self::Jks);
        }
        if memchr::memmem::find(bytes, b"-----BEGIN ").is_some() {
            return Some(Self::Pem);
        }
        // A DER SEQUENCE, which is what a PKCS#12 file is.
        (bytes.first() == Some(&0x30)).then_some(Self::Pkcs12)
    }
}

/// Certificates that are trusted.
#[derive(Clone)]
pub struct Trust(Vec<X509>);

/// A private key, its certificate, and what leads from that to an authority.
#[derive(Clone)]
pub struct Identity {
    key: PKey<Private>,
    chain: Vec<X509>,
}

/// The trusted certificates of a store. A store whose integrity a password protects is checked if there is one.
///
/// # Errors
/// What is wrong, in words without secrets: the format, the password, no certificate.
pub fn trust(format: Format, bytes: &[u8], password: Option<&str>) -> Result<Trust, String> {
    let certificates = match format {
        Format::Pem => pem::certificates(bytes)?,
        Format::Pkcs12 => pkcs12::read(bytes, password.unwrap_or_default())?.everything(),
        Format::Jks => jks::read(bytes, password)?
            .certificates()
            .map(certificate)
            .collect::<Result<_, _>>()?,
    };
    if certificates.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(Trust(certificates))
}

/// The key of a store and its certificates. The key's own password is the store's unless it has another.
///
/// # Errors
/// What is wrong, in words without secrets: the format, a password, no key or several, a key that is not the
/// certificate's.
pub fn identity(
    format: Format,
    bytes: &[u8],
    password: Option<&str>,
    key_password: Option<&str>,
) -> Result<Identity, String> {
    match format {
        Format::Pem => identity_pem(bytes, bytes, key_password.or(password)),
        Format::Pkcs12 => {
            if key_password.is_some_and(|own| Some(own) != password) {
                return Err(
                    "a PKCS#12 store has one password: leave `key_password` out, or make it the same"
                        .to_owned(),
                );
            }
            pkcs12::read(bytes, password.unwrap_or_default())?.identity()
        }
        Format::Jks => {
            let password = password.ok_or("needs its password: the key is encrypted by it")?;
            let store = jks::read(bytes, Some(password))?;
            let (key, chain) = store.only_key(key_password.unwrap_or(password))?;
            let key = PKey::private_key_from_pkcs8(&key).map_err(|_| "its private key cannot be read")?;
            let chain: Result<Vec<X509>, String> = chain.iter().map(|der| certificate(der)).collect();
            Identity::new(key, chain?)
        }
    }
}

/// The identity of a PEM chain, the key's own certificate first, and a PEM key, which may be encrypted.
///
/// # Errors
/// As [`identity`].
pub fn identity_pem(chain: &[u8], key: &[u8], key_password: Option<&str>) -> Result<Identity, String> {
    let chain = pem::certificates(chain)?;
    Identity::new(pem::key(key, key_password)?, chain)
}

fn certificate(der: &[u8]) -> Result<X509, String> {
    X509::from_der(der).map_err(|_| "holds a certificate that cannot be read".to_owned())
}

impl Trust {
    /// As PEM.
    ///
    /// # Errors
    /// When OpenSSL cannot write a certificate, which is a defect.
    pub fn to_pem(&self) -> Result<String, String> {
        to_pem(&self.0)
    }

    /// When the last of the certificates ends; `None` if none of them says so in a way that can be read.
    pub fn ends(&self) -> Option<SystemTime> {
        self.0.iter().filter_map(|one| end(one)).max()
    }

    /// Why none of the certificates, or one of them, is good now: an error if none is, and otherwise what is wrong with
    /// the others.
    ///
    /// # Errors
    /// When none is good.
    pub fn check_validity(&self) -> Result<Vec<String>, String> {
        let wrong: Vec<String> = self.0.iter().filter_map(|one| invalid_now(one)).collect();
        if wrong.len() == self.0.len() {
            return Err(wrong.join("; "));
        }
        Ok(wrong)
    }
}

impl Identity {
    fn new(key: PKey<Private>, chain: Vec<X509>) -> Result<Self, String> {
        let Some(own) = chain.first() else {
            return Err("holds no certificate".to_owned());
        };
        let is_of = |certificate: &X509| {
            certificate
                .public_key()
                .is_ok_and(|public| public.public_eq(&key))
        };
        if !is_of(own) {
            return Err(match chain.iter().find(|other| is_of(other)) {
                Some(other) => format!(
                    "the private key is that of {}, which must be the first certificate of the chain, not {}",
                    name(other),
                    name(own)
                ),
                None => format!("the private key is not that of the certificate {}", name(own)),
            });
        }
        Ok(Self {
            key,
            chain: in_order(chain),
        })
    }

    /// The certificates as PEM, the key's own first.
    ///
    /// # Errors
    /// When OpenSSL cannot write one, which is a defect.
    pub fn chain_pem(&self) -> Result<String, String> {
        to_pem(&self.chain)
    }

    /// The key as PEM (PKCS#8), not encrypted: a secret.
    ///
    /// # Errors
    /// When OpenSSL cannot write it, which is a defect.
    pub fn key_pem(&self) -> Result<String, String> {
        let pem = self
            .key
            .private_key_to_pem_pkcs8()
            .map_err(|error| cannot_write(&error))?;
        String::from_utf8(pem).map_err(|error| error.to_string())
    }

    /// When the first of the certificates ends; `None` as with [`Trust::ends`].
    pub fn ends(&self) -> Option<SystemTime> {
        self.chain.iter().filter_map(|one| end(one)).min()
    }

    /// Whether the key's certificate is good now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check_validity(&self) -> Result<(), String> {
        self.chain
            .first()
            .and_then(|own| invalid_now(own))
            .map_or(Ok(()), Err)
    }
}

fn to_pem(certificates: &[X509]) -> Result<String, String> {
    let mut text = String::new();
    for certificate in certificates {
        let pem = certificate.to_pem().map_err(|error| cannot_write(&error))?;
        text.push_str(&String::from_utf8(pem).map_err(|error| error.to_string())?);
    }
    Ok(text)
}

fn cannot_write(error: &ErrorStack) -> String {
    format!("OpenSSL cannot write PEM: {error}")
}

/// The chain from the first certificate on, each followed by its issuer; what does not belong to it is left out.
fn in_order(mut certificates: Vec<X509>) -> Vec<X509> {
    let mut chain = vec![certificates.remove(0)];
    while let Some(last) = chain.last() {
        let issuer = last.issuer_name();
        let next = certificates
            .iter()
            .position(|one| matches!(one.subject_name().try_cmp(issuer), Ok(Ordering::Equal)));
        match next {
            Some(at) => chain.push(certificates.remove(at)),
            None => break,
        }
    }
    chain
}

fn end(certificate: &X509Ref) -> Option<SystemTime> {
    let epoch = Asn1Time::from_unix(0).ok()?;
    let since = epoch.diff(certificate.not_after()).ok()?;
    let seconds = i64::from(since.days) * 24 * 3600 + i64::from(since.secs);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// Why a certificate is not good now.
fn invalid_now(certificate: &X509Ref) -> Option<String> {
    let now = Asn1Time::days_from_now(0).ok()?;
    let before = |a: &Asn1TimeRef, b: &Asn1TimeRef| matches!(a.compare(b), Ok(Ordering::Less));
    if before(certificate.not_after(), &now) {
        return Some(format!(
            "the certificate {} expired on {}",
            name(certificate),
            certificate.not_after()
        ));
    }
    if before(&now, certificate.not_before()) {
        return Some(format!(
            "the certificate {} is not valid before {}",
            name(certificate),
            certificate.not_before()
        ));
    }
    None
}

/// A certificate's subject, as `CN=kafka, O=Example`.
pub(crate) fn name(certificate: &X509Ref) -> String {
    let entry = |entry: &openssl::x509::X509NameEntryRef| {
        let short = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string();
        format!("{short}={}", value.unwrap_or_default())
    };
    let parts: Vec<String> = certificate.subject_name().entries().map(entry).collect();
    if parts.is_empty() {
        return "without a subject".to_owned();
    }
    parts.join(", ")
}

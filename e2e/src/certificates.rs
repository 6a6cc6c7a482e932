//! Certificate authorities that vouch for what a test needs.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

const DAY: i64 = 24 * 3600;

/// An authority. What it vouches for is trusted by whoever trusts it.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// A key and a certificate.
pub struct Pair {
    key: PKey<Private>,
    certificate: X509,
}

fn key() -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

/// A certificate of `name` that is good from and until so many days from now, without extensions and issuer.
fn begin(name: &str, key: &PKey<Private>, days: std::ops::Range<i64>) -> Result<X509Builder> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(&*subject(name)?)?;
    builder.set_pubkey(key)?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    builder.set_not_before(&*Asn1Time::from_unix(now + days.start * DAY)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now + days.end * DAY)?)?;
    Ok(builder)
}

fn subject(name: &str) -> Result<X509Name> {
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(subject.build())
}

impl Authority {
    /// One of its own.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(name: &str) -> Result<Self> {
        let key = key()?;
        let mut builder = begin(name, &key, -2..30)?;
        builder.set_issuer_name(&*subject(name)?)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = builder.build();
        Ok(Self { key, certificate })
    }

    /// A certificate for these host names and addresses, good from and until so many days from now.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn issue(&self, name: &str, hosts: &[&str], days: std::ops::Range<i64>) -> Result<Pair> {
        let key = key()?;
        let mut builder = begin(name, &key, days)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        if !hosts.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for host in hosts {
                match host.parse::<std::net::IpAddr>() {
                    Ok(_) => names.ip(host),
                    Err(_) => names.dns(host),
                };
            }
            let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(names)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        let certificate = builder.build();
        Ok(Pair { key, certificate })
    }

    /// Writes its certificate as PEM.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<PathBuf> {
        write(file, &self.certificate.to_pem()?)
    }
}

impl Pair {
    /// Writes key and certificate into one file, as PEM.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<PathBuf> {
        write(
            file,
            &[self.key.private_key_to_pem_pkcs8()?, self.certificate.to_pem()?].concat(),
        )
    }

    /// Writes the certificate as PEM.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_certificate(&self, file: &Path) -> Result<PathBuf> {
        write(file, &self.certificate.to_pem()?)
    }

    /// Writes the key as PEM, encrypted where there is a password.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_key(&self, file: &Path, password: Option<&str>) -> Result<PathBuf> {
        let pem = match password {
            None => self.key.private_key_to_pem_pkcs8()?,
            Some(password) => {
                let cipher = openssl::symm::Cipher::aes_256_cbc();
                self.key
                    .private_key_to_pem_pkcs8_passphrase(cipher, password.as_bytes())?
            }
        };
        write(file, &pem)
    }

    /// Writes both as PKCS#12, under this password.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_pkcs12(&self, file: &Path, password: &str) -> Result<PathBuf> {
        let mut builder = openssl::pkcs12::Pkcs12::builder();
        builder.name("client").pkey(&self.key).cert(&self.certificate);
        write(file, &builder.build2(password)?.to_der()?)
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<PathBuf> {
    std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))?;
    Ok(file.to_owned())
}

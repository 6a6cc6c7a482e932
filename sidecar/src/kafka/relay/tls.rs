//! TLS as librdkafka's properties say, for the relay's own connections.

use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use rdkafka::ClientConfig;

use crate::kafka::trouble::Verdict;
use crate::keystore;

/// The properties of TLS that are heeded; the others of librdkafka are refused.
pub(super) const KNOWN: &[&str] = &[
    "enable.ssl.certificate.verification",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.sigalgs.list",
];

/// Why a certificate was not accepted, once that is known.
pub(super) type Found = Arc<Mutex<Option<Verdict>>>;

/// How a client speaks TLS.
pub(super) struct Tls {
    connector: SslConnector,
    verifies: bool,
    verifies_name: bool,
}

impl Tls {
    /// Reads the properties, and the files that they name.
    ///
    /// # Errors
    /// What is wrong with which property; in words without secrets.
    pub(super) fn new(config: &ClientConfig) -> Result<Self, String> {
        let get = |name: &str| config.get(name).filter(|value| !value.is_empty());
        let failed = |name: &str| {
            let name = name.to_owned();
            move |error: ErrorStack| format!("{name}: {}", words(&error))
        };
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed("TLS"))?;
        if let Some(ciphers) = get("ssl.cipher.suites") {
            builder
                .set_cipher_list(ciphers)
                .map_err(failed("ssl.cipher.suites"))?;
        }
        if let Some(curves) = get("ssl.curves.list") {
            builder
                .set_groups_list(curves)
                .map_err(failed("ssl.curves.list"))?;
        }
        if let Some(algorithms) = get("ssl.sigalgs.list") {
            builder
                .set_sigalgs_list(algorithms)
                .map_err(failed("ssl.sigalgs.list"))?;
        }
        if let Some(pem) = get("ssl.ca.pem") {
            let failed = failed("ssl.ca.pem");
            let mut store = X509StoreBuilder::new().map_err(&failed)?;
            let certificates = X509::stack_from_pem(pem.as_bytes()).map_err(&failed)?;
            for certificate in certificates {
                store.add_cert(certificate).map_err(&failed)?;
            }
            builder.set_cert_store(store.build());
        } else if let Some(path) = get("ssl.ca.location").filter(|path| *path != "probe") {
            let failed = failed("ssl.ca.location");
            let store = X509StoreBuilder::new().map_err(&failed)?.build();
            builder.set_cert_store(store);
            let is_dir = std::path::Path::new(path).is_dir();
            let (file, dir) = if is_dir {
                (None, Some(path))
            } else {
                (Some(path), None)
            };
            builder
                .load_verify_locations(file.map(std::path::Path::new), dir.map(std::path::Path::new))
                .map_err(&failed)?;
        }
        if let Some(pem) = get("ssl.certificate.pem") {
            let failed = failed("ssl.certificate.pem");
            let mut chain = X509::stack_from_pem(pem.as_bytes()).map_err(&failed)?.into_iter();
            let own = chain.next().ok_or("ssl.certificate.pem: has no certificate")?;
            builder.set_certificate(&own).map_err(&failed)?;
            for certificate in chain {
                builder.add_extra_chain_cert(certificate).map_err(&failed)?;
            }
        } else if let Some(path) = get("ssl.certificate.location") {
            builder
                .set_certificate_chain_file(path)
                .map_err(failed("ssl.certificate.location"))?;
        }
        let password = get("ssl.key.password").unwrap_or_default().as_bytes();
        let key = match (get("ssl.key.pem"), get("ssl.key.location")) {
            (Some(pem), _) => Some(("ssl.key.pem", pem.as_bytes().to_vec())),
            (None, Some(path)) => {
                let read = std::fs::read(path);
                Some((
                    "ssl.key.location",
                    read.map_err(|error| format!("ssl.key.location: cannot read {path}: {error}"))?,
                ))
            }
            (None, None) => None,
        };
        if let Some((name, pem)) = key {
            let key = PKey::private_key_from_pem_passphrase(&pem, password).map_err(failed(name))?;
            builder.set_private_key(&key).map_err(failed(name))?;
            builder.check_private_key().map_err(failed(name))?;
        }
        let no = |name: &str| matches!(config.get(name), Some("false" | "f" | "0"));
        let name_is = config.get("ssl.endpoint.identification.algorithm");
        Ok(Self {
            connector: builder.build(),
            verifies: !no("enable.ssl.certificate.verification"),
            verifies_name: name_is.is_none_or(|name| name != "none"),
        })
    }

    /// A connection's state, for a broker that is reached by `host`, and where why its certificate was not accepted will be.
    ///
    /// # Errors
    /// OpenSSL's, where the name cannot be one.
    pub(super) fn state(&self, broker: &str, host: &str) -> Result<(Ssl, Found), String> {
        let mut settings = self.connector.configure().map_err(|error| words(&error))?;
        settings.set_verify_hostname(self.verifies && self.verifies_name);
        let verdict = Arc::new(Mutex::new(None));
        if self.verifies {
            let (verdict, broker) = (Arc::clone(&verdict), broker.to_owned());
            settings.set_verify_callback(SslVerifyMode::PEER, move |good, chain| {
                if !good {
                    let error = chain.error();
                    let words = match chain.current_cert() {
                        Some(certificate) => {
                            format!("{}: {}", error.error_string(), keystore::name(certificate))
                        }
                        None => error.error_string().to_owned(),
                    };
                    *verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(Verdict {
                        broker: broker.clone(),
                        error: error.as_raw(),
                        words,
                    });
                }
                good
            });
        } else {
            settings.set_verify(SslVerifyMode::NONE);
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let ssl = settings.into_ssl(host).map_err(|error| words(&error))?;
        Ok((ssl, verdict))
    }
}

/// The first of OpenSSL's errors, as it says them.
pub(super) fn words(errors: &ErrorStack) -> String {
    let first = errors.errors().first();
    first.and_then(|error| error.reason()).map_or_else(
        || "OpenSSL does not take it".to_owned(),
        |reason| format!("OpenSSL does not take it: {reason}"),
    )
}

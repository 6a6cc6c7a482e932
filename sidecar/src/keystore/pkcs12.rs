//! PKCS#12.

use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::provider::Provider;
use openssl::x509::X509;

use super::Identity;

/// What a store holds: its first key with the certificate of it, and its other certificates.
pub(super) struct Store {
    key: Option<PKey<Private>>,
    own: Option<X509>,
    others: Vec<X509>,
}

/// Reads a store, and checks its integrity by the password.
pub(super) fn read(bytes: &[u8], password: &str) -> Result<Store, String> {
    let store = Pkcs12::from_der(bytes).map_err(|_| "is not PKCS#12")?;
    let parsed = store.parse2(password).or_else(|error| {
        if error.errors().iter().all(|one| !is_unsupported(one.reason())) {
            return Err(error);
        }
        // keytool wrote RC2 until Java 8u301, and OpenSSL 3 knows it only while this is loaded.
        let _legacy = Provider::try_load(None, "legacy", true)?;
        store.parse2(password)
    });
    let parsed = parsed.map_err(|error| {
        let reasons: Vec<&str> = error.errors().iter().filter_map(|one| one.reason()).collect();
        if reasons.iter().any(|reason| reason.contains("mac verify")) {
            return "cannot be opened: the store's password is wrong".to_owned();
        }
        if reasons.iter().any(|reason| is_unsupported(Some(reason))) {
            return "is encrypted by an algorithm that OpenSSL does not have here (RC2, say): write it anew, by \
                    keytool -importkeystore or openssl pkcs12"
                .to_owned();
        }
        format!("cannot be opened: {}", reasons.join(", "))
    })?;
    Ok(Store {
        key: parsed.pkey,
        own: parsed.cert,
        others: parsed.ca.map(|ca| ca.into_iter().collect()).unwrap_or_default(),
    })
}

fn is_unsupported(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| reason.contains("unsupported") || reason.contains("unknown"))
}

impl Store {
    /// Every certificate.
    pub(super) fn everything(self) -> Vec<X509> {
        self.own.into_iter().chain(self.others).collect()
    }

    /// The key, with its certificate and the others.
    pub(super) fn identity(self) -> Result<Identity, String> {
        let key = self.key.ok_or("holds no private key")?;
        Identity::new(key, self.own.into_iter().chain(self.others).collect())
    }
}

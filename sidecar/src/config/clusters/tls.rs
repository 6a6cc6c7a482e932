//! `security:` of a cluster: Kong's fields, and the stores.

use sluice_settings::Section;

use super::certificates::Certificates;
use super::stores;
use crate::config::Expiry;
use crate::config::properties::Properties;
use crate::config::read::Context;

/// What `security` says.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// `security.ssl`.
    pub(super) ssl: Option<bool>,
    /// The fields, from the cluster on, that mean nothing without TLS.
    pub(super) only_with_tls: Vec<&'static str>,
    /// The fields that give certificates, with the properties that would too.
    instead_of: Vec<(&'static str, &'static [&'static str])>,
    /// Until when the certificates are good.
    pub(super) expiry: Expiry,
}

const VERIFICATION: &str = "enable.ssl.certificate.verification";
const OF_TRUST: &[&str] = &["ssl.ca.location", "ssl.ca.pem", "ssl.ca.certificate.stores"];
const OF_IDENTITY: &[&str] = &[
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
];

pub(super) fn read(
    section: &Section<'_>,
    certificates: &Certificates,
    properties: &mut Properties,
    context: &Context<'_>,
) -> Tls {
    let Some(security) = section.section("security") else {
        return Tls::default();
    };
    let mut tls = Tls {
        ssl: security.bool("ssl"),
        ..Tls::default()
    };
    if security.bool("ssl_verify") == Some(false) {
        tls.only_with_tls.push("security.ssl_verify");
        properties.set(section, "security.ssl_verify", VERIFICATION, "false".to_owned());
    }
    if let Some(store) = security.section("truststore") {
        if let Some(trust) = stores::trust(&store, context) {
            tls.only_with_tls.push("security.truststore");
            tls.instead_of.push(("security.truststore", OF_TRUST));
            tls.expiry.truststore = trust.ends();
            match trust.to_pem() {
                Ok(pem) => properties.set(section, "security.truststore", "ssl.ca.pem", pem),
                Err(why) => section.problem("security.truststore", why),
            }
        }
        store.finish();
    }
    let (id, store) = (security.name("certificate_id"), security.section("keystore"));
    let key = if store.is_some() {
        "security.keystore"
    } else {
        "security.certificate_id"
    };
    let identity = match (id, store) {
        (Some(_), Some(store)) => {
            security.problem("certificate_id", "is the same as `keystore`: keep one");
            stores::identity(&store, context);
            store.finish();
            None
        }
        (Some(id), None) => {
            tls.only_with_tls.push(key);
            tls.instead_of.push((key, OF_IDENTITY));
            let found = certificates.get(&id);
            if found.is_none() {
                security.problem("certificate_id", format!("`certificates` has no {id:?}"));
            }
            found.cloned().flatten()
        }
        (None, Some(store)) => {
            let identity = stores::identity(&store, context);
            store.finish();
            if identity.is_some() {
                tls.only_with_tls.push(key);
                tls.instead_of.push((key, OF_IDENTITY));
            }
            identity
        }
        (None, None) => None,
    };
    if let Some(identity) = identity {
        tls.expiry.keystore = identity.ends();
        match (identity.chain_pem(), identity.key_pem()) {
            (Ok(chain), Ok(key_pem)) => {
                properties.set(section, key, "ssl.certificate.pem", chain);
                properties.set(section, key, "ssl.key.pem", key_pem);
            }
            (Err(why), _) | (_, Err(why)) => section.problem(key, why),
        }
    }
    security.finish();
    tls
}

impl Tls {
    /// Reports properties that give the same certificates again. To be called when all properties are read.
    pub(super) fn check_against(&self, section: &Section<'_>, properties: &Properties) {
        for (key, names) in &self.instead_of {
            let own = section.path_of(key);
            let others = names.iter().filter_map(|name| properties.get(name));
            for set in others.filter(|set| set.path != own) {
                section.problem(key, format!("{} sets that too: keep one", set.path));
            }
        }
    }
}

/// Warns of certificates that nobody looks at.
pub(super) fn warn_unverified(properties: &Properties, context: &Context<'_>) {
    let off = |value: &str| matches!(value, "false" | "f" | "0");
    if let Some(set) = properties.get(VERIFICATION).filter(|set| off(set.value.expose())) {
        context.warnings.report(
            &set.path,
            "the brokers' certificates are not verified: whoever is on the way can read and change everything",
        );
    }
}

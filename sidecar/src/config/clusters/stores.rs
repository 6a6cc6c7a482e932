//! Trust stores and key stores as they are configured: in files or inline, PEM, PKCS#12 or JKS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_settings::Section;

use crate::config::Secret;
use crate::config::read::Context;
use crate::config::secret::{self, Inline};
use crate::keystore::{self, Format, Identity, Trust};

/// The `type` of a store. Java reads either of its formats by the name of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Pem,
    Binary,
}

const KINDS: &[(&str, Kind)] = &[
    ("NONE", Kind::None),
    ("PEM", Kind::Pem),
    ("PKCS12", Kind::Binary),
    ("JKS", Kind::Binary),
];

/// A store's bytes.
struct Material {
    /// The key that it comes from.
    key: &'static str,
    bytes: Vec<u8>,
    format: Format,
}

/// `truststore:`; `None` if there is none, or none that can be read, which is then reported.
pub(super) fn trust(section: &Section<'_>, context: &Context<'_>) -> Option<Trust> {
    let kind = kind(section, &["location", "content", "certificates", "password"])?;
    let password = secret::field(section, "password", Inline::Warned, context);
    let inline = secret::field(section, "certificates", Inline::Fine, context);
    let material = match (inline, is_set(section, &["location", "content"])) {
        (Some(_), true) => {
            section.problem(
                "certificates",
                "is a store by itself: keep one of it, `location` and `content`",
            );
            return None;
        }
        (Some(text), false) => Material {
            key: "certificates",
            bytes: text.expose().as_bytes().to_vec(),
            format: Format::Pem,
        },
        (None, _) if section.raw("certificates").is_some() => return None,
        (None, true) => material(section, kind, Inline::Fine, context)?,
        (None, false) => {
            missing(section, "`location`, `content` or `certificates`");
            return None;
        }
    };
    if material.format == Format::Pem {
        section.refuse("password", "means nothing: certificates in PEM have none");
    }
    let found = keystore::trust(
        material.format,
        &material.bytes,
        password.as_ref().map(Secret::expose),
    );
    let trust = found.map_err(|why| section.problem(material.key, why)).ok()?;
    match trust.check_validity() {
        Ok(wrong) => {
            for why in wrong {
                context.warnings.report(section.path_of(material.key), why);
            }
        }
        Err(why) => section.problem(material.key, why),
    }
    Some(trust)
}

/// `keystore:`; `None` as with [`trust`].
pub(super) fn identity(section: &Section<'_>, context: &Context<'_>) -> Option<Identity> {
    const PAIR: [&str; 2] = ["certificate_chain", "key"];
    let kind = kind(
        section,
        &[
            "location",
            "content",
            "certificate_chain",
            "key",
            "password",
            "key_password",
        ],
    )?;
    if is_set(section, &PAIR) {
        for key in ["location", "content"] {
            section.refuse(
                key,
                "is a store by itself: keep it, or `certificate_chain` and `key`",
            );
        }
        section.refuse("password", "means nothing in PEM: the key's is `key_password`");
        if kind == Some(Kind::Binary) {
            section.problem("type", "must be PEM with `certificate_chain` and `key`");
        }
        return pair(section, "certificate_chain", "key", "key_password", context);
    }
    if !is_set(section, &["location", "content"]) {
        missing(section, "`location`, `content`, or `certificate_chain` and `key`");
        return None;
    }
    let password = secret::field(section, "password", Inline::Warned, context);
    let key_password = secret::field(section, "key_password", Inline::Warned, context);
    let material = material(section, kind, Inline::Warned, context)?;
    let found = keystore::identity(
        material.format,
        &material.bytes,
        password.as_ref().map(Secret::expose),
        key_password.as_ref().map(Secret::expose),
    );
    let identity = found.map_err(|why| section.problem(material.key, why)).ok()?;
    if let Err(why) = identity.check_validity() {
        section.problem(material.key, why);
    }
    Some(identity)
}

/// A chain and a key in PEM under two keys, and the key's password under a third.
pub(super) fn pair(
    section: &Section<'_>,
    chain_key: &str,
    key_key: &str,
    password_key: &str,
    context: &Context<'_>,
) -> Option<Identity> {
    for key in [chain_key, key_key] {
        if section.raw(key).is_none() {
            section.problem(key, "is required");
        }
    }
    let chain = secret::field(section, chain_key, Inline::Fine, context);
    let key = secret::field(section, key_key, Inline::Warned, context);
    let password = secret::field(section, password_key, Inline::Warned, context);
    let (chain, key) = (chain?, key?);
    let password = password.as_ref().map(Secret::expose);
    let found = keystore::identity_pem(chain.expose().as_bytes(), key.expose().as_bytes(), password);
    let identity = found
        .map_err(|why| {
            let about_chain =
                why.starts_with("holds no certificate") || why.starts_with("holds a certificate");
            section.problem(if about_chain { chain_key } else { key_key }, why);
        })
        .ok()?;
    if let Err(why) = identity.check_validity() {
        section.problem(chain_key, why);
    }
    Some(identity)
}

/// The store's type: `Some(None)` if it is not said, and `None` if there is to be no store, or an unknown one.
#[allow(clippy::option_option, reason = "told apart by every caller with `?`")]
fn kind(section: &Section<'_>, others: &[&str]) -> Option<Option<Kind>> {
    let Some(kind) = section.choice("type", KINDS) else {
        return section.raw("type").is_none().then_some(None);
    };
    if kind == Kind::None {
        for key in others {
            section.refuse(key, "means nothing with `type: NONE`");
        }
        return None;
    }
    Some(Some(kind))
}

fn is_set(section: &Section<'_>, keys: &[&str]) -> bool {
    keys.iter().any(|key| section.raw(key).is_some())
}

fn missing(section: &Section<'_>, what: &str) {
    if section.keys().next().is_some() {
        section.problem("location", format!("is missing: a store needs {what}"));
    }
}

/// The bytes of `location` or `content`.
fn material(
    section: &Section<'_>,
    kind: Option<Kind>,
    inline: Inline,
    context: &Context<'_>,
) -> Option<Material> {
    let location = section.name("location");
    let (key, bytes) = if section.raw("location").is_some() {
        section.refuse("content", "is a store by itself: keep it or `location`");
        let location = location?;
        context.depends_on(&location);
        let read = std::fs::read(&location).map_err(|error| format!("cannot read {location}: {error}"));
        (
            "location",
            read.map_err(|why| section.problem("location", why)).ok()?,
        )
    } else {
        let content = secret::field(section, "content", inline, context)?;
        ("content", content_bytes(content.expose(), section)?)
    };
    let Some(format) = Format::of(&bytes) else {
        section.problem(key, "is neither PEM, nor PKCS#12, nor JKS");
        return None;
    };
    match (kind, format) {
        (Some(Kind::Pem), Format::Pkcs12 | Format::Jks) => {
            section.problem("type", format!("is PEM, and {key} holds {format:?}"));
        }
        (Some(Kind::Binary), Format::Pem) => {
            section.problem("type", format!("must be PEM: that is what {key} holds"));
        }
        _ => {}
    }
    Some(Material { key, bytes, format })
}

/// What is inline is PEM, or base64 of what is not text.
fn content_bytes(content: &str, section: &Section<'_>) -> Option<Vec<u8>> {
    if content.contains("-----BEGIN ") {
        return Some(content.as_bytes().to_vec());
    }
    let packed: String = content.split_whitespace().collect();
    let decoded = STANDARD.decode(packed);
    decoded
        .map_err(|_| section.problem("content", "is neither PEM nor base64"))
        .ok()
}

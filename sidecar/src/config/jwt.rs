//! `jwt:`, the issuers whose tokens are taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_settings::Section;

use super::clusters::trust;
use super::read::{Context, check_name};
use crate::auth::claims::Name;
use crate::auth::jwt::{ALGORITHMS, Jwks, Provider, Settings};
use crate::fetch::{self, Trust};

/// What tokens are signed with where a provider does not say: what all issuers can.
const USUAL: [&str; 2] = ["RS256", "ES256"];
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const CACHE_DURATION: Duration = Duration::from_secs(600);

pub(super) fn read(root: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, Arc<Provider>> {
    let sections = root.named_sections("jwt").unwrap_or_default();
    let one = |(name, section): (String, Section<'_>)| {
        check_name(&section, &name, context);
        Some((name.clone(), Arc::new(provider(name, section, context)?)))
    };
    sections.into_iter().filter_map(one).collect()
}

fn provider(name: String, section: Section<'_>, context: &Context<'_>) -> Option<Provider> {
    let issuer = section.name("issuer");
    if section.raw("issuer").is_none() {
        section.problem("issuer", "is required: what the `iss` of its tokens is");
    }
    let audiences = section.strings("audiences").unwrap_or_default();
    if audiences.is_empty() {
        let path = section.path_of("audiences");
        context.warnings.report(
            path,
            "are none: a token that the issuer made for anybody else is taken as well",
        );
    }
    let algorithms = algorithms(&section);
    let clock_skew = section.millis("clock_skew", 0..=600_000).unwrap_or(CLOCK_SKEW);
    let name_claim = section.name("name_claim").unwrap_or_else(|| "sub".to_owned());
    let name_claim = Name::parse(&name_claim).map_err(|why| section.problem("name_claim", why));
    let jwks = section.section("jwks").and_then(|section| jwks(section, context));
    if section.raw("jwks").is_none() {
        section.problem("jwks", "is required, as {url: https://…} or {file: /etc/…}");
    }
    section.finish();
    Some(Provider::new(Settings {
        name,
        issuer: issuer?,
        audiences,
        jwks: jwks?,
        algorithms: algorithms?,
        clock_skew,
        name_claim: name_claim.ok()?,
    }))
}

fn algorithms(section: &Section<'_>) -> Option<Vec<jsonwebtoken::Algorithm>> {
    let names = match section.raw("algorithms") {
        None => USUAL.map(str::to_owned).to_vec(),
        Some(_) => section.strings("algorithms")?,
    };
    if names.is_empty() {
        section.problem("algorithms", "must not be empty");
        return None;
    }
    let find = |name: &String| ALGORITHMS.iter().find(|(known, _)| known == name);
    let mut found = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match find(name) {
            Some((_, algorithm)) => found.push(*algorithm),
            None => {
                let all: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
                section.problem(
                    &format!("algorithms[{i}]"),
                    format!("{name:?} is none of {}", all.join(", ")),
                );
            }
        }
    }
    Some(found)
}

fn jwks(section: Section<'_>, context: &Context<'_>) -> Option<Jwks> {
    let file = section.name("file");
    let url = section.name("url");
    let verify = section.bool("tls_verify").unwrap_or(true);
    let store = section.section("truststore");
    let cache_duration = section
        .millis("cache_duration", 1000..=86_400_000)
        .unwrap_or(CACHE_DURATION);
    let found = match (file, url) {
        (Some(file), None) => {
            for key in ["tls_verify", "truststore", "cache_duration"] {
                section.refuse(
                    key,
                    "means nothing with `file`, which is read again when it changes",
                );
            }
            if let Err(why) = Jwks::read(Path::new(&file)) {
                section.problem("file", why);
            }
            Some(Jwks::File(file.into()))
        }
        (None, Some(url)) => {
            let url = fetch::address(&url).map_err(|why| section.problem("url", why));
            let authorities = store.and_then(|store| {
                let pem = trust(store, context)?;
                pem.map_err(|why| section.problem("truststore", why)).ok()
            });
            let url = url.ok()?;
            let authority = url.authority().map(|authority| authority.as_str());
            if authority.is_some_and(|authority| authority.contains('@')) {
                section.problem("url", "must not have a user in it, which would not be sent");
            }
            if url.scheme_str() == Some("http") {
                for key in ["tls_verify", "truststore"] {
                    section.refuse(key, "means nothing with an `http` address");
                }
            } else if !verify {
                section.refuse("truststore", "means nothing with `tls_verify: false`");
                context.warnings.report(
                    section.path_of("tls_verify"),
                    "the issuer's certificate is not verified: whoever is on the way can give keys of his own, and with \
                     them any token",
                );
            }
            if fetch::is_open_to_others(&url) {
                context.warnings.report(
                    section.path_of("url"),
                    "is not encrypted: whoever is on the way can give keys of his own, and with them any token",
                );
            }
            Some(Jwks::Url {
                url,
                trust: Trust { verify, authorities },
                cache_duration,
            })
        }
        (Some(_), Some(_)) => {
            section.problem("url", "is set beside `file`: keep one");
            None
        }
        (None, None) => {
            if section.raw("file").is_none() && section.raw("url").is_none() {
                section.problem("url", "is required, or `file`");
            }
            None
        }
    };
    section.finish();
    found
}

/// `jwt` of an entry: whose tokens open it, and what they must say.
#[derive(Debug, Clone)]
pub struct Bearers {
    /// Whose.
    pub provider: Arc<Provider>,
    /// What claims must say: all of it.
    pub claims: Vec<(Name, Vec<String>)>,
}

impl Bearers {
    /// Whether a token with these claims is enough.
    pub fn take(&self, claims: &serde_json::Map<String, Value>) -> bool {
        let said = |(name, wanted): &(Name, Vec<String>)| wanted.iter().all(|text| name.says(text, claims));
        self.claims.iter().all(said)
    }
}

pub(super) fn bearers(
    section: Section<'_>,
    providers: &BTreeMap<String, Arc<Provider>>,
    is_set: impl Fn(&str) -> bool,
) -> Option<Bearers> {
    let named = section.name("provider");
    if section.raw("provider").is_none() {
        section.problem("provider", "is required: a name of `jwt`");
    }
    let claims = section
        .section("claims")
        .map(|claims| wanted(&claims))
        .unwrap_or_default();
    let provider = named.and_then(|name| {
        let found = providers.get(&name);
        // One that is there and wrong is reported there.
        if found.is_none() && !is_set(&name) {
            section.problem("provider", format!("no provider of jwt is named {name:?}"));
        }
        found.map(Arc::clone)
    });
    section.finish();
    Some(Bearers {
        provider: provider?,
        claims,
    })
}

fn wanted(section: &Section<'_>) -> Vec<(Name, Vec<String>)> {
    let mut found = Vec::new();
    for key in section.keys() {
        let texts = match section.raw(key) {
            Some(Value::Array(items)) => items.iter().map(scalar).collect(),
            Some(one) => scalar(one).map(|text| vec![text]),
            None => None,
        };
        match (Name::parse(key), texts.filter(|texts| !texts.is_empty())) {
            (Ok(name), Some(texts)) => found.push((name, texts)),
            (Err(why), _) => section.problem(key, why),
            (Ok(_), None) => section.problem(
                key,
                "must be a string, number or boolean, or a list of them that is not empty, all of which are required",
            ),
        }
    }
    found
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

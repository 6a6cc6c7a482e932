//! `authentication.oauthbearer` where tokens are fetched: Kong's fields; and what a JAAS line says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Uri;
use serde_json::Value;
use sluice_settings::Section;

use crate::config::read::Context;
use crate::config::secret::{self, Inline};
use crate::config::{Secret, TokenSource};
use crate::fetch::{self, Trust};
use crate::kafka::oidc::{Issuer, Settings};

/// The fields that only an issuer has.
pub(super) const FIELDS: [&str; 6] = [
    "token_endpoint_url",
    "client_id",
    "client_secret",
    "scopes",
    "token_endpoint_tls_verify",
    "token_endpoint_truststore",
];
/// The property of a Java client that a JAAS line needs beside it.
pub(super) const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";

/// The issuer that `oauthbearer` names.
pub(super) fn read(section: &Section<'_>, context: &Context<'_>) -> Option<TokenSource> {
    for key in ["token_endpoint_url", "client_id", "client_secret"] {
        if section.raw(key).is_none() {
            section.problem(key, "is required to fetch tokens from an OpenID Connect issuer");
        }
    }
    let url = section.name("token_endpoint_url");
    let client_id = secret::field(section, "client_id", Inline::Fine, context);
    let client_secret = secret::field(section, "client_secret", Inline::Warned, context);
    let scopes = match section.raw("scopes") {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        _ => section.strings("scopes").unwrap_or_default(),
    };
    if let Some(scope) = scopes.iter().find(|scope| !is_scope(scope)) {
        section.problem(
            "scopes",
            format!(
                "{scope:?} is no scope: visible ASCII characters without quotes and backslashes (RFC 6749)"
            ),
        );
    }
    let verify = section.bool("token_endpoint_tls_verify").unwrap_or(true);
    let store = section.section("token_endpoint_truststore");
    let authorities = store.and_then(|store| {
        let pem = super::trust(store, context)?;
        pem.map_err(|why| section.problem("token_endpoint_truststore", why))
            .ok()
    });
    let endpoint = endpoint(&url?).map_err(|why| section.problem("token_endpoint_url", why));
    let endpoint = endpoint.ok()?;
    let encrypted = endpoint.scheme_str() == Some("https");
    if !encrypted {
        for key in ["token_endpoint_tls_verify", "token_endpoint_truststore"] {
            section.refuse(key, "means nothing with an `http` endpoint");
        }
    }
    if encrypted && !verify {
        section.refuse(
            "token_endpoint_truststore",
            "means nothing with `token_endpoint_tls_verify: false`",
        );
        context.warnings.report(
            section.path_of("token_endpoint_tls_verify"),
            "the issuer's certificate is not verified: whoever is on the way can read the client's secret",
        );
    }
    warn_of_plain_text(&endpoint, section.path_of("token_endpoint_url"), context);
    Some(TokenSource::Oidc(Arc::new(Issuer::new(Settings {
        endpoint,
        client_id: client_id?.expose().to_owned(),
        client_secret: client_secret?,
        scopes,
        trust: Trust { verify, authorities },
    }))))
}

/// The issuer of an `OAuthBearerLoginModule`, whose address is a property of the client, and the extensions.
///
/// # Errors
/// What is wrong with the line, or missing.
pub(super) fn jaas(
    cluster: &Section<'_>,
    options: &mut BTreeMap<String, String>,
    context: &Context<'_>,
) -> Result<(TokenSource, BTreeMap<String, String>), String> {
    let mut take = |name: &str| options.remove(name);
    let (id, secret, scope) = (take("clientId"), take("clientSecret"), take("scope"));
    let (Some(client_id), Some(client_secret)) = (id, secret) else {
        return Err("needs the options `clientId` and `clientSecret`".to_owned());
    };
    let properties = cluster.raw("properties");
    let path = cluster.path_of(&format!("properties.{ENDPOINT}"));
    let url = properties
        .and_then(|properties| properties.get(ENDPOINT))
        .and_then(|value| secret::read(value, &path, context))
        .ok_or_else(|| {
            format!("needs the issuer's address: set properties.{ENDPOINT}, as a Java client has it")
        })?;
    let endpoint = endpoint(url.0.expose()).map_err(|why| format!("properties.{ENDPOINT} {why}"))?;
    warn_of_plain_text(&endpoint, path, context);
    let mut extensions = BTreeMap::new();
    options.retain(|name, value| match name.strip_prefix("extension_") {
        Some(name) => {
            extensions.insert(name.to_owned(), std::mem::take(value));
            false
        }
        None => true,
    });
    let scopes: Vec<String> = scope
        .iter()
        .flat_map(|text| text.split_whitespace())
        .map(str::to_owned)
        .collect();
    if !scopes.iter().all(|scope| is_scope(scope)) {
        return Err("has a `scope` that is none (RFC 6749)".to_owned());
    }
    let issuer = Issuer::new(Settings {
        endpoint,
        client_id,
        client_secret: Secret::new(client_secret),
        scopes,
        trust: Trust {
            verify: true,
            authorities: None,
        },
    });
    Ok((TokenSource::Oidc(Arc::new(issuer)), extensions))
}

/// RFC 6749, section 3.3.
fn is_scope(scope: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !scope.is_empty() && scope.bytes().all(legal)
}

fn endpoint(url: &str) -> Result<Uri, String> {
    let uri = fetch::address(url)?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("must not have a user in it: that is `client_id` and `client_secret`".to_owned());
    }
    Ok(uri)
}

fn warn_of_plain_text(endpoint: &Uri, path: String, context: &Context<'_>) {
    if fetch::is_open_to_others(endpoint) {
        context.warnings.report(
            path,
            "is not encrypted: whoever is on the way can read the client's secret",
        );
    }
}

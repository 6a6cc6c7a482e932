//! `authentication`

use hyper::Uri;
use serde_json::Value;
use sluice_settings::Section;
use url::Url;

use super::{Authentication, Reader};
use crate::fetch::Trust;
use crate::kafka::oidc;
use crate::subscriptions::sink::client::Tls;
use crate::subscriptions::sink::credentials::basic;
use crate::subscriptions::sink::egress::Place;

const KINDS: [&str; 3] = ["basic", "bearer", "oauth2"];

impl Reader<'_, '_> {
    /// `tls`: the token endpoint is believed as the target is.
    pub(super) fn authentication(&mut self, tls: &Tls) -> Option<Authentication> {
        let section = self.section.section("authentication")?;
        let set = KINDS.iter().filter(|kind| section.raw(kind).is_some()).count();
        if set != 1 {
            self.section
                .problem("authentication", "must have one of basic, bearer and oauth2");
        }
        let basic = section.section("basic").and_then(|section| self.basic(section));
        let bearer = section.section("bearer").and_then(|section| self.bearer(section));
        let oauth2 = section
            .section("oauth2")
            .and_then(|section| self.oauth2(section, tls));
        section.finish();
        basic.or(bearer).or(oauth2)
    }

    fn basic(&mut self, section: Section<'_>) -> Option<Authentication> {
        let username = section.name("username");
        if section.raw("username").is_none() {
            section.problem("username", "is required");
        }
        let password = self.secret(&section, "password", true);
        let made = username.zip(password).and_then(|(username, password)| {
            let header = basic(&username, &password).map_err(|why| section.problem("username", why));
            header.ok().map(|_| Authentication::Basic { username, password })
        });
        section.finish();
        made
    }

    fn bearer(&mut self, section: Section<'_>) -> Option<Authentication> {
        let token = self.secret(&section, "token", true).filter(|token| {
            let legal = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
            if !legal {
                section.problem(
                    "token",
                    "must be visible ASCII characters without spaces (RFC 6750)",
                );
            }
            legal
        });
        section.finish();
        token.map(Authentication::Bearer)
    }

    fn oauth2(&mut self, section: Section<'_>, tls: &Tls) -> Option<Authentication> {
        for key in ["token_endpoint_url", "client_id"] {
            if section.raw(key).is_none() {
                section.problem(key, "is required");
            }
        }
        let url = section.name("token_endpoint_url");
        let client_id = section.name("client_id");
        let client_secret = self.secret(&section, "client_secret", true);
        let scopes = match section.raw("scopes") {
            Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
            _ => section.strings("scopes").unwrap_or_default(),
        };
        let endpoint = url.and_then(|url| {
            let checked = endpoint(&url).map_err(|why| section.problem("token_endpoint_url", why));
            checked.ok()
        });
        section.finish();
        Some(Authentication::OAuth2(Box::new(oidc::Settings {
            endpoint: endpoint?,
            client_id: client_id?,
            client_secret: client_secret?,
            scopes,
            trust: Trust {
                verify: tls.verify,
                authorities: tls.ca.clone(),
            },
        })))
    }
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    Place::of(&url).map_err(|why| why.replace("`authentication`", "`client_id` and `client_secret`"))?;
    if url.fragment().is_some() {
        return Err("has a fragment (#…), which is never sent".to_owned());
    }
    url.as_str()
        .parse()
        .map_err(|error| format!("is no URL: {error}"))
}

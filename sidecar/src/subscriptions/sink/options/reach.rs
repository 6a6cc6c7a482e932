//! Timeouts, connections, `tls` and `proxy`.

use url::Url;

use super::{DAY_MS, HOUR_MS, Proxy, Reader};
use crate::subscriptions::sink::client::{Settings, Tls};
use crate::subscriptions::sink::credentials::basic;
use crate::subscriptions::sink::egress::Place;

impl Reader<'_, '_> {
    pub(super) fn client(&mut self) -> Settings {
        let section = self.section;
        let usual = Settings::default();
        let connections = section.integer("max_concurrent_connections", 1..=10_000);
        Settings {
            connect_timeout: section
                .millis("connect_timeout", 1..=HOUR_MS)
                .unwrap_or(usual.connect_timeout),
            read_timeout: section
                .millis("read_timeout", 1..=DAY_MS)
                .unwrap_or(usual.read_timeout),
            idle_timeout: section
                .millis("idle_timeout", 1..=DAY_MS)
                .unwrap_or(usual.idle_timeout),
            max_connections: connections.and_then(|n| usize::try_from(n).ok()),
            tls: self.tls(),
        }
    }

    fn tls(&mut self) -> Tls {
        let Some(section) = self.section.section("tls") else {
            return Tls::default();
        };
        let pem = |key| self.keep.secrets.text(section.raw(key)?, section.path_of(key));
        let (ca, certificate) = (pem("ca"), pem("certificate"));
        let key = self.secret(&section, "key", false);
        if section.raw("certificate").is_some() != section.raw("key").is_some() {
            section.problem("key", "and `certificate` belong together: set both or neither");
        }
        let verify = section.bool("verify").unwrap_or(true);
        section.finish();
        Tls {
            ca,
            certificate,
            key,
            verify,
        }
    }

    pub(super) fn proxy(&mut self) -> Option<Proxy> {
        let section = self.section.section("proxy")?;
        let url = section.name("url");
        if section.raw("url").is_none() {
            section.problem("url", "is required, as http://proxy:3128");
        }
        let place = url.and_then(|url| {
            let place = Url::parse(&url)
                .map_err(|error| format!("is no URL: {error}"))
                .and_then(|url| {
                    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
                        return Err("must have scheme, host and port only".to_owned());
                    }
                    Place::of(&url)
                        .map_err(|why| why.replace("`authentication`", "`username` and `password`"))
                });
            place.map_err(|why| section.problem("url", why)).ok()
        });
        let username = section.name("username");
        let password = self.secret(&section, "password", false);
        if section.raw("username").is_some() != section.raw("password").is_some() {
            section.problem("password", "and `username` belong together: set both or neither");
        }
        let shown = username.zip(password).and_then(|(username, password)| {
            basic(&username, &password)
                .map_err(|why| section.problem("username", why))
                .ok()
        });
        section.finish();
        Some(Proxy {
            place: place?,
            authorization: shown,
        })
    }
}

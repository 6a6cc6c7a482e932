//! Which pages may open WebSockets. Browsers let any page open one to any host, with whatever the host takes for a proof of
//! who it is: an address, a cookie that a proxy checks. What they do say is whose page it is (RFC 6455, section 10.2).

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;

/// Where a request's page is from, and which host it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// None if it is no browser that asks.
    page: Option<String>,
    host: Option<String>,
}

impl Origin {
    /// That of a request.
    pub(super) fn of(request: &Parts) -> Self {
        let text = |headers: &HeaderMap, name| {
            let mut all = headers.get_all(name).iter();
            let text = all
                .next()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            // Two are none that could be trusted.
            if all.next().is_some() {
                Some(String::new())
            } else {
                text
            }
        };
        Self {
            page: text(&request.headers, ORIGIN),
            host: request
                .uri
                .authority()
                .map(|authority| authority.as_str().to_owned())
                .or_else(|| text(&request.headers, HOST)),
        }
    }

    /// Whether such a page may: no browser asks, the page is the same host's, or `allowed` names it.
    pub(super) fn may(&self, allowed: &[String]) -> bool {
        let Some(page) = &self.page else { return true };
        if allowed.iter().any(|one| one == "*" || one == page) {
            return true;
        }
        let (Some((scheme, of_page)), Some(host)) = (page.split_once("://"), &self.host) else {
            return false;
        };
        let usual = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return false,
        };
        let bare = |host: &str| host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase();
        !of_page.is_empty() && bare(of_page) == bare(host)
    }

    /// The page's, as it is told in errors.
    pub(super) fn page(&self) -> &str {
        self.page.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(page: Option<&str>, host: &str, allowed: &[&str]) -> bool {
        let mut builder = axum::http::Request::get("/ws").header(HOST, host);
        if let Some(page) = page {
            builder = builder.header(ORIGIN, page);
        }
        let allowed: Vec<String> = allowed.iter().map(|one| (*one).to_owned()).collect();
        let (request, ()) = builder.body(()).unwrap().into_parts();
        Origin::of(&request).may(&allowed)
    }

    #[test]
    fn pages_of_others_may_not() {
        assert!(may(None, "a.example", &[]));
        for (page, host) in [
            ("https://a.example", "a.example"),
            ("https://a.example", "a.example:443"),
            ("http://a.example", "A.example:80"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://[::1]:80", "[::1]"),
        ] {
            assert!(may(Some(page), host, &[]), "{page} {host}");
        }
        for (page, host) in [
            ("https://b.example", "a.example"),
            ("https://a.example.b.example", "a.example"),
            ("https://a.example:444", "a.example"),
            ("http://a.example", "a.example:443"),
            ("null", "null"),
            ("", ""),
            ("https://", ""),
            ("file://a.example", "a.example"),
        ] {
            assert!(!may(Some(page), host, &["https://c.example"]), "{page} {host}");
        }
        assert!(may(
            Some("https://c.example"),
            "a.example",
            &["https://c.example"]
        ));
        assert!(may(Some("null"), "a.example", &["*"]));
    }

    #[test]
    fn two_origins_are_none() {
        let request = axum::http::Request::get("/ws")
            .header(HOST, "a")
            .header(ORIGIN, "http://a")
            .header(ORIGIN, "http://a");
        let (request, ()) = request.body(()).unwrap().into_parts();
        assert!(!Origin::of(&request).may(&[]));
    }
}

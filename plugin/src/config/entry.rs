//! The filter's own `routes:` list: settings for installations whose routes carry no metadata.

use sluice_settings::Section;

use super::fields;
use super::layer::Layer;

/// What a request is matched by.
#[derive(Debug, Clone, Copy)]
pub struct EntryQuery<'a> {
    /// The name of the Envoy route that matched; `None` if it has none or was not asked for.
    pub route_name: Option<&'a [u8]>,
    /// The host, a port included if the client sent one.
    pub host: &'a [u8],
    /// The path; what follows a `?` is not looked at.
    pub path: &'a [u8],
    /// The request method.
    pub method: &'a [u8],
}

/// One entry: which requests it is for, and its layer. What is `None` is not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Entry {
    pub(super) route_name: Option<String>,
    /// Lower case: a host, or `*.` and a suffix.
    pub(super) host: Option<String>,
    pub(super) path_prefix: Option<String>,
    pub(super) methods: Option<Vec<String>>,
    pub(super) layer: Layer,
}

impl Entry {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let entry = Self {
            route_name: section.name("route_name"),
            host: host(section, "host"),
            path_prefix: path_prefix(section, "path_prefix"),
            methods: fields::methods(section, "methods"),
            layer: Layer::read(section),
        };
        let matchers = ["route_name", "host", "path_prefix", "methods"];
        if matchers.iter().all(|field| section.raw(field).is_none()) {
            section.problem(
                "path_prefix",
                "an entry says what it matches by route_name, host, path_prefix or methods (`path_prefix: /` \
                 matches everything)",
            );
        }
        entry
    }

    /// Whether the entry is for that request.
    pub(super) fn matches(&self, query: &EntryQuery<'_>) -> bool {
        let same = |wanted: &String, got: &[u8]| wanted.as_bytes() == got;
        self.methods
            .as_ref()
            .is_none_or(|all| all.iter().any(|method| same(method, query.method)))
            && self
                .path_prefix
                .as_ref()
                .is_none_or(|prefix| path_of(query.path).starts_with(prefix.as_bytes()))
            && self
                .host
                .as_ref()
                .is_none_or(|host| host_matches(host, query.host))
            && self
                .route_name
                .as_ref()
                .is_none_or(|name| query.route_name.is_some_and(|got| same(name, got)))
    }
}

/// The path without its query.
fn path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or_default()
}

/// Whether `pattern` (lower case) covers `host`, whatever its case and port. `*.example.com` covers every host
/// that ends in `.example.com`, however many labels come before.
pub(super) fn host_matches(pattern: &str, host: &[u8]) -> bool {
    let host = without_port(host);
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            let start = host.len().checked_sub(suffix.len());
            let tail = start.filter(|at| *at > 0).and_then(|at| host.get(at..));
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix.as_bytes()))
        }
        None => host.eq_ignore_ascii_case(pattern.as_bytes()),
    }
}

/// `host` without `:port`; the colons of an IPv6 address are within brackets.
fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|b| *b == b':') {
        Some(colon) if !host.get(colon..).unwrap_or_default().contains(&b']') => {
            host.get(..colon).unwrap_or_default()
        }
        _ => host,
    }
}

fn host(section: &Section<'_>, key: &str) -> Option<String> {
    let host = section.name(key)?.to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let legal = |b: u8| b.is_ascii_graphic() && !b"/?#*@".contains(&b);
    if name.is_empty() || !name.bytes().all(legal) {
        section.problem(
            key,
            format!("{host:?} is no host; write example.com, or *.example.com"),
        );
        return None;
    }
    if without_port(host.as_bytes()).len() != host.len() {
        section.problem(key, "leave the port out: a host matches on every port");
        return None;
    }
    Some(host)
}

fn path_prefix(section: &Section<'_>, key: &str) -> Option<String> {
    let prefix = section.name(key)?;
    if !prefix.starts_with('/') || prefix.contains(['?', '#']) {
        section.problem(
            key,
            format!("must start with `/` and have no query, not {prefix:?}"),
        );
        return None;
    }
    Some(prefix)
}

//! Which `routes:` entry a request gets.

use super::*;

fn query<'a>(host: &'a str, path: &'a str, method: &'a str) -> EntryQuery<'a> {
    EntryQuery {
        route_name: None,
        host: host.as_bytes(),
        path: path.as_bytes(),
        method: method.as_bytes(),
    }
}

fn entries(entries: Json) -> FilterConfig {
    config(json!({"topic": "t", "routes": entries}))
}

#[test]
fn the_first_that_matches() {
    let config = entries(json!([
        {"path_prefix": "/orders/audit"},
        {"path_prefix": "/orders", "methods": ["post", "PUT"]},
        {"host": "a.example", "path_prefix": "/"},
    ]));
    assert!(config.has_entries() && !config.needs_route_name());
    let found = |host, path, method| config.entry_for(&query(host, path, method));
    assert_eq!(found("a.example", "/orders/audit/1", "GET"), Some(0));
    assert_eq!(found("b.example", "/orders?x=/orders/audit", "POST"), Some(1));
    assert_eq!(found("a.example", "/orders", "GET"), Some(2));
    assert_eq!(found("b.example", "/orders", "GET"), None);
    assert_eq!(found("b.example", "/?/orders", "POST"), None);
    assert_eq!(found("b.example", "/orders", "post"), None);
}

#[test]
fn by_host() {
    for (pattern, host, matches) in [
        ("Example.com", "example.COM", true),
        ("example.com", "example.com:8443", true),
        ("example.com", "a.example.com", false),
        ("*.example.com", "a.example.com:80", true),
        ("*.example.com", "a.b.EXAMPLE.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "badexample.com", false),
        ("[::1]", "[::1]:8080", true),
        ("[::1]", "[::1]", true),
        ("example.com", "", false),
    ] {
        let config = entries(json!([{"host": pattern}]));
        let found = config.entry_for(&query(host, "/", "GET"));
        assert_eq!(found.is_some(), matches, "{pattern} {host}");
    }
}

#[test]
fn by_the_name_of_the_envoy_route() {
    let config = entries(json!([{"route_name": "orders", "methods": ["POST"]}]));
    assert!(config.needs_route_name());
    let named = |name: Option<&'static str>, method| {
        let route_name = name.map(str::as_bytes);
        config.entry_for(&EntryQuery {
            route_name,
            ..query("h", "/", method)
        })
    };
    assert_eq!(named(Some("orders"), "POST"), Some(0));
    assert_eq!(named(Some("orders"), "GET"), None);
    assert_eq!(named(Some("order"), "POST"), None);
    assert_eq!(named(None, "POST"), None);
}

#[test]
fn bytes_that_are_no_text_match_nothing_and_break_nothing() {
    let config =
        entries(json!([{"host": "a"}, {"path_prefix": "/a"}, {"methods": ["GET"]}, {"route_name": "r"}]));
    let odd = EntryQuery {
        route_name: Some(b"\xff"),
        host: b"\xff:\xff",
        path: b"\xff?",
        method: b"\xff",
    };
    assert_eq!(config.entry_for(&odd), None);
}

//! Path templates, against regular expressions.

use regex::bytes::Regex;
use sluice_filter::config::PathTemplate;

/// The most of a template that is made a regular expression: they grow large.
const LONG: usize = 200;

/// A template, a line feed, and a path: what the template finds there is what the regular expression does that
/// means the same.
pub(crate) fn template(data: &[u8]) {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (text, path) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let parsed = PathTemplate::parse(text);
    if text.len() > LONG {
        return;
    }
    let Some(expression) = expression(text) else {
        assert!(parsed.is_err(), "{text:?} is no template");
        return;
    };
    let template = parsed.expect("a template");
    assert_eq!(template.to_string(), text);
    let expected = expression.captures(path).and_then(|found| found.get(1));
    assert_eq!(
        template.find(path),
        expected.map(|found| found.as_bytes()),
        "{text:?}"
    );
}

/// The regular expression that means the same; `None` if it is no template.
fn expression(text: &str) -> Option<Regex> {
    let (inner, tail) = match text.strip_suffix("/**") {
        Some(inner) => (inner, "(?:/.*)?"),
        None => (text, ""),
    };
    if !text.starts_with('/') || inner.matches('/').count() > 64 || text.contains(['?', '#']) {
        return None;
    }
    let name = Regex::new(r"^\{[a-zA-Z0-9_]+\}$").expect("a regular expression");
    let mut names = 0;
    let mut pattern = String::from(r"(?s-u)\A");
    for segment in inner.split('/').skip(1) {
        pattern.push('/');
        if segment == "*" {
            pattern.push_str("[^/]+");
        } else if name.is_match(segment.as_bytes()) {
            names += 1;
            pattern.push_str("([^/]+)");
        } else if segment.contains(['*', '{', '}']) {
            return None;
        } else {
            pattern.push_str(&regex::escape(segment));
        }
    }
    pattern.push_str(tail);
    pattern.push_str(r"\z");
    (names == 1).then(|| Regex::new(&pattern).expect(&pattern))
}

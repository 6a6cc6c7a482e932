//! What is shown of what may hold secrets: they can be written and not read.

use serde_json::{Map, Value};

use crate::kafka::properties::may_be_secret;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

/// Names of options whose values are not shown, whatever is in them: those that end or begin like this hold what opens
/// something.
const MARKS: [&str; 9] = [
    "authorization",
    "authentication",
    "cookie",
    "credential",
    "key",
    "bearer",
    "headers",
    "signature",
    "signing",
];
/// Options with such a name that hold no secret.
const OPEN: [&str; 2] = ["ordering", "key_filter"];

/// A property's value as it is shown.
pub(super) fn property<'a>(name: &str, value: &'a str) -> &'a str {
    if may_be_secret(name) && name != "sasl.username" && name != "ssl.ca.pem" && name != "ssl.certificate.pem"
    {
        HIDDEN
    } else {
        value
    }
}

/// Options as they are shown: every text below a name that may be of a secret is hidden, however deep.
pub(super) fn options(options: &Map<String, Value>) -> Map<String, Value> {
    options
        .iter()
        .map(|(name, value)| (name.clone(), one(name, value, false)))
        .collect()
}

fn one(name: &str, value: &Value, hidden: bool) -> Value {
    let lower = name.to_ascii_lowercase();
    let marked = MARKS.iter().any(|mark| lower.contains(mark)) || may_be_secret(&lower);
    let hidden = hidden || (marked && !OPEN.contains(&lower.as_str()));
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), one(name, value, hidden)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|item| one("", item, hidden)).collect(),
        Value::String(text) if text.contains("://") => url(text, hidden).into(),
        Value::String(_) if hidden => HIDDEN.into(),
        other => other.clone(),
    }
}

/// A sink as it is shown: without the query, which may hold a secret.
pub(super) fn sink(text: &str) -> String {
    url(text, false)
}

fn url(text: &str, hidden: bool) -> String {
    if hidden {
        return HIDDEN.to_owned();
    }
    match text.split_once('?') {
        Some((before, _)) if before.contains("://") && !before.starts_with("kafka://") => {
            format!("{before}?{HIDDEN}")
        }
        _ => text.to_owned(),
    }
}

/// Whether somebody sent back what was shown instead of a secret.
pub(super) fn is_hidden(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().any(is_hidden),
        Value::Array(items) => items.iter().any(is_hidden),
        Value::String(text) => text == HIDDEN || text.ends_with("?***"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let given = json!({
            "group.id": "mine", "ordering": "key", "concurrency": 4,
            "headers": {"x-team": "s3cr1t"},
            "authentication": {"oauth2": {"client_id": "s3cr2t", "client_secret": "s3cr3t", "token_endpoint_url": "https://h/t?s3cr4t"}},
            "signatures": [{"secret": "whsec_s3cr5t"}],
            "proxy": {"url": "http://p:1/?s3cr6t", "password": "s3cr7t"},
            "tls": {"key": "s3cr8t", "verify": true},
        });
        let shown = Value::from(options(given.as_object().unwrap()));
        assert!(!shown.to_string().contains("s3cr"), "{shown}");
        assert_eq!(
            (&shown["group.id"], &shown["ordering"], &shown["concurrency"]),
            (&json!("mine"), &json!("key"), &json!(4))
        );
        assert_eq!(shown["tls"]["verify"], true);
        assert!(is_hidden(&shown) && !is_hidden(&given));
        assert_eq!(sink("https://h/p?token=s3cr3t"), "https://h/p?***");
        assert_eq!(sink("service://A/b"), "service://A/b");
        assert_eq!(property("sasl.password", "x"), HIDDEN);
        assert_eq!(property("sasl.username", "x"), "x");
        assert_eq!(property("ssl.key.pem", "x"), HIDDEN);
    }
}

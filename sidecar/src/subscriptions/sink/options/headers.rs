//! `headers`

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::Reader;
use crate::jq::Template;
use crate::subscriptions::sink::headers::may_be_set;

/// Headers that are the same for all, and those that have expressions in them.
type Headers = (Vec<(HeaderName, HeaderValue)>, Vec<(HeaderName, Template)>);

impl Reader<'_, '_> {
    pub(super) fn headers(&mut self) -> Headers {
        let (mut fixed, mut templates): Headers = Default::default();
        let Some(section) = self.section.section("headers") else {
            return (fixed, templates);
        };
        for key in section.keys() {
            let Some(value) = section.raw(key) else { continue };
            let name = match HeaderName::from_bytes(key.as_bytes()) {
                Ok(name) if may_be_set(&name) => name,
                Ok(_) => {
                    section.problem(key, "is set by Sluice itself, or says how the message is framed");
                    continue;
                }
                Err(_) => {
                    section.problem(
                        key,
                        "is no header's name (RFC 9110: letters, digits and !#$%&'*+-.^_`|~)",
                    );
                    continue;
                }
            };
            let text = match value {
                Value::String(text) if text.contains("{{") => {
                    match Template::parse_text(text, &[]) {
                        Ok(template) => templates.push((name, template)),
                        Err(why) => section.problem(key, why),
                    }
                    continue;
                }
                Value::String(text) if !is_secret(&name) => text.clone(),
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                other => match self.take(other, section.path_of(key)) {
                    Some(secret) => secret.expose().to_owned(),
                    None => continue,
                },
            };
            match HeaderValue::from_str(&text) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    fixed.push((name, value));
                }
                Err(_) => section.problem(key, "has a character in it that no header can have"),
            }
        }
        section.finish();
        (fixed, templates)
    }
}

/// Whether a header's name says that its value is one.
fn is_secret(name: &HeaderName) -> bool {
    let words = [
        "auth",
        "cookie",
        "key",
        "password",
        "secret",
        "signature",
        "token",
    ];
    words.iter().any(|word| name.as_str().contains(word))
}

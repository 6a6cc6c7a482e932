//! Claims of a token, by their names.

use std::fmt;

use serde_json::{Map, Value};

/// The name of a claim: that of one at the top, or of one within others, with dots between, as `realm_access.roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    /// Checks it.
    ///
    /// # Errors
    /// What a name is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}');
        if text.is_empty() || text.contains(odd) {
            return Err(format!(
                "{text:?} is no claim's name: it is not empty, and has no spaces and braces"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The claim. One at the top that has the whole name, dots included, comes before one within others.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        if let Some(found) = claims.get(&self.0) {
            return Some(found);
        }
        let mut parts = self.0.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// What the claim says, as texts: a string, number or boolean is one, a list as many as it has of those.
    pub fn texts(&self, claims: &Map<String, Value>) -> Vec<String> {
        match self.find(claims) {
            Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
            Some(one) => text(one).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Whether the claim says `wanted`: is it, or a list with it, or a scope with it among its words.
    pub fn says(&self, wanted: &str, claims: &Map<String, Value>) -> bool {
        // A scope is several in one string (RFC 8693, section 4.2); `scp` is what some issuers call it.
        let words = matches!(self.0.as_str(), "scope" | "scp");
        let is = |text: &String| text == wanted || (words && text.split(' ').any(|word| word == wanted));
        self.texts(claims).iter().any(is)
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(name: &str, wanted: &str) -> bool {
        let claims = json!({
            "scope": "read:orders write:orders", "scp": ["a b", "c"], "title": "Head of a",
            "realm_access": {"roles": ["reader", 7]}, "https://x.example/org": "acme", "admin": true,
        });
        let Value::Object(claims) = claims else { panic!() };
        Name::parse(name).unwrap().says(wanted, &claims)
    }

    #[test]
    fn a_claim_says_what_it_is_and_no_part_of_it() {
        for (name, wanted) in [
            ("scope", "read:orders"),
            ("scope", "read:orders write:orders"),
            ("scp", "b"),
            ("title", "Head of a"),
            ("realm_access.roles", "reader"),
            ("realm_access.roles", "7"),
            ("https://x.example/org", "acme"),
            ("admin", "true"),
        ] {
            assert!(says(name, wanted), "{name} {wanted}");
        }
        for (name, wanted) in [
            ("scope", "read"),
            ("scope", ""),
            ("title", "a"),
            ("realm_access", "reader"),
            ("realm_access.roles", "read"),
            ("none", "reader"),
        ] {
            assert!(!says(name, wanted), "{name} {wanted}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", "a b", "{a}", "a\n"] {
            assert!(Name::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

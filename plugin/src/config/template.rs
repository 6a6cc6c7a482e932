//! Paths with one name in them, as `/orders/{topic}/*`: where a path says something.
//!
//! The form is a part of Envoy's `envoy.path.match.uri_template`: `*` is any one segment, `**` at the end any
//! number of them, `{name}` the segment that is looked for.

use std::fmt;

/// The most segments that a template may have.
const MAX_SEGMENTS: usize = 64;

/// A path with one name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Vec<Part>,
    /// Whether `**` follows.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// This text, byte by byte as it is sent.
    Text(String),
    /// Any segment, if it is not empty.
    Any,
    /// The same; it is what is looked for.
    Name(String),
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "{text:?} is no path template: {why}; write /orders/{{topic}}"
            ))
        };
        let Some(inner) = text.strip_prefix('/') else {
            return wrong("it must start with `/`");
        };
        if text.contains(['?', '#']) {
            return wrong("a path has no query");
        }
        let mut parts = Vec::new();
        let mut segments = inner.split('/').peekable();
        let mut open = false;
        while let Some(segment) = segments.next() {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let is_name =
                |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            match (segment, name) {
                ("**", _) if segments.peek().is_none() => open = true,
                ("**", _) => return wrong("`**` stands only at the end"),
                ("*", _) => parts.push(Part::Any),
                (_, Some(name)) if is_name(name) => parts.push(Part::Name(name.to_owned())),
                (text, None) if !text.contains(['{', '}', '*']) => parts.push(Part::Text(text.to_owned())),
                _ => {
                    return wrong(
                        "`*`, `**` and `{name}` stand for whole segments, a name is of a-z, 0-9 and _",
                    );
                }
            }
        }
        if parts.len() > MAX_SEGMENTS {
            return wrong(&format!("it has more than {MAX_SEGMENTS} segments"));
        }
        match parts.iter().filter(|part| matches!(part, Part::Name(_))).count() {
            1 => Ok(Self { parts, open }),
            _ => wrong("it must have one {name}"),
        }
    }

    /// The segment of `path` (without its query) in the place of the name, as it is sent; `None` if the path is
    /// not of that form. It is never empty.
    pub fn find<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let mut segments = path.strip_prefix(b"/")?.split(|b| *b == b'/');
        let mut found = None;
        for part in &self.parts {
            let segment = segments.next()?;
            match part {
                Part::Text(text) if text.as_bytes() == segment => {}
                Part::Text(_) => return None,
                Part::Any | Part::Name(_) if segment.is_empty() => return None,
                Part::Any => {}
                Part::Name(_) => found = Some(segment),
            }
        }
        if !self.open && segments.next().is_some() {
            return None;
        }
        found
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => write!(f, "/{text}")?,
                Part::Any => f.write_str("/*")?,
                Part::Name(name) => write!(f, "/{{{name}}}")?,
            }
        }
        f.write_str(if self.open { "/**" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(template: &str, path: &str) -> Option<String> {
        let template = PathTemplate::parse(template).unwrap();
        let found = template.find(path.as_bytes())?;
        Some(String::from_utf8(found.to_vec()).unwrap())
    }

    #[test]
    fn the_name_stands_for_one_segment() {
        let check = |template, path, expected: Option<&str>| {
            assert_eq!(found(template, path).as_deref(), expected, "{template} of {path}");
        };
        check("/orders/{topic}", "/orders/eu", Some("eu"));
        check("/orders/{topic}", "/orders/a%2Fb", Some("a%2Fb"));
        check("/orders/{topic}", "/orders/", None);
        check("/orders/{topic}", "/orders", None);
        check("/orders/{topic}", "/orders/eu/", None);
        check("/orders/{topic}", "/orders/eu/1", None);
        check("/orders/{topic}", "/ORDERS/eu", None);
        check("/orders/{topic}", "orders/eu", None);
        check("/{topic}", "/", None);
        check("/{topic}", "", None);
        check("/*/{topic}/x", "/a/b/x", Some("b"));
        check("/*/{topic}/x", "//b/x", None);
        check("/{topic}/**", "/a", Some("a"));
        check("/{topic}/**", "/a/", Some("a"));
        check("/{topic}/**", "/a/b/c", Some("a"));
        check("/{topic}/", "/a/", Some("a"));
        check("/{topic}/", "/a", None);
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        for (template, why) in [
            ("", "start with `/`"),
            ("orders/{topic}", "start with `/`"),
            ("/{topic}?a=b", "no query"),
            ("/orders", "one {name}"),
            ("/{a}/{b}", "one {name}"),
            ("/**/{a}", "only at the end"),
            ("/{}", "whole segments"),
            ("/{a-b}", "whole segments"),
            ("/x{a}", "whole segments"),
            ("/{a}.json", "whole segments"),
            ("/{a=*}", "whole segments"),
            ("/*.json/{a}", "whole segments"),
            (&format!("{}/{{a}}", "/x".repeat(64)), "more than 64 segments"),
        ] {
            let told = PathTemplate::parse(template).unwrap_err();
            assert!(told.contains(why), "{template}: {told}");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![Just("*".to_owned()), "[a-z%.~-]{0,3}"]
    }

    proptest! {
        /// What is put in the name's place is what is found there, and the template is written as it was read.
        #[test]
        fn what_stands_in_the_names_place_is_found(
            before in proptest::collection::vec(segment(), 0..4),
            after in proptest::collection::vec(segment(), 0..4),
            open in any::<bool>(),
            value in "[^/?#]{1,8}",
            rest in "[^?#]{0,8}",
        ) {
            let join = |name: &str, star: &str, end: &str| {
                let all = before.iter().map(String::as_str).chain([name]).chain(after.iter().map(String::as_str));
                let path: String = all.map(|s| format!("/{}", if s == "*" { star } else { s })).collect();
                path + end
            };
            let text = join("{name}", "*", if open { "/**" } else { "" });
            let template = PathTemplate::parse(&text).unwrap();
            prop_assert_eq!(template.to_string(), text);
            let tail = if open { format!("/{rest}") } else { String::new() };
            let path = join(&value, "any", &tail);
            // A star in the name's place would be replaced as one of the template's.
            prop_assume!(value != "*");
            prop_assert_eq!(template.find(path.as_bytes()), Some(value.as_bytes()));
            let longer = path.clone() + "/more";
            prop_assert_eq!(template.find(longer.as_bytes()).is_some(), open);
        }

        #[test]
        fn whatever_is_found_is_a_segment_of_the_path(path in proptest::collection::vec(any::<u8>(), 0..20)) {
            let template = PathTemplate::parse("/*/{name}/**").unwrap();
            if let Some(found) = template.find(&path) {
                prop_assert!(!found.is_empty() && !found.contains(&b'/'));
                prop_assert_eq!(path.split(|b| *b == b'/').nth(2), Some(found));
            }
        }
    }
}

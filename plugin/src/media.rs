//! Media types: what a body is.

/// A `content-type`, taken apart as far as Sluice needs it (RFC 9110 section 8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaType<'a> {
    /// `type/subtype`, as sent.
    essence: &'a [u8],
    /// What follows the first `;`.
    parameters: &'a [u8],
}

impl<'a> MediaType<'a> {
    /// The media type that the header says. Anything can be said; what is no media type equals none.
    pub(crate) fn new(content_type: &'a [u8]) -> Self {
        let mut halves = content_type.splitn(2, |b| *b == b';');
        Self {
            essence: halves.next().unwrap_or_default().trim_ascii(),
            parameters: halves.next().unwrap_or_default(),
        }
    }

    /// Whether this is `name` (lower case); case and parameters do not matter.
    pub(crate) fn is(self, name: &str) -> bool {
        self.essence.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether this is what `pattern` says: an exact type, or all with a suffix (`application/*+json`).
    pub(crate) fn matches(self, pattern: &str) -> bool {
        let Some((before, after)) = pattern.split_once('*') else {
            return self.is(pattern);
        };
        let essence = self.essence;
        essence.len() > before.len() + after.len()
            && starts_with(essence, before)
            && essence
                .get(essence.len() - after.len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(after.as_bytes()))
    }

    /// Whether this begins with `prefix` (lower case).
    pub(crate) fn starts_with(self, prefix: &str) -> bool {
        starts_with(self.essence, prefix)
    }

    /// The first parameter of that name (lower case), without its quotes.
    pub(crate) fn parameter(self, name: &str) -> Option<std::borrow::Cow<'a, [u8]>> {
        parameters(self.parameters)
            .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

fn starts_with(essence: &[u8], prefix: &str) -> bool {
    essence
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// What is made of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`, with the parameters that its boundary is among.
    Multipart(MediaType<'a>),
    /// `application/json`, or a type that the route treats like it.
    Json,
    /// A type that comes as text if it is UTF-8.
    Text,
    /// Anything else, nothing, and whatever is compressed.
    Opaque,
}

impl<'a> Kind<'a> {
    /// The kind of a body with these headers. `json_types` are the route's further JSON types.
    pub(crate) fn of(
        content_type: Option<&'a [u8]>,
        content_encoding: Option<&[u8]>,
        json_types: &[String],
    ) -> Self {
        let Some(content_type) = content_type else {
            return Self::Opaque;
        };
        if content_encoding.is_some_and(is_encoded) {
            return Self::Opaque;
        }
        let media = MediaType::new(content_type);
        if media.is("application/json") {
            Self::Json
        } else if media.is("application/x-www-form-urlencoded") {
            Self::Form
        } else if media.is("multipart/form-data") {
            Self::Multipart(media)
        } else if TEXT.iter().any(|text| media.is(text)) {
            Self::Text
        } else if json_types.iter().any(|pattern| media.matches(pattern)) {
            Self::Json
        } else {
            Self::Opaque
        }
    }
}

/// The types that come as text, beside those that are parsed.
const TEXT: [&str; 5] = [
    "text/plain",
    "text/html",
    "application/xml",
    "text/xml",
    "application/soap+xml",
];

/// Whether a body with this `content-encoding` is something else than what its type says.
pub(crate) fn is_encoded(content_encoding: &[u8]) -> bool {
    let coding = content_encoding.trim_ascii();
    !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
}

/// The parameters in `name=value; name="value"; …`. Names as sent, values without their quotes; a parameter without
/// `=` has no value and is left out.
///
/// Inside quotes `\"` and `\\` are one character. Another backslash stands for itself: clients send Windows paths.
pub(crate) fn parameters(text: &[u8]) -> impl Iterator<Item = (&[u8], std::borrow::Cow<'_, [u8]>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let name_end = rest
                .iter()
                .position(|b| matches!(b, b'=' | b';'))
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at_checked(name_end)?;
            let Some((b'=', after)) = after.split_first() else {
                rest = after.get(1..).unwrap_or_default();
                continue;
            };
            let (value, after) = match after.trim_ascii_start() {
                [b'"', quoted @ ..] => quoted_string(quoted),
                plain => {
                    let end = plain.iter().position(|b| *b == b';').unwrap_or(plain.len());
                    let (value, after) = plain.split_at_checked(end)?;
                    (value.trim_ascii_end().into(), after)
                }
            };
            // Behind the next semicolon; whatever stands between a closing quote and it means nothing.
            let next = after
                .iter()
                .position(|b| *b == b';')
                .map_or(after.len(), |at| at + 1);
            rest = after.get(next..).unwrap_or_default();
            return Some((name.trim_ascii(), value));
        }
        None
    })
}

/// What stands before the closing quote (or the end), and what follows it.
fn quoted_string(text: &[u8]) -> (std::borrow::Cow<'_, [u8]>, &[u8]) {
    let end = text
        .iter()
        .position(|b| matches!(b, b'"' | b'\\'))
        .unwrap_or(text.len());
    let (plain, mut rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    if rest.first() != Some(&b'\\') {
        return (plain.into(), rest.get(1..).unwrap_or_default());
    }
    let mut value = plain.to_vec();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'"', _) => break,
            (b'\\', [escaped @ (b'"' | b'\\'), after @ ..]) => {
                value.push(*escaped);
                rest = after;
            }
            _ => value.push(*byte),
        }
    }
    (value.into(), rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(content_type: &str) -> Kind<'_> {
        let json = [
            "application/problem+json".to_owned(),
            "application/*+json".to_owned(),
        ];
        Kind::of(Some(content_type.as_bytes()), None, &json)
    }

    #[test]
    fn types_are_exact_and_case_and_parameters_do_not_matter() {
        for json in [
            "application/json",
            " Application/JSON ;charset=utf-8",
            "application/json;",
            "application/a+json",
        ] {
            assert_eq!(kind(json), Kind::Json, "{json}");
        }
        for text in [
            "text/plain",
            "TEXT/HTML; charset=x",
            "application/soap+xml",
            "text/xml",
            "application/xml",
        ] {
            assert_eq!(kind(text), Kind::Text, "{text}");
        }
        assert_eq!(kind("application/x-www-form-urlencoded"), Kind::Form);
        assert!(matches!(
            kind("Multipart/Form-Data; boundary=x"),
            Kind::Multipart(_)
        ));
        for other in [
            "",
            ";",
            "text",
            "text/plainer",
            "application/jsonx",
            "application/json,application/json",
            "text/css",
            "application/+json",
            "multipart/mixed",
            "application/a+json2",
            "xapplication/json",
        ] {
            assert_eq!(kind(other), Kind::Opaque, "{other}");
        }
        assert_eq!(Kind::of(None, None, &[]), Kind::Opaque);
        assert_eq!(Kind::of(Some(b"application/a+json"), None, &[]), Kind::Opaque);
        assert_eq!(Kind::of(Some(b"\xff"), None, &[]), Kind::Opaque);
    }

    #[test]
    fn an_encoded_body_is_opaque_whatever_its_type() {
        for (encoding, expected) in [
            ("gzip", Kind::Opaque),
            ("identity, br", Kind::Opaque),
            ("Identity", Kind::Json),
            ("", Kind::Json),
        ] {
            let kind = Kind::of(Some(b"application/json"), Some(encoding.as_bytes()), &[]);
            assert_eq!(kind, expected, "{encoding}");
        }
    }

    #[test]
    fn parameters_come_quoted_and_unquoted() {
        let all = |text: &str| {
            parameters(text.as_bytes())
                .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
                .collect::<Vec<_>>()
                .join("|")
        };
        for (text, expected) in [
            ("", ""),
            (" boundary=abc", "boundary=abc"),
            ("a=1; B = \"2;3\" ; c", "a=1|B=2;3"),
            ("flag; a=1;;", "a=1"),
            (r#"a="q\"\\\x"; b=2"#, r#"a=q\"\\\\x|b=2"#),
            ("a=\"open", "a=open"),
            ("a=\"x\"junk; b=2", "a=x|b=2"),
            ("a=", "a="),
            ("a=\"\"", "a="),
        ] {
            assert_eq!(all(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(bytes in any::<Vec<u8>>(), text in "[a;=\"\\\\ ]{0,20}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let media = MediaType::new(bytes);
                let _taken = (media.parameter("a"), media.matches("application/*+json"), Kind::of(Some(bytes), Some(bytes), &[]));
                prop_assert!(parameters(bytes).count() <= bytes.len());
            }
        }
    }
}

//! `name=value&…`, as queries and form bodies have it, and percent-encoding.
//!
//! As in nginx: `+` is a space, a `%` that is not followed by two hexadecimal digits stays as it is, an argument
//! without `=` is no string but `true`, one without a name is dropped.

use std::borrow::Cow;

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arg<'a> {
    /// Its name, decoded; never empty.
    pub(crate) name: Cow<'a, [u8]>,
    /// What follows the first `=`, not decoded; `None` if there is no `=`.
    raw: Option<&'a [u8]>,
}

impl<'a> Arg<'a> {
    /// Its value, decoded; `None` if it came without `=`.
    pub(crate) fn value(&self) -> Option<Cow<'a, [u8]>> {
        self.raw.map(|raw| decode(raw, Plus::IsSpace))
    }
}

/// The arguments of a query (without its `?`) or of a form body, in order.
pub(crate) fn args(text: &[u8]) -> impl Iterator<Item = Arg<'_>> {
    text.split(|b| *b == b'&').filter_map(|arg| {
        let mut halves = arg.splitn(2, |b| *b == b'=');
        let name = decode(halves.next()?, Plus::IsSpace);
        let raw = halves.next();
        (!name.is_empty()).then_some(Arg { name, raw })
    })
}

/// What a `+` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// A space, as in queries and forms.
    IsSpace,
    /// A plus sign, as in paths.
    IsPlus,
}

/// Decodes percent-encoding; without any, `raw` itself is returned.
pub(crate) fn decode(raw: &[u8], plus: Plus) -> Cow<'_, [u8]> {
    let plus = plus == Plus::IsSpace;
    let Some(first) = raw.iter().position(|b| *b == b'%' || plus && *b == b'+') else {
        return Cow::Borrowed(raw);
    };
    let (plain, mut rest) = raw.split_at_checked(first).unwrap_or((raw, &[]));
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(plain);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match (byte, after) {
            (b'+', _) if plus => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is parsed, one argument a line.
    fn parsed(text: &str) -> String {
        let line = |arg: Arg<'_>| {
            let value = arg.value().map(|v| format!("={}", v.escape_ascii()));
            format!("{}{}", arg.name.escape_ascii(), value.unwrap_or_default())
        };
        args(text.as_bytes()).map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn arguments_come_in_order_and_keep_what_they_are() {
        for (text, expected) in [
            ("", ""),
            ("a=1&b=2&a=3", "a=1 b=2 a=3"),
            ("flag&empty=", "flag empty="),
            ("=nameless&&a=1&=", "a=1"),
            ("a=b=c", "a=b=c"),
            ("a%3Db=%26", "a=b=&"),
            ("a=%zz&b=%4&c=%&d=%%41", "a=%zz b=%4 c=% d=%A"),
            ("a=%c3%A9%FF", r"a=\xc3\xa9\xff"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert_eq!(decode(b"a+b%2B", Plus::IsSpace), &b"a b+"[..]);
        assert_eq!(decode(b"a+b%2B", Plus::IsPlus), &b"a+b+"[..]);
    }

    proptest! {
        #[test]
        fn forms_are_parsed_as_the_url_standard_does(text in "[a-c=&%+0-9f]{0,30}", any_text in any::<String>()) {
            for text in [text, any_text] {
                let expected = form_urlencoded::parse(text.as_bytes())
                    .filter(|(name, _)| !name.is_empty())
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect::<Vec<_>>();
                let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let parsed = args(text.as_bytes())
                    .map(|arg| (lossy(&arg.name), lossy(&arg.value().unwrap_or_default())))
                    .collect::<Vec<_>>();
                prop_assert_eq!(parsed, expected);
            }
        }

        #[test]
        fn what_was_encoded_is_decoded(name in proptest::collection::vec(any::<u8>(), 1..20), value in any::<Vec<u8>>()) {
            let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
            let text = format!("{}={}", encode(&name), encode(&value));
            let parsed = args(text.as_bytes()).collect::<Vec<_>>();
            prop_assert_eq!(parsed.len(), 1);
            prop_assert_eq!(&*parsed[0].name, &name[..]);
            prop_assert_eq!(&*parsed[0].value().unwrap(), &value[..]);
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(decode(&bytes, Plus::IsSpace).len() <= bytes.len());
            prop_assert!(args(&bytes).all(|arg| !arg.name.is_empty()));
        }
    }
}

//! `Prefer` (RFC 7240): how long a request waits, and whether it would rather be answered at once. Filter and sidecar read it
//! alike.

/// The header.
pub const HEADER: &str = "prefer";

/// The header of an answer that says which preferences were honoured.
pub const APPLIED: &str = "preference-applied";

/// What a request prefers, of what is understood here. What is not is passed over, as RFC 7240 has it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Preferences {
    /// `wait`: so many seconds.
    pub wait: Option<u32>,
    /// `respond-async`: an answer that the work goes on, rather than waiting for its end.
    pub respond_async: bool,
}

impl Preferences {
    /// Reads the values of a request's `Prefer` headers, in their order. Of a preference that is there twice the first counts
    /// (RFC 7240, section 2).
    pub fn read<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        let mut waits = false;
        for value in values {
            for preference in pieces(value, b',') {
                // What follows a semicolon are parameters, which none of these has.
                let named = pieces(preference, b';').next().unwrap_or_default();
                let (name, value) = match named.iter().position(|byte| *byte == b'=') {
                    Some(at) => (
                        named.get(..at).unwrap_or_default(),
                        named.get(at + 1..).unwrap_or_default(),
                    ),
                    None => (named, &b""[..]),
                };
                let name = name.trim_ascii();
                if name.eq_ignore_ascii_case(b"wait") && !waits {
                    waits = true;
                    found.wait = seconds(value.trim_ascii());
                } else if name.eq_ignore_ascii_case(b"respond-async") {
                    found.respond_async = true;
                }
            }
        }
        found
    }
}

/// Whole seconds, in quotes or not; more than fit are the most that do.
fn seconds(value: &[u8]) -> Option<u32> {
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let digits = bare.unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

/// The pieces between separators that are in no quoted string.
fn pieces(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        let ends = *byte == separator && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (Option<u32>, bool);

    fn of(values: &[&str]) -> Found {
        let found = Preferences::read(values.iter().map(|value| value.as_bytes()));
        (found.wait, found.respond_async)
    }

    #[test]
    fn what_is_understood_counts_and_the_rest_is_passed_over() {
        let rows: [(&[&str], Found); 21] = [
            (&[], (None, false)),
            (&["wait=10"], (Some(10), false)),
            (&["Wait = 10"], (Some(10), false)),
            (&["wait=\"10\""], (Some(10), false)),
            (&["wait=0"], (Some(0), false)),
            (&["respond-async"], (None, true)),
            (&["Respond-Async"], (None, true)),
            (&["respond-async, wait=10"], (Some(10), true)),
            (&["wait=10,respond-async"], (Some(10), true)),
            (&["respond-async", "wait=3"], (Some(3), true)),
            (&["return=minimal; foo=\"some, wait=9\""], (None, false)),
            (&["foo=\"a\\\", wait=9\", wait=2"], (Some(2), false)),
            (&["wait=1, wait=2"], (Some(1), false)),
            (&["wait=x, wait=2"], (None, false)),
            (&["wait=-1"], (None, false)),
            (&["wait=+1"], (None, false)),
            (&["wait="], (None, false)),
            (&["wait"], (None, false)),
            (&["wait=10; foo=bar"], (Some(10), false)),
            (&["wait=99999999999999999999"], (Some(u32::MAX), false)),
            (&["respond-async-not, awaits=1"], (None, false)),
        ];
        for (values, expected) in rows {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }
}

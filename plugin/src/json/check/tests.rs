use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// The value's own text, or what is wrong.
fn check_text(text: &[u8]) -> Result<String, String> {
    match check(text, 128) {
        Ok(document) => Ok(document.text.to_owned()),
        Err(fault) => Err(fault.describe(text).to_string()),
    }
}

/// Whether serde_json takes `bytes` for JSON. It does not look at the bytes of strings that it ignores.
fn serde_json_accepts(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[test]
fn a_value_comes_out_as_it_was_sent() {
    for text in [
        "{}",
        "[]",
        "[ ]",
        "{ }",
        "[[],{}]",
        r#"{"a":1,"a":2}"#,
        "1.0E+2",
        "-0",
        "1e999",
        r#""\ud800""#,
        "123456789012345678901234567890",
        "[1 , 2\n,3]",
        "true",
        "null",
        "\"\u{2028}\u{7f}\"",
    ] {
        assert_eq!(check_text(text.as_bytes()).as_deref(), Ok(text));
    }
}

#[test]
fn a_byte_order_mark_and_white_space_around_are_left_out() {
    assert_eq!(check_text("\u{feff} \r\n\t{} \n".as_bytes()).unwrap(), "{}");
}

#[test]
fn a_fault_says_what_and_where() {
    for (text, fault) in [
        (
            "",
            "expected a value at line 1, column 1 (byte 0, the end of the text)",
        ),
        (
            " \n",
            "expected a value at line 2, column 1 (byte 2, the end of the text)",
        ),
        (
            "{\"é\":1,\n \"b\" 2}",
            "expected `:` at line 2, column 6 (byte 14)",
        ),
        (
            "{\"a\":1",
            "expected `,` or `}` at line 1, column 7 (byte 6, the end of the text)",
        ),
        ("{\"a\":1]", "expected `,` or `}` at line 1, column 7 (byte 6)"),
        ("[1}", "expected `,` or `]` at line 1, column 3 (byte 2)"),
        ("[1,]", "expected a value at line 1, column 4 (byte 3)"),
        (
            "{\"a\":1,}",
            "expected a member's name in quotes at line 1, column 8 (byte 7)",
        ),
        (
            "{a:1}",
            "expected a member's name in quotes at line 1, column 2 (byte 1)",
        ),
        ("{} {}", "expected nothing more at line 1, column 4 (byte 3)"),
        (
            "\"ab",
            "expected a closing quote at line 1, column 4 (byte 3, the end of the text)",
        ),
        (
            "\"a\nb\"",
            "a control character must be escaped at line 1, column 3 (byte 2)",
        ),
        ("\"\\x\"", "no such escape at line 1, column 2 (byte 1)"),
        (
            "\"\\u12g4\"",
            "expected four hexadecimal digits after `\\u` at line 1, column 2 (byte 1)",
        ),
        (
            "01",
            "a number must not have leading zeros at line 1, column 2 (byte 1)",
        ),
        (
            "1.",
            "expected a digit at line 1, column 3 (byte 2, the end of the text)",
        ),
        ("+1", "expected a value at line 1, column 1 (byte 0)"),
        ("NaN", "expected a value at line 1, column 1 (byte 0)"),
        ("0x10", "expected nothing more at line 1, column 2 (byte 1)"),
        ("tru", "expected a value at line 1, column 1 (byte 0)"),
    ] {
        assert_eq!(check_text(text.as_bytes()).unwrap_err(), fault, "{text}");
    }
    assert_eq!(
        check_text(b"\"\xff\"").unwrap_err(),
        "not UTF-8 at line 1, column 2 (byte 1)"
    );
}

#[test]
fn nesting_is_bounded_where_it_is_said() {
    for max in [1, 2, 63, 64, 65, 128, 129, 1000] {
        let nested = |depth: u32| "[".repeat(depth as usize) + &"]".repeat(depth as usize);
        assert!(check(nested(max).as_bytes(), max).is_ok(), "{max}");
        let fault = check(nested(max + 1).as_bytes(), max).unwrap_err();
        assert_eq!((fault.at, fault.why), (max as usize, "nested too deep"), "{max}");
    }
    assert!(check(b"1", 0).is_ok());
}

#[test]
fn objects_and_arrays_are_told_apart_at_every_depth() {
    let opening = (0..300)
        .map(|i| if i % 3 == 0 { "[" } else { "{\"k\":" })
        .collect::<String>();
    let closing = (0..300)
        .rev()
        .map(|i| if i % 3 == 0 { "]" } else { "}" })
        .collect::<String>();
    assert!(check(format!("{opening}1{closing}").as_bytes(), 300).is_ok());
    for at in 0..closing.len() {
        let mut wrong = closing.clone().into_bytes();
        wrong[at] = if wrong[at] == b']' { b'}' } else { b']' };
        let text = [opening.as_bytes(), b"1", &wrong].concat();
        assert_eq!(check(&text, 300).unwrap_err().at, opening.len() + 1 + at);
    }
}

/// Text that is often JSON, and otherwise nearly.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = proptest::sample::select(vec![
        &b"{"[..],
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\"a\"",
        b"\"\\",
        b"\\u00e9",
        b"\\ud800",
        b"1",
        b"-",
        b"0",
        b".5",
        b"e+7",
        b"true",
        b"false",
        b"null",
        b" ",
        b"\n",
        b"\x01",
        b"\xc3\xa9",
        b"\xff",
        b"\xef\xbb\xbf",
        b"long enough for a word",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// JSON text.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(|f| serde_json::to_string(&f).unwrap()),
        any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let space = proptest::sample::select(vec!["", " ", "\n\t "]);
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..5), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (proptest::collection::vec((any::<String>(), inner), 0..5), space).prop_map(
                |(members, space)| {
                    let members = members
                        .iter()
                        .map(|(name, value)| {
                            format!("{}{space}:{space}{value}", serde_json::to_string(name).unwrap())
                        })
                        .collect::<Vec<_>>();
                    format!("{{{space}{}{space}}}", members.join(&format!("{space},")))
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_serde_json_accepts_is_accepted_and_nothing_else(bytes in nearly_json()) {
        prop_assert_eq!(check(&bytes, 128).is_ok(), serde_json_accepts(&bytes), "{}", bytes.escape_ascii());
    }

    #[test]
    fn json_with_one_byte_changed_is_judged_like_serde_json(text in json_text(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        prop_assert!(check(text.as_bytes(), 128).is_ok());
        let mut bytes = text.into_bytes();
        *at.get_mut(&mut bytes) = byte;
        prop_assert_eq!(check(&bytes, 128).is_ok(), serde_json_accepts(&bytes), "{}", bytes.escape_ascii());
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in any::<Vec<u8>>()) {
        prop_assert_eq!(check(&bytes, 128).is_ok(), serde_json_accepts(&bytes));
        if let Err(fault) = check(&bytes, 128) {
            prop_assert!(fault.at <= bytes.len());
            prop_assert!(!fault.describe(&bytes).to_string().is_empty());
        }
    }
}

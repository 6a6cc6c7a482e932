use proptest::prelude::*;
use serde_json::Value;

use super::*;

const TEXT: &str = r#"{
    "id": "o-1", "n": 12.50, "yes": true, "none": null, "list": [ 10 , {"x": "in"} , [] ],
    "": "empty name", "a/b": "slash", "m~n": "tilde", "q\"\u00e9": "escaped",
    "twice": 1, "twice": "last", "deep": {"list": [[1, 2], [3, "four"]]}, "0": "zero"
}"#;

#[test]
fn a_pointer_leads_to_a_value() {
    for (pointer, found) in [
        ("", Some(Found::Composite)),
        ("/id", Some(Found::String("o-1"))),
        ("/n", Some(Found::Scalar("12.50"))),
        ("/yes", Some(Found::Scalar("true"))),
        ("/none", Some(Found::Null)),
        ("/list", Some(Found::Composite)),
        ("/list/0", Some(Found::Scalar("10"))),
        ("/list/1/x", Some(Found::String("in"))),
        ("/list/2", Some(Found::Composite)),
        ("/list/2/0", None),
        ("/list/3", None),
        ("/list/-", None),
        ("/list/00", None),
        ("/list/+1", None),
        ("/list/x", None),
        ("/", Some(Found::String("empty name"))),
        ("/a~1b", Some(Found::String("slash"))),
        ("/m~0n", Some(Found::String("tilde"))),
        ("/q\"é", Some(Found::String("escaped"))),
        ("/twice", Some(Found::String("last"))),
        ("/deep/list/1/1", Some(Found::String("four"))),
        ("/0", Some(Found::String("zero"))),
        ("/absent", None),
        ("/id/0", None),
        ("/n/x", None),
    ] {
        assert_eq!(find(TEXT, pointer), found, "{pointer}");
    }
    assert_eq!(find("{}", "/a"), None);
    assert_eq!(find("\"top\"", ""), Some(Found::String("top")));
}

#[test]
fn half_a_surrogate_pair_is_no_character() {
    assert_eq!(unescaped(r"\ud83d\ude00\n\/").as_deref(), Some("😀\n/"));
    for raw in [r"\ud83d", r"\ud83d\n", r"\ud83dx", r"\ude00", r"\ud83d\ud83d"] {
        assert_eq!(unescaped(raw), None, "{raw}");
    }
}

proptest! {
    #[test]
    fn strings_are_unescaped_as_serde_json_does(text in any::<String>(), escaped in "(\\\\[bfnrt/\"\\\\]|\\\\u[0-9a-f]{4}|[a-z]){0,6}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let back = unescaped(&quoted[1..quoted.len() - 1]);
        prop_assert_eq!(back.as_deref(), Some(text.as_str()));
        let expected = serde_json::from_str::<String>(&format!("\"{escaped}\"")).ok();
        prop_assert_eq!(unescaped(&escaped).map(Cow::into_owned), expected);
    }

    #[test]
    fn a_pointer_finds_what_serde_json_finds(keys in proptest::collection::vec("[a-c~/\"\\\\]{0,2}", 1..4), index in 0..4_usize, pretty in any::<bool>()) {
        let mut value = serde_json::json!(["x", 1.5, {"y": null}]);
        for key in keys.iter().rev() {
            value = serde_json::json!({"before": [1, {"a": "b"}], key: value, "after": "]}"});
        }
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let pointer = keys.iter().map(|k| format!("/{}", k.replace('~', "~0").replace('/', "~1"))).collect::<String>() + &format!("/{index}");
        let expected = value.pointer(&pointer).map(|value| match value {
            Value::Null => Found::Null,
            Value::Object(_) | Value::Array(_) => Found::Composite,
            Value::String(_) => Found::String("x"),
            Value::Bool(_) | Value::Number(_) => Found::Scalar("1.5"),
        });
        prop_assert_eq!(find(&text, &pointer), expected);
    }

    #[test]
    fn text_that_is_not_json_makes_no_panic(text in any::<String>(), pointer in "(/[a-z0-9]{0,2}){0,3}", raw in "[{}\\[\\]\",:\\\\ab0-9 ]{0,20}") {
        let _found = (find(&text, &pointer), find(&raw, &pointer), unescaped(&raw));
    }
}

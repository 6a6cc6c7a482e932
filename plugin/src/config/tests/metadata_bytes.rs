//! The bytes of `xds.route_metadata`.

use super::*;

/// One field of wire type 2.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut left = content.len();
    while left > 0x7f {
        bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes.extend_from_slice(content);
    bytes
}

/// An entry of a map, as in `filter_metadata` and in a `Struct`.
fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

#[test]
fn every_kind_of_value_is_decoded_as_envoy_encodes_it() {
    let number = [&[2 << 3 | 1][..], &3.0f64.to_le_bytes()].concat();
    let fields = [
        entry("null", &[1 << 3, 0]),
        entry("number", &number),
        entry("string", &field(3, "ö".as_bytes())),
        entry("bool", &[4 << 3, 1]),
        entry("struct", &field(5, &entry("in", &field(3, b"")))),
        entry(
            "list",
            &field(6, &[field(1, &number), field(1, &[4 << 3, 0])].concat()),
        ),
        entry("nothing", b""),
    ];
    let other = entry("envoy.lb", &entry("canary", &[4 << 3, 1]));
    let bytes = [other.clone(), entry("sluice", &fields.concat())].concat();
    let expected = json!({
        "null": null, "number": 3.0, "string": "ö", "bool": true, "struct": {"in": ""},
        "list": [3.0, false], "nothing": null,
    });
    assert_eq!(metadata::decode(&bytes), Ok(Some(expected)));
    assert_eq!(metadata::decode(&other), Ok(None));
    assert_eq!(metadata::decode(b""), Ok(None));
}

#[test]
fn typed_metadata_and_fields_to_come_are_passed_over() {
    let typed = field(
        2,
        &[field(1, b"sluice"), field(2, &field(1, b"type.googleapis.com/x"))].concat(),
    );
    let later = field(9, b"later");
    let bytes = [
        typed,
        later,
        entry("sluice", &entry("topic", &field(3, b"orders"))),
    ]
    .concat();
    assert_eq!(metadata::decode(&bytes), Ok(Some(json!({"topic": "orders"}))));
}

#[test]
fn an_empty_namespace_changes_nothing() {
    let config = config(json!({"topic": "t"}));
    assert_eq!(
        config.resolve(None, &entry("sluice", b"")),
        config.resolve(None, b"")
    );
}

#[test]
fn what_is_no_metadata_is_a_problem() {
    let config = FilterConfig::default();
    let problem = |bytes: &[u8]| texts(&config.resolve(None, bytes).unwrap_err()).remove(0);
    let path = "metadata.filter_metadata.sluice: cannot be decoded: ";
    for bytes in [
        &b"\x0a\x7f"[..],
        b"\xff",
        &entry("sluice", b"\x0a\x01\xff"),
        &entry("sluice", &entry("a", b"\x1a\x01\xff")),
    ] {
        assert!(problem(bytes).starts_with(path), "{bytes:?}");
    }
    let nan = [&[2 << 3 | 1][..], &f64::NAN.to_le_bytes()].concat();
    let bytes = entry("sluice", &entry("max_body_bytes", &nan));
    assert_eq!(
        problem(&bytes),
        format!("{path}it holds a number that is not finite")
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let list = |value: Vec<u8>, _| field(6, &field(1, &value));
        let lists = (0..depth).fold(field(3, b"x"), list);
        metadata::decode(&entry("sluice", &entry("a", &lists)))
    };
    assert!(nested(20).unwrap().unwrap()["a"].is_array());
    for depth in [100, 10_000] {
        let error = nested(depth).unwrap_err();
        assert!(error.contains("recursion"), "{error}");
    }
}

//! Queries and forms, against the URL standard's parser.

use sluice_filter::parsers::{self, Arg};

/// Arguments are those of the URL standard, and come back when they are written again.
pub(crate) fn form(data: &[u8]) {
    let ours = parsers::form(data);
    // The standard replaces what is not UTF-8, has an empty value where there is no `=`, and keeps arguments without
    // a name. docs/message.md keeps the bytes, tells the two apart, and drops those.
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let as_theirs = |(name, value): &Arg<'_>| (lossy(name), lossy(value.as_deref().unwrap_or_default()));
    let theirs = form_urlencoded::parse(data)
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.into_owned(), value.into_owned()));
    assert_eq!(
        ours.iter().map(as_theirs).collect::<Vec<_>>(),
        theirs.collect::<Vec<_>>()
    );
    // Byte for byte, and with the difference between no value and an empty one.
    let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let written = |(name, value): &Arg<'_>| match value {
        Some(value) => format!("{}={}", encode(name), encode(value)),
        None => encode(name),
    };
    let again = ours.iter().map(written).collect::<Vec<_>>().join("&");
    assert_eq!(parsers::form(again.as_bytes()), ours);
    // As a template's inputs: an object of as many names as there are.
    let form = Some(&b"application/x-www-form-urlencoded"[..]);
    let inputs = sluice_filter::inputs::of_body(form, None, data).expect("any form is one");
    let inputs = inputs.map(|inputs| serde_json::from_slice::<serde_json::Value>(&inputs).expect("JSON"));
    let members = inputs
        .as_ref()
        .map_or(0, |inputs| inputs.as_object().expect("an object").len());
    let names: std::collections::BTreeSet<_> = ours.iter().map(|(name, _)| name.clone()).collect();
    // Two names that are no text may be written alike.
    assert!(members <= names.len() && (members > 0) != names.is_empty());
    // A path is decoded as everybody does it.
    let decoded = percent_encoding::percent_decode(data).collect::<Vec<_>>();
    assert_eq!(&*parsers::path_decoded(data), &decoded[..]);
}

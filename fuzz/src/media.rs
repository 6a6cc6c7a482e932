//! Media types and their parameters.

use sluice_filter::parsers;

/// Parameters come back when they are written again, and are those that `mime` finds where both take a type for one.
pub(crate) fn media_type(data: &[u8]) {
    let mut halves = data.splitn(2, |b| *b == b';');
    let essence = halves.next().unwrap_or_default();
    let found = parsers::media_parameters(halves.next().unwrap_or_default());
    for (name, value) in &found {
        let name = name.to_ascii_lowercase();
        let first = found
            .iter()
            .find(|(n, _)| n.to_ascii_lowercase() == name)
            .unwrap();
        if let Ok(name) = std::str::from_utf8(&name) {
            assert_eq!(parsers::media_parameter(data, name).as_ref(), Some(&first.1));
        }
        assert!(value.len() <= data.len());
    }
    let mut again = essence.to_vec();
    for (name, value) in &found {
        again.extend_from_slice(b"; ");
        again.extend_from_slice(name);
        again.extend_from_slice(b"=\"");
        for byte in value.iter() {
            if matches!(byte, b'"' | b'\\') {
                again.push(b'\\');
            }
            again.push(*byte);
        }
        again.push(b'"');
    }
    let rest = again.get(essence.len() + 1..).unwrap_or_default();
    assert_eq!(parsers::media_parameters(rest), found);
    compare(data);
}

fn compare(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(theirs) = text.parse::<mime::Mime>() else {
        return;
    };
    assert!(parsers::media_is(data, theirs.essence_str()), "{text:?}");
    // `mime` takes a backslash in quotes for itself, and does not end an empty string at its second quote;
    // docs/message.md undoes `\"` and `\\`.
    if text.contains('\\') || text.contains("\"\"") {
        return;
    }
    // What stands between a closing quote and the semicolon means nothing here; `mime` ends at another quote.
    for behind in text.split('"').skip(2).step_by(2) {
        if !matches!(behind.trim_start().chars().next(), None | Some(';')) {
            return;
        }
    }
    for (name, value) in theirs.params() {
        let first = theirs.get_param(name).unwrap_or(value);
        let ours = parsers::media_parameter(data, name.as_str()).expect("the parameter");
        // It writes a charset in lower case; here values stay as they were sent.
        let same = match name {
            mime::CHARSET => ours.eq_ignore_ascii_case(first.as_str().as_bytes()),
            _ => *ours == *first.as_str().as_bytes(),
        };
        assert!(same, "{name} in {text:?} is {}", ours.escape_ascii());
    }
}

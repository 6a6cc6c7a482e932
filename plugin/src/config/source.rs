//! Reads where a request says something: the source of a key or a partition, and the names that a request may choose.

use sluice_settings::Section;

use super::fields::{distinct, header_name, is_token, topic_problem};
use super::route::{Choice, Key, Named, PartitionSource, Source};
use super::template::PathTemplate;

/// The kinds of [`Source`] by their names.
const SOURCES: [&str; 7] = [
    "query",
    "header",
    "cookie",
    "path",
    "path_segment",
    "json_pointer",
    "metadata",
];

/// The most parts that the path of a metadata value may have, its namespace included.
const MAX_METADATA_PARTS: usize = 16;

/// A field that is `none` or a mapping with one source: `Some(None)` is `none`.
pub(super) fn key(section: &Section<'_>, field: &str) -> Option<Option<Key>> {
    if section.raw(field)?.as_str() == Some("none") {
        return Some(None);
    }
    let map = section.section(field)?;
    let found = one_of(section, field, &map, &SOURCES).and_then(|kind| source(&map, kind));
    let allowed = listed(&map, |_| None);
    let default = map.string("default");
    if let (Some(allowed), Some(default)) = (&allowed, &default) {
        position(&map, allowed, default);
    }
    map.finish();
    let source = found?;
    Some(Some(Key {
        source,
        allowed,
        default,
    }))
}

/// A partition: as a key, or `fixed`, and without a list.
pub(super) fn partition(section: &Section<'_>, field: &str) -> Option<Option<PartitionSource>> {
    if section.raw(field)?.as_str() == Some("none") {
        return Some(None);
    }
    let map = section.section(field)?;
    let mut kinds = vec!["fixed"];
    kinds.extend(SOURCES);
    let found = one_of(section, field, &map, &kinds).and_then(|kind| match kind {
        "fixed" => {
            let n = map.integer(kind, 0..=i64::from(i32::MAX))?;
            i32::try_from(n).ok().map(PartitionSource::Fixed)
        }
        kind => source(&map, kind).map(PartitionSource::From),
    });
    map.finish();
    found.map(Some)
}

/// A name, or a mapping that says where the request chooses one.
pub(super) fn named(section: &Section<'_>, field: &str) -> Option<Named> {
    match section.raw(field)?.is_object() {
        true => choice(section, field, |_| None).map(Named::Chosen),
        false => section.name(field).map(Named::Fixed),
    }
}

/// A mapping that says where the request chooses a topic.
pub(super) fn topic_choice(section: &Section<'_>, field: &str) -> Option<Choice> {
    choice(section, field, topic_problem)
}

/// One source, what it may give, and what counts without it. `wrong` says what is wrong with a value.
fn choice(section: &Section<'_>, field: &str, wrong: impl Fn(&str) -> Option<String>) -> Option<Choice> {
    let map = section.section(field)?;
    let source = one_of(section, field, &map, &SOURCES).and_then(|kind| source(&map, kind));
    let allowed = listed(&map, wrong);
    if map.raw("allowed").is_none() {
        map.problem("allowed", "must list the values that a request may choose");
    }
    let default = map.string("default");
    let default = match (&allowed, default) {
        (Some(allowed), Some(text)) => position(&map, allowed, &text),
        _ => None,
    };
    map.finish();
    Some(Choice {
        source: source?,
        allowed: allowed?,
        default,
    })
}

/// `allowed`: distinct values, at least one of them, none of them empty.
fn listed(map: &Section<'_>, wrong: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let allowed = distinct(map, "allowed", |text| {
        let problem = match text.is_empty() {
            true => Some("must not be empty".to_owned()),
            false => wrong(&text),
        };
        problem.map_or(Ok(text), Err)
    })?;
    if map.list("allowed").is_some_and(<[_]>::is_empty) {
        map.problem("allowed", "must list at least one value");
        return None;
    }
    Some(allowed)
}

/// Where `default` stands in `allowed`.
fn position(map: &Section<'_>, allowed: &[String], default: &str) -> Option<usize> {
    let found = allowed.iter().position(|one| one == default);
    if found.is_none() {
        map.problem("default", "must be one of `allowed`");
    }
    found
}

/// The one of `kinds` that `map`, the value of `field`, sets; none or several is a problem. Marks all of them
/// as known.
fn one_of<'k>(section: &Section<'_>, field: &str, map: &Section<'_>, kinds: &[&'k str]) -> Option<&'k str> {
    let set: Vec<&str> = kinds
        .iter()
        .copied()
        .filter(|kind| map.raw(kind).is_some())
        .collect();
    match set.as_slice() {
        [one] => return Some(*one),
        // An unknown field in it is reported by itself.
        [] if map.keys().all(|key| ["allowed", "default"].contains(&key)) => {
            let or_none = match field {
                "key" | "partition" => "; or be `none`",
                _ => "",
            };
            section.problem(field, format!("must name one of {}{or_none}", kinds.join(", ")));
        }
        [] => {}
        several => section.problem(
            field,
            format!("names {}; it can name only one", several.join(" and ")),
        ),
    }
    None
}

/// The source of that kind, its value checked.
fn source(map: &Section<'_>, kind: &str) -> Option<Source> {
    match kind {
        "path_segment" => {
            let n = map.integer(kind, 0..=1000)?;
            return usize::try_from(n).ok().map(Source::PathSegment);
        }
        "metadata" => return metadata(map, kind).map(Source::Metadata),
        _ => {}
    }
    let text = map.name(kind)?;
    let checked = match kind {
        "query" => Ok(Source::Query(text)),
        "header" => header_name(&text).map(Source::Header),
        "cookie" if is_token(&text) => Ok(Source::Cookie(text)),
        "cookie" => Err(format!("{text:?} is no cookie name")),
        "path" => PathTemplate::parse(&text).map(Source::Path),
        _ => json_pointer(text).map(Source::JsonPointer),
    };
    checked.map_err(|why| map.problem(kind, why)).ok()
}

/// A namespace of Envoy's dynamic metadata and the names that lead to a value in it.
fn metadata(map: &Section<'_>, field: &str) -> Option<Vec<String>> {
    let parts = map.strings(field)?;
    let whole = map
        .list(field)
        .is_some_and(|written| written.len() == parts.len());
    if !whole {
        return None;
    }
    if parts.len() < 2 || parts.len() > MAX_METADATA_PARTS || parts.iter().any(String::is_empty) {
        map.problem(
            field,
            format!(
                "must be a namespace and the names that lead to the value, 2 to {MAX_METADATA_PARTS} in all and \
                 none empty, as [envoy.filters.http.jwt_authn, claims, tenant]"
            ),
        );
        return None;
    }
    Some(parts)
}

/// `text` as an RFC 6901 pointer. The empty pointer, the whole document, is refused: it is never a scalar.
pub(super) fn json_pointer(text: String) -> Result<String, String> {
    let escaped = |part: &str| part.starts_with('0') || part.starts_with('1');
    if text.starts_with('/') && text.split('~').skip(1).all(escaped) {
        Ok(text)
    } else {
        Err(format!(
            "{text:?} is no JSON pointer; write /order/id, with ~1 for `/` and ~0 for `~` in a name"
        ))
    }
}

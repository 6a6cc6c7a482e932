//! Reads single fields of a layer: what a topic, a header name or a source may be.

use sluice_settings::Section;

use super::route::Idempotency;

/// The largest topic name that Kafka takes, in bytes (`org.apache.kafka.common.internals.Topic`).
const MAX_TOPIC_LEN: usize = 249;

/// What is wrong with `name` as a topic; `None` if nothing is.
pub(super) fn topic_problem(name: &str) -> Option<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_TOPIC_LEN {
        Some(format!(
            "a topic name has 1 to {MAX_TOPIC_LEN} characters, not {}",
            name.len()
        ))
    } else if !name.bytes().all(legal) {
        Some(format!(
            "{name:?} is no topic name: only a-z, A-Z, 0-9, `.`, `_` and `-` are legal"
        ))
    } else if name == "." || name == ".." {
        Some(format!("{name:?} is no topic name"))
    } else {
        None
    }
}

/// One topic.
pub(super) fn topic(section: &Section<'_>, key: &str) -> Option<String> {
    let name = section.string(key)?;
    if let Some(why) = topic_problem(&name) {
        section.problem(key, why);
        return None;
    }
    Some(name)
}

/// A list of distinct topics, which may be empty.
pub(super) fn topics(section: &Section<'_>, key: &str) -> Option<Vec<String>> {
    distinct(section, key, |name| topic_problem(&name).map_or(Ok(name), Err))
}

/// A list of strings, each put through `check`, none twice. What `check` refuses is reported and left out.
pub(super) fn distinct(
    section: &Section<'_>,
    key: &str,
    check: impl Fn(String) -> Result<String, String>,
) -> Option<Vec<String>> {
    let items = section.list(key)?;
    let mut kept: Vec<String> = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let Some(text) = item.as_str() else {
            section.problem(&format!("{key}[{i}]"), "must be a string");
            continue;
        };
        match check(text.to_owned()) {
            Ok(text) if kept.contains(&text) => {
                section.problem(&format!("{key}[{i}]"), format!("{text:?} is named twice"));
            }
            Ok(text) => kept.push(text),
            Err(why) => section.problem(&format!("{key}[{i}]"), why),
        }
    }
    Some(kept)
}

/// Whether `text` is a token of RFC 9110, section 5.6.2: what header names, methods and cookie names are made of.
pub(super) fn is_token(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(legal)
}

/// `name` as a header name, lower-cased.
pub(super) fn header_name(name: &str) -> Result<String, String> {
    if name.starts_with(':') {
        return Err(format!(
            "{name:?} is a pseudo-header, which cannot be named; `host` can"
        ));
    }
    if is_token(name) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(format!("{name:?} is no header name"))
    }
}

/// A list of distinct header names, lower-cased.
pub(super) fn header_names(section: &Section<'_>, key: &str) -> Option<Vec<String>> {
    distinct(section, key, |name| header_name(&name))
}

/// The headers that carry credentials and leave only when named in `credential_headers`.
pub const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];

/// A list of distinct names among [`CREDENTIAL_HEADERS`], lower-cased.
pub(super) fn credential_headers(section: &Section<'_>, key: &str) -> Option<Vec<String>> {
    distinct(section, key, |name| {
        let name = name.to_ascii_lowercase();
        if CREDENTIAL_HEADERS.contains(&name.as_str()) {
            return Ok(name);
        }
        Err(format!(
            "must be one of {}, not {name:?}; other headers need no leave",
            CREDENTIAL_HEADERS.join(", ")
        ))
    })
}

/// `name` as a request method, upper-cased.
pub(super) fn method(name: &str) -> Result<String, String> {
    if is_token(name) {
        Ok(name.to_ascii_uppercase())
    } else {
        Err(format!("{name:?} is no request method"))
    }
}

/// A list of distinct request methods, upper-cased.
pub(super) fn methods(section: &Section<'_>, key: &str) -> Option<Vec<String>> {
    let methods = distinct(section, key, |name| method(&name))?;
    if section.list(key).is_some_and(<[_]>::is_empty) {
        section.problem(key, "must name at least one method");
    }
    Some(methods)
}

/// A list of media types, lower-cased: `type/subtype`, or `type/*+suffix` for every type with that suffix.
pub(super) fn media_types(section: &Section<'_>, key: &str) -> Option<Vec<String>> {
    distinct(section, key, |text| {
        let text = text.to_ascii_lowercase();
        let legal = |(kind, sub): (&str, &str)| {
            let sub = sub.strip_prefix("*+").unwrap_or(sub);
            is_token(kind) && is_token(sub) && !kind.contains('*') && !sub.contains('*')
        };
        if text.split_once('/').is_some_and(legal) {
            Ok(text)
        } else {
            Err(format!(
                "{text:?} is no media type; write application/problem+json, or application/*+json, without parameters"
            ))
        }
    })
}

/// The longest name of an Envoy cluster, in bytes. The shell puts the name into a serialised message that must
/// be UTF-8 throughout, so its length must fit one byte below 128 together with what is around it.
const MAX_ENVOY_CLUSTER_LEN: usize = 120;

/// The name of an Envoy cluster.
pub(super) fn envoy_cluster(section: &Section<'_>, key: &str) -> Option<String> {
    let name = section.name(key)?;
    if name.len() > MAX_ENVOY_CLUSTER_LEN {
        section.problem(
            key,
            format!(
                "must have at most {MAX_ENVOY_CLUSTER_LEN} bytes, not {}",
                name.len()
            ),
        );
        return None;
    }
    Some(name)
}

/// `name_mappings`: header names (lower-cased) to record header names, in the order written.
pub(super) fn name_mappings(section: &Section<'_>, key: &str) -> Option<Vec<(String, String)>> {
    let map = section.section(key)?;
    let mut pairs: Vec<(String, String)> = Vec::new();
    for written in map.keys() {
        let Some(to) = map.name(written) else { continue };
        match header_name(written) {
            Ok(from) if pairs.iter().any(|(known, _)| *known == from) => {
                map.problem(written, "is mapped twice");
            }
            Ok(from) => pairs.push((from, to)),
            Err(why) => map.problem(written, why),
        }
    }
    Some(pairs)
}

/// A mapping whose keys are request methods (upper-cased) and whose values are among `choices`.
pub(super) fn by_method<T: Copy>(
    section: &Section<'_>,
    key: &str,
    choices: &[(&str, T)],
) -> Option<Vec<(String, T)>> {
    let map = section.section(key)?;
    let mut pairs: Vec<(String, T)> = Vec::new();
    for written in map.keys() {
        let Some(choice) = map.choice(written, choices) else {
            continue;
        };
        match method(written) {
            Ok(name) if pairs.iter().any(|(known, _)| *known == name) => {
                map.problem(written, "is named twice")
            }
            Ok(name) => pairs.push((name, choice)),
            Err(why) => map.problem(written, why),
        }
    }
    Some(pairs)
}

/// The shortest and the longest window that the sidecar takes, in milliseconds: a second and 366 days.
const WINDOW_MS: std::ops::RangeInclusive<i64> = 1000..=366 * 24 * 3_600_000;

/// A field that is `none` or a mapping, which may be empty: `Some(None)` is `none`.
pub(super) fn idempotency(section: &Section<'_>, field: &str) -> Option<Option<Idempotency>> {
    if section.raw(field)?.as_str() == Some("none") {
        return Some(None);
    }
    let map = section.section(field)?;
    let header = map.name("header").map(|name| header_name(&name));
    let header = header.and_then(|name| name.map_err(|why| map.problem("header", why)).ok());
    let found = Idempotency {
        header: header.unwrap_or_else(|| sluice_proto::idempotency::HEADER.to_owned()),
        window: map.millis("window", WINDOW_MS),
        required: map.bool("required").unwrap_or(false),
    };
    map.finish();
    Some(Some(found))
}

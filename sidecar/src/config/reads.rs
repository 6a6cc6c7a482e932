//! `reads:`, the topics that may be read, and how.

mod entry;
mod groups;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_settings::Section;

use super::read::{Context, named_cluster};
use super::{Bearers, Choice, ChosenFrom, Cluster, Said, jwt, secret};
use crate::auth::jwt::Provider;
use crate::read::filter::Filter;

pub use self::entry::{Read, ReadTopics, Reset};
pub(super) use self::groups::check_ids;
pub use self::groups::{Qos, ReadGroups, Who, check_group};
pub use self::topics::topics_pattern;

const LIMIT: i64 = 500;
const MAX_WAIT: Duration = Duration::from_secs(5);
const MAX_BYTES: i64 = 1 << 20;
const VIEW_KEYS: i64 = 100_000;
const MAX_VIEW_KEYS: i64 = 10_000_000;
const VIEW_BYTES: i64 = 16 << 20;
const MAX_VIEW_BYTES: i64 = 4 << 30;

/// The most that a request may ask for, or an entry say.
pub const MAX_LIMIT: i64 = 10_000;
/// In milliseconds.
pub const MAX_MAX_WAIT: i64 = 300_000;
/// In bytes of keys, values and headers.
pub const MAX_MAX_BYTES: i64 = 16 << 20;

const RESETS: &[(&str, Reset)] = &[
    ("latest", Reset::Latest),
    ("earliest", Reset::Earliest),
    ("none", Reset::None),
];

pub(super) fn read(
    root: &Section<'_>,
    clusters: (&BTreeMap<String, Cluster>, Option<&str>),
    providers: &BTreeMap<String, Arc<Provider>>,
    writing_takes_tokens: bool,
    context: &Context<'_>,
) -> Vec<Read> {
    let is_set = |name: &str| root.raw("jwt").is_some_and(|jwt| jwt.get(name).is_some());
    let sections = root.sections("reads").unwrap_or_default();
    let entries = sections.into_iter();
    entries
        .filter_map(|section| {
            let jwt = section.section("jwt");
            let jwt = jwt.and_then(|section| jwt::bearers(section, providers, is_set));
            one(section, clusters, jwt, writing_takes_tokens, context)
        })
        .collect()
}

fn one(
    section: Section<'_>,
    known: (&BTreeMap<String, Cluster>, Option<&str>),
    jwt: Option<Bearers>,
    writing_takes_tokens: bool,
    context: &Context<'_>,
) -> Option<Read> {
    let cluster = named_cluster(&section, known);
    match &cluster {
        Some((name, Some(cluster))) if cluster.callers.is_some() => section.problem(
            "cluster",
            format!(
                "{name:?} is written with its callers' own tokens (`credentials: from_request`), and reading has none to \
                 show: name a cluster with credentials of its own"
            ),
        ),
        Some((name, Some(cluster))) if !cluster.consumes => context.warnings.report(
            section.path(),
            format!("reads nothing: clusters.{name}.consumer.enabled is false"),
        ),
        _ => {}
    }
    let topics = topics::topics(&section);
    let anonymous = section.bool("anonymous").unwrap_or_default();
    let (tokens, named_tokens) = secret::named_tokens(&section, context);
    who(&section, anonymous, topics.as_ref());
    let limit = section.integer("limit", 1..=MAX_LIMIT).unwrap_or(LIMIT);
    let max_wait = section.millis("max_wait", 0..=MAX_MAX_WAIT).unwrap_or(MAX_WAIT);
    let max_bytes = section
        .integer("max_bytes", 1024..=MAX_MAX_BYTES)
        .unwrap_or(MAX_BYTES);
    let chosen_reset = Choice::read(&section, "auto_offset_reset", |value| {
        reset(value)
            .map(drop)
            .ok_or_else(|| "is none of latest, earliest, none".to_owned())
    });
    let is_chosen = matches!(section.raw("auto_offset_reset"), Some(Value::Object(_)));
    let auto_offset_reset = if is_chosen {
        None
    } else {
        section.choice("auto_offset_reset", RESETS)
    };
    let from = from(&section);
    let remove_confluent_header = section.bool("remove_confluent_header").unwrap_or_default();
    let encode_message_id = section.bool("encodeMessageId").unwrap_or(true);
    let check_topic_existence = section.bool("check_topic_existence").unwrap_or(true);
    let publish = section.bool("publish").unwrap_or_default();
    if publish && anonymous && writing_takes_tokens {
        section.problem(
            "publish",
            "would let anybody write what `listeners.data.tokens` are asked for elsewhere, since `anonymous` is true: give \
             the entry tokens",
        );
    }
    if let Some((name, Some(cluster))) = &cluster
        && publish
        && !cluster.produces
    {
        section.problem(
            "publish",
            format!("cannot be: cluster {name:?} takes no records, its producer.enabled is false"),
        );
    }
    let allowed_origins = allowed_origins(&section);
    // One that is wrong is reported where it is.
    let written = section.raw("tokens").and_then(Value::as_array);
    let has_names = written.is_some_and(|tokens| tokens.iter().any(|token| token.get("name").is_some()));
    let groups = groups::read(&section, has_names);
    let filter = section.section("filter").and_then(filter);
    let key = key(&section);
    for (name, by) in [
        ("from", from.as_ref().map(|choice| &choice.from)),
        (
            "auto_offset_reset",
            chosen_reset.as_ref().map(|choice| &choice.from),
        ),
        ("group", groups.said.as_ref().map(Said::from)),
        ("key", key.as_ref().map(Said::from)),
    ] {
        if section.raw("jwt").is_none() && matches!(by, Some(ChosenFrom::Claim(_))) {
            section.problem(name, "names a claim, which only a token has: set `jwt`");
        }
    }
    let max_view_keys = section
        .integer("max_view_keys", 1..=MAX_VIEW_KEYS)
        .unwrap_or(VIEW_KEYS);
    let max_view_bytes = section
        .integer("max_view_bytes", 1024..=MAX_VIEW_BYTES)
        .unwrap_or(VIEW_BYTES);
    section.finish();
    Some(Read {
        cluster: cluster?.0,
        topics: topics?,
        anonymous,
        tokens,
        named_tokens,
        jwt,
        from,
        chosen_reset,
        remove_confluent_header,
        limit: usize::try_from(limit).unwrap_or_default(),
        max_wait,
        max_bytes: usize::try_from(max_bytes).unwrap_or_default(),
        auto_offset_reset: auto_offset_reset.unwrap_or(Reset::Latest),
        encode_message_id,
        check_topic_existence,
        publish,
        allowed_origins,
        groups,
        filter,
        key,
        max_view_keys: usize::try_from(max_view_keys).unwrap_or_default(),
        max_view_bytes: usize::try_from(max_view_bytes).unwrap_or_default(),
    })
}

/// `allowed_origins:`, as browsers write them (RFC 6454, section 6.2): scheme and host in lower case, and a port where it is
/// not the scheme's own.
fn allowed_origins(section: &Section<'_>) -> Vec<String> {
    let origins = section.strings("allowed_origins").unwrap_or_default();
    for (i, origin) in origins.iter().enumerate() {
        let host = ["http://", "https://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(scheme));
        let good = host.is_some_and(|host| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_graphic())
                && !host.contains(['/', '?', '#', '@', '*'])
                && !host.bytes().any(|byte| byte.is_ascii_uppercase())
        });
        if origin != "*" && !good {
            section.problem(
                &format!("allowed_origins[{i}]"),
                format!(
                    "{origin:?} is no origin as browsers send it, as https://app.example.com or http://localhost:8080, \
                     and not \"*\""
                ),
            );
        }
    }
    origins
}

/// What one of the words of `auto_offset_reset` means.
pub fn reset(word: &str) -> Option<Reset> {
    RESETS
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, reset)| *reset)
}

/// Reports what is wrong with who may read.
fn who(section: &Section<'_>, anonymous: bool, topics: Option<&ReadTopics>) {
    let is_set = |key: &str| section.raw(key).is_some();
    for key in ["tokens", "jwt"] {
        if anonymous && is_set(key) {
            let verb = if key == "jwt" { "is" } else { "are" };
            section.problem(key, format!("{verb} asked of nobody where `anonymous` is true"));
        }
    }
    let claims = match topics {
        Some(ReadTopics::Claimed(_)) => Some("topics"),
        Some(ReadTopics::Chosen(Choice {
            from: ChosenFrom::Claim(_),
            ..
        })) => Some("topic"),
        _ => None,
    };
    if let Some(key) = claims {
        if !is_set("jwt") {
            section.problem(key, "has a claim in it, which only a token has: set `jwt`");
        }
        if is_set("tokens") {
            section.problem("tokens", format!("have no claims, of which `{key}` has one"));
        }
    } else if !anonymous && !is_set("tokens") && !is_set("jwt") {
        section.problem(
            "tokens",
            "are required, as [{env: READ_TOKEN}], or `jwt`: requests that Envoy routes come from loopback, which says \
             nothing about who sends them; or set `anonymous: true`",
        );
    }
}

/// `from`: one that always counts, or one that the request chooses.
fn from(section: &Section<'_>) -> Option<Choice> {
    let check = |value: &str| crate::read::from::From::parse(value).map(drop);
    if let Some(Value::Object(_)) = section.raw("from") {
        return Choice::read(section, "from", check);
    }
    let fixed = section.string("from")?;
    if let Err(why) = check(&fixed) {
        section.problem("from", why);
    }
    // A query argument that chooses among one, and may be left out.
    Some(Choice {
        from: ChosenFrom::Query("from".to_owned()),
        allowed: vec![fixed.clone()],
        default: Some(fixed),
    })
}

/// `key`: the records that a request gets are those of the key that it says.
fn key(section: &Section<'_>) -> Option<Said> {
    let said = Said::read(section, "key", |_| Ok(()), |_| ())?;
    match &said {
        Said::Listed(Choice {
            from: ChosenFrom::Query(name),
            ..
        }) if name == "key" => section.problem(
            "key.query",
            "\"key\" is the argument by which readers filter by themselves: name another one",
        ),
        Said::Any(from @ (ChosenFrom::Header(_) | ChosenFrom::Query(_))) => section.problem(
            "key.allowed",
            format!("is required: what {from} says is anybody's word, and only a claim is an issuer's"),
        ),
        _ => {}
    }
    Some(said)
}

fn filter(section: Section<'_>) -> Option<Arc<Filter>> {
    let strings = |name| section.strings(name).unwrap_or_default();
    let programs = Vec::from_iter(section.name("jq"));
    let filter = Filter::parse(&strings("key"), &strings("header"), &strings("where"), &programs);
    let filter = filter.map_err(|(name, why)| section.problem(name, why)).ok();
    if section.keys().next().is_none() {
        section.problem("jq", "is required, or key, header or where");
    }
    section.finish();
    filter.map(Arc::new)
}

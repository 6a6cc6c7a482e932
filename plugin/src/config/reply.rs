//! `reply`: where a reply to the record comes, and how long a request waits for it.

use std::time::Duration;

use sluice_settings::Section;

use super::fields;
use super::layer::MAX_WAIT_MS;
use super::route::{Reply, Source};
use super::source;

/// Shorter than Envoy's `stream_idle_timeout` commonly is: a request that waits has no traffic.
const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(30);

const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// A field that is `none` or a mapping: `Some(None)` is `none`.
pub(super) fn reply(section: &Section<'_>, field: &str) -> Option<Option<Reply>> {
    if section.raw(field)?.as_str() == Some("none") {
        return Some(None);
    }
    let map = section.section(field)?;
    let topic = fields::topic(&map, "topic");
    if map.raw("topic").is_none() {
        map.problem("topic", "is required: where replies come, as orders.replies");
    }
    let max_wait = map
        .millis("max_wait", 1..=MAX_WAIT_MS)
        .unwrap_or(DEFAULT_MAX_WAIT);
    let wait = map.millis("wait", 0..=MAX_WAIT_MS);
    if let Some(wait) = wait.filter(|wait| *wait > max_wait) {
        map.problem(
            "wait",
            format!(
                "is {} ms, and max_wait is {} ms: no request could wait so long",
                wait.as_millis(),
                max_wait.as_millis()
            ),
        );
    }
    let correlation_id = correlation_id(&map);
    map.finish();
    Some(Some(Reply {
        topic: topic?,
        wait: wait.unwrap_or(DEFAULT_WAIT.min(max_wait)),
        max_wait,
        correlation_id,
    }))
}

fn correlation_id(map: &Section<'_>) -> Option<Source> {
    const FIELD: &str = "correlation_id";
    let key = source::key(map, FIELD)?;
    let Some(key) = key else {
        map.problem(
            FIELD,
            "must be a mapping, or left out: the sidecar makes one then",
        );
        return None;
    };
    if key.allowed.is_some() || key.default.is_some() {
        map.problem(FIELD, "takes neither `allowed` nor `default`");
    }
    Some(key.source)
}

//! The librdkafka properties that a subscription may set.

use crate::kafka::group::{ALLOWED_PROPERTIES, allowed_property};
use crate::kafka::properties::{canonical, check};

/// Why a subscription may not set `name` to `value`; none: it may.
pub fn refuse(name: &str, value: &str) -> Option<String> {
    match canonical(name) {
        "enable.auto.commit" | "auto.commit.interval.ms" | "enable.auto.offset.store" => {
            return Some(
                "Sluice commits by itself, what is finished and nothing else: leave it out".to_owned(),
            );
        }
        "bootstrap.servers" => return Some("belongs to the cluster".to_owned()),
        known if allowed_property(known) => {}
        _ => {
            return Some(format!(
                "may not be set by a subscription; these may: {}",
                ALLOWED_PROPERTIES.join(", ")
            ));
        }
    }
    if canonical(name) == "group.id" && (value.is_empty() || value.len() > 249) {
        return Some("must have 1 to 249 characters".to_owned());
    }
    check(name, value).err()
}

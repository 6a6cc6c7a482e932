//! The librdkafka properties that a subscription may set.

use crate::kafka::properties::{canonical, check};

/// How a consumer fetches, and is a member of its group. None of them names a file, a library, a command or a broker, none is a
/// secret, and none decides what is committed.
const ALLOWED: &[&str] = &[
    "auto.offset.reset",
    "check.crcs",
    "client.id",
    "client.rack",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "topic.metadata.refresh.interval.ms",
];

/// Why a subscription may not set `name` to `value`; none: it may.
pub fn refuse(name: &str, value: &str) -> Option<String> {
    match canonical(name) {
        "enable.auto.commit" | "auto.commit.interval.ms" | "enable.auto.offset.store" => {
            return Some(
                "Sluice commits by itself, what is finished and nothing else: leave it out".to_owned(),
            );
        }
        "bootstrap.servers" => return Some("belongs to the cluster".to_owned()),
        known if ALLOWED.contains(&known) => {}
        _ => {
            return Some(format!(
                "may not be set by a subscription; these may: {}",
                ALLOWED.join(", ")
            ));
        }
    }
    if canonical(name) == "group.id" && (value.is_empty() || value.len() > 249) {
        return Some("must have 1 to 249 characters".to_owned());
    }
    check(name, value).err()
}

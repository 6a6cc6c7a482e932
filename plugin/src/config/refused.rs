//! Kong's fields that the filter does not take, each with a word where it goes.

use sluice_settings::Section;

const CLUSTER: &str = "does not belong into the filter: where and how to connect is said in the sidecar's \
    `clusters:`, and `cluster_name` names one of them here";
const PROPERTIES: &str = "does not belong into the filter: brokers' security goes into the sidecar's \
    `clusters:`, as librdkafka's `properties`; no secret is ever in Envoy's configuration";
const SECURITY: &str = "does not belong into the filter: it goes, under the same name, to a cluster in the sidecar's \
    `clusters:`; no secret is ever in Envoy's configuration";
const PROFILE: &str = "does not belong into the filter: it is a setting of a profile in the sidecar's \
    `producers:`, and `producer` names one of them here";
const COMPRESSION: &str = "does not belong into the filter: it is `compression` of a profile in the sidecar's \
    `producers:`, and `producer` names one of them here";
const KEEPALIVE: &str = "does not exist: connections are always kept; `keepalive` of a profile in the sidecar's \
    `producers:` says how long an idle one is";
const LUA: &str =
    "does not exist: Sluice runs no Lua; `value`, `forward_*` and `headers` say what a record holds";
const REGISTRY: &str = "does not exist: Sluice has no schema registry; a record's value is never re-encoded";
const ERRORS: &str = "does not exist: an error answer always says what happened, in `error` and `code`";
const STREAM: &str = "belongs to the filter as a whole: set it at the top level of its configuration";

/// The fields of Kong 3.16's `kafka-upstream` (and of its siblings `confluent` and `kafka-log`) that are refused.
pub(super) const KONG: [(&str, &str); 25] = [
    ("bootstrap_servers", CLUSTER),
    ("security", SECURITY),
    ("authentication", SECURITY),
    ("cluster_api_key", PROPERTIES),
    ("cluster_api_secret", PROPERTIES),
    ("confluent_cloud_api_key", PROPERTIES),
    ("confluent_cloud_api_secret", PROPERTIES),
    ("oauthbearer", PROPERTIES),
    ("timeout", PROFILE),
    ("keepalive", PROFILE),
    ("keepalive_enabled", KEEPALIVE),
    ("compression_type", COMPRESSION),
    ("producer_request_acks", PROFILE),
    ("producer_request_timeout", PROFILE),
    ("producer_request_limits_messages_per_request", PROFILE),
    ("producer_request_limits_bytes_per_request", PROFILE),
    ("producer_request_retries_max_attempts", PROFILE),
    ("producer_request_retries_backoff_timeout", PROFILE),
    ("producer_async_flush_timeout", PROFILE),
    ("producer_async_buffering_limits_messages_in_memory", PROFILE),
    ("producer_async_buffering_limits_bytes_in_memory", PROFILE),
    ("message_by_lua_functions", LUA),
    ("custom_fields_by_lua", LUA),
    ("schema_registry", REGISTRY),
    ("error_handling", ERRORS),
];

/// Reports every field of `section` that goes elsewhere or does not exist.
pub(super) fn report(section: &Section<'_>) {
    for (field, word) in KONG {
        section.refuse(field, word);
    }
}

/// Reports the fields of the filter as a whole that a `routes:` entry or route metadata sets.
pub(super) fn report_filter_level(section: &Section<'_>) {
    for field in ["stream", "routes"] {
        section.refuse(field, STREAM);
    }
}

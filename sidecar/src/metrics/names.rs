//! The names and help texts of every metric of the sidecar, in one place. `docs/http-api.md` lists them.
//!
//! A counter's name is given without the `_total` that the exposition format appends.

/// A metric's name and its help text.
pub(super) type Name = (&'static str, &'static str);

/// Labels: `cluster`, `topic` (an entry of the topic allowlist, never a name out of a request), `outcome`.
pub(super) const RECORDS: Name = ("sluice_records", "Records by what became of them");
/// Labels: `cluster`, `topic`.
pub(super) const RECORD_BYTES: Name = (
    "sluice_record_bytes",
    "Bytes of keys, values and headers that were taken on",
);
/// Labels: `cluster`, `topic`.
pub(super) const PRODUCE_SECONDS: Name = (
    "sluice_produce_seconds",
    "From taking on a record to telling its outcome",
);
/// Labels: `cluster`, `topic`, `outcome`.
pub(super) const BUFFERED_LOST: Name = (
    "sluice_buffered_lost",
    "Records that were answered as accepted and were then not stored",
);
/// Labels: `cluster`, `topic`.
pub(super) const LEADER_LOST: Name = (
    "sluice_leader_lost",
    "Records that a partition's leader had acknowledged (acks=1) and its successor does not have",
);
/// Labels: `cluster`, `topic`, `outcome`.
pub(super) const LATE: Name = (
    "sluice_late_reports",
    "Outcomes of records whose deadline had passed before the broker answered",
);
/// Labels: `cluster`, `topic`, `reason`.
pub(super) const SHED: Name = (
    "sluice_shed_records",
    "Records refused for want of room, by what there was no room in",
);
/// Labels: `cluster`, `topic`.
pub(super) const TOPIC_WAITING: Name = (
    "sluice_topic_waiting_records",
    "Records of a topic whose fate is not known yet",
);
/// Labels: `cluster`, `topic`.
pub(super) const TOPIC_WAITING_BYTES: Name = (
    "sluice_topic_waiting_bytes",
    "Bytes of the records of a topic whose fate is not known yet, with 100 more for each",
);
/// Labels: `cluster`, `topic`.
pub(super) const TOPIC_LIMIT: Name = (
    "sluice_topic_queueing_limit_bytes",
    "Bytes of those that max_queueing_time allows; only while more are refused",
);
/// Labels: `cluster`, `topic`.
pub(super) const TOPIC_PACE: Name = (
    "sluice_topic_acknowledged_bytes_per_second",
    "At what rate records of a topic are acknowledged, in those bytes",
);
/// Label: `cluster`, `producer`.
pub(super) const OUTSTANDING: Name = (
    "sluice_outstanding_records",
    "Records taken on whose fate is not known yet",
);
/// Label: `cluster`, `producer`.
pub(super) const OUTSTANDING_BYTES: Name = (
    "sluice_outstanding_bytes",
    "Bytes of the records taken on whose fate is not known yet",
);
/// Label: `cluster`, `producer`.
pub(super) const HELD: Name = (
    "sluice_held_records",
    "Records that wait for their cluster or for word of their topic",
);
/// Label: `cluster`, `producer`.
pub(super) const UP: Name = (
    "sluice_cluster_up",
    "1 when the cluster answers, 0 when it does not",
);
/// Labels: `cluster`, `producer`, `reason`.
pub(super) const CONNECTION_FAILURES: Name = (
    "sluice_connection_failures",
    "Connections to brokers that failed, by what was wrong",
);
/// Label: `cluster`, `producer`.
pub(super) const REBUILDS: Name = (
    "sluice_producer_rebuilds",
    "Producers that were replaced after a fatal error",
);
/// Labels: `cluster`, `result`.
pub(super) const RELOADS: Name = (
    "sluice_cluster_reloads",
    "Changed files of a cluster, by what became of them",
);
/// Labels: `cluster`, `store`.
pub(super) const CERTIFICATE_EXPIRY: Name = (
    "sluice_certificate_expiry_timestamp_seconds",
    "When the certificates in use end, in seconds since 1970",
);
/// Label: `cluster`.
pub(super) const CALLERS: Name = (
    "sluice_callers",
    "Callers with tokens of their own that have producers",
);
/// No labels.
pub(super) const PRODUCERS: Name = ("sluice_producers", "Producers that exist");
/// No labels.
pub(super) const CONNECTIONS: Name = ("sluice_connections", "Connections that a listener has");
/// Label: `listener`.
pub(super) const TURNED_AWAY: Name = (
    "sluice_connections_refused",
    "Connections that were turned away, since the listener had `max_connections`",
);
pub(super) const STREAMS: Name = ("sluice_streams", "Produce streams that are open");
/// Label: `outcome`.
pub(super) const REFUSED: Name = (
    "sluice_refused_records",
    "Records refused before a producer saw them",
);
/// No labels.
pub(super) const UNFLUSHED: Name = (
    "sluice_unflushed_records",
    "Records that could not be flushed before the process ended",
);
/// No labels.
pub(super) const SPOOL_RECORDS: Name = (
    "sluice_spool_records",
    "Records on the sidecar's own disk that Kafka has not acknowledged",
);
/// No labels.
pub(super) const SPOOL_BYTES: Name = ("sluice_spool_bytes", "Bytes of those, as they are encoded");
/// No labels.
pub(super) const SPOOL_OLDEST: Name = (
    "sluice_spool_oldest_seconds",
    "How long ago the oldest of those was spooled",
);
/// No labels.
pub(super) const SPOOL_SYNC: Name = (
    "sluice_spool_sync_seconds",
    "How long the disk takes for what is written to the spool at once",
);
/// No labels.
pub(super) const SPOOL_DEAD_RECORDS: Name = ("sluice_spool_dead_records", "Dead letters in the spool");
/// No labels.
pub(super) const SPOOL_DEAD_BYTES: Name = (
    "sluice_spool_dead_bytes",
    "Bytes of the dead letters in the spool, as they are encoded",
);
/// Labels: `cluster`, `topic`, `code`.
pub(super) const SPOOL_DEAD: Name = ("sluice_spool_dead_letters", "Spooled records that were given up");
/// No labels.
pub(super) const SPOOL_FOLLOWING: Name = (
    "sluice_spool_following_records",
    "Records in memory that wait for those of their key to leave the spool",
);
/// Label: `outcome`.
pub(super) const SPOOL_LETTERS_SENT: Name = (
    "sluice_spool_dead_letters_sent",
    "Attempts to write a dead letter to its topic, by what became of them",
);
/// No labels.
pub(super) const SPOOL_PERHAPS_TWICE: Name = (
    "sluice_spool_perhaps_twice",
    "Attempts for spooled records after one whose outcome nobody knows",
);
/// No labels.
pub(super) const IDEMPOTENCY_KEYS: Name = (
    "sluice_idempotency_keys",
    "Idempotency keys that are held, on the sidecar's own disk",
);
/// No labels.
pub(super) const IDEMPOTENCY_WAITING: Name = (
    "sluice_idempotency_waiting",
    "Requests with an idempotency key that wait for the disk, for Kafka or for the first of their key",
);
/// No labels.
pub(super) const IDEMPOTENCY_REPLAYS: Name = (
    "sluice_idempotency_replays",
    "Requests that were answered as the first of their idempotency key was",
);
/// No labels.
pub(super) const IDEMPOTENCY_CONFLICTS: Name = (
    "sluice_idempotency_conflicts",
    "Requests whose idempotency key came before with another request",
);
/// No labels.
pub(super) const IDEMPOTENCY_UNKNOWN: Name = (
    "sluice_idempotency_unknown",
    "Repeats that were told that nobody knows what became of the first",
);
/// No labels.
pub(super) const IDEMPOTENCY_SYNC: Name = (
    "sluice_idempotency_sync_seconds",
    "How long the disk takes for what is written of idempotency keys at once",
);
/// No labels.
pub(super) const READ_RECORDS: Name = ("sluice_read_records", "Records that were given to readers");
/// No labels.
pub(super) const READ_BYTES: Name = (
    "sluice_read_bytes",
    "Bytes of keys, values and headers of the records that were given to readers",
);
/// No labels.
pub(super) const READ_FILTER_FAILURES: Name = (
    "sluice_read_filter_failures",
    "Records that readers' filters failed on, and that they did not get",
);
/// No labels.
pub(super) const READ_STREAMS: Name = ("sluice_read_streams", "Event streams that are open");
/// No labels.
pub(super) const READ_TAILS: Name = ("sluice_read_tails", "Partitions that are followed for readers");
pub(super) const READ_SOCKETS: Name = ("sluice_read_websockets", "WebSockets that are open");
pub(super) const READ_CLOSES: Name = (
    "sluice_read_websocket_closes",
    "WebSockets that ended, by the code that their clients were told, or told; 1006 where it was none",
);
/// No labels.
pub(super) const READ_MEMBERS: Name = (
    "sluice_read_members",
    "Members of consumer groups that readers have",
);
/// No labels.
pub(super) const READ_COMMITS: Name = (
    "sluice_read_commits",
    "Commits of readers' groups that Kafka took",
);
/// No labels.
pub(super) const READ_NOT_COMMITTED: Name = (
    "sluice_read_commits_failed",
    "Commits of readers' groups that Kafka did not take, or did not answer",
);
/// No labels.
pub(super) const READ_GROUPS_REFUSED: Name = (
    "sluice_read_groups_refused",
    "Requests that were refused for their group: it may not be used, or there are max_members",
);
/// Labels: `subscription`, `outcome`.
pub(super) const SUBSCRIPTION_EVENTS: Name = (
    "sluice_subscription_events",
    "Events of subscriptions by what became of them, attempts that failed included",
);
/// Label: `subscription`.
pub(super) const SUBSCRIPTION_SECONDS: Name = (
    "sluice_subscription_delivery_seconds",
    "How long requests to the handler took",
);
/// Label: `subscription`.
pub(super) const SUBSCRIPTION_IN_FLIGHT: Name = (
    "sluice_subscription_in_flight",
    "Requests that are with the handler",
);
/// Labels: `subscription`, `state`.
pub(super) const SUBSCRIPTION_HELD: Name = (
    "sluice_subscription_held_events",
    "Events that are held, by why, of the partitions that are here",
);
/// Label: `subscription`.
pub(super) const SUBSCRIPTION_LAG: Name = (
    "sluice_subscription_lag_records",
    "Offsets of the partitions that are here and are not finished",
);
/// Label: `subscription`.
pub(super) const SUBSCRIPTION_PARTITIONS: Name =
    ("sluice_subscription_partitions", "Partitions that are here");
/// Label: `subscription`.
pub(super) const SUBSCRIPTION_RESTARTS: Name = (
    "sluice_subscription_restarts",
    "How often a subscription failed and was started again",
);
/// Label: `subscription`.
pub(super) const SUBSCRIPTION_WRITE_FAILURES: Name = (
    "sluice_subscription_write_failures",
    "Writes of held events, dead letters and replies that failed and are tried again",
);
/// No labels.
pub(super) const SINK_DROPPED_HEADERS: Name = (
    "sluice_subscription_dropped_headers",
    "Record headers that were left out of requests to handlers",
);
/// Labels: `org`.
pub(super) const ACTION_RUNS: Name = (
    "sluice_action_runs",
    "Runs that were written to their organisation's topic",
);
/// Labels: `org`.
pub(super) const ACTION_CHANGES: Name = (
    "sluice_action_changes",
    "Changes of runs and entities that were written to their organisation's change log",
);
/// Labels: `org`.
pub(super) const ACTION_TIMEOUTS: Name = (
    "sluice_action_timeouts",
    "Runs that took too long, and were ended",
);
/// Labels: `org`.
pub(super) const ACTION_AUTOMATIONS: Name = ("sluice_action_automations", "Automations that were started");
/// Labels: `org`.
pub(super) const ACTION_AUTOMATION_FAILURES: Name = (
    "sluice_action_automation_failures",
    "Automations that were not started: a condition or payload fails, or they go in a circle",
);
/// No labels.
pub(super) const ACTION_TELL_FAILURES: Name = (
    "sluice_action_tell_failures",
    "Times that a run or a change could not be written to Kafka yet",
);
/// As `sluice_state_records`, of the topic that organisations' things are kept in.
pub(super) const ACTION_STATE_RECORDS: Name = (
    "sluice_action_state_records",
    "Records of the state's topic that were read, by what they came to",
);
/// As `sluice_state_rows`, of the topic that organisations' things are kept in.
pub(super) const ACTION_STATE_ROWS: Name = (
    "sluice_action_state_rows",
    "Subscriptions, clusters and deployments that the state has",
);
/// As `sluice_state_dead_records`, of the topic that organisations' things are kept in.
pub(super) const ACTION_STATE_DEAD: Name = (
    "sluice_action_state_dead_records",
    "Records of the state's topic that say nothing any more and are to be taken back",
);
/// As `sluice_state_lag_records`, of the topic that organisations' things are kept in.
pub(super) const ACTION_STATE_LAG: Name = (
    "sluice_action_state_lag_records",
    "Offsets of the state's topic that were not read yet when its end was last asked for",
);
/// As `sluice_state_caught_up_timestamp_seconds`, of the topic that organisations' things are kept in.
pub(super) const ACTION_STATE_CAUGHT_UP: Name = (
    "sluice_action_state_caught_up_timestamp_seconds",
    "A moment by which everything had been read that was in the state's topic, in seconds since 1970",
);
/// As `sluice_state_ready`, of the topic that organisations' things are kept in.
pub(super) const ACTION_STATE_READY: Name = (
    "sluice_action_state_ready",
    "1 when the state is known and followed, 0 when it is not",
);
/// Label: `outcome`.
pub(super) const STATE_RECORDS: Name = (
    "sluice_state_records",
    "Records of the state's topic that were read, by what they came to",
);
/// No labels.
pub(super) const STATE_ROWS: Name = (
    "sluice_state_rows",
    "Subscriptions, clusters and deployments that the state has",
);
/// No labels.
pub(super) const STATE_DEAD: Name = (
    "sluice_state_dead_records",
    "Records of the state's topic that say nothing any more and are to be taken back",
);
/// No labels.
pub(super) const STATE_LAG: Name = (
    "sluice_state_lag_records",
    "Offsets of the state's topic that were not read yet when its end was last asked for",
);
/// No labels.
pub(super) const STATE_CAUGHT_UP: Name = (
    "sluice_state_caught_up_timestamp_seconds",
    "A moment by which everything had been read that was in the state's topic, in seconds since 1970",
);
/// No labels.
pub(super) const STATE_READY: Name = (
    "sluice_state_ready",
    "1 when the state is known and followed, 0 when it is not",
);
/// No labels.
pub(super) const TEMPLATE_RENDERED: Name = (
    "sluice_template_rendered",
    "Records that were made by expressions",
);
/// Label: `cause`.
pub(super) const TEMPLATE_FAILED: Name = (
    "sluice_template_failed",
    "Records that could not be made by expressions, by why not",
);
/// No labels.
pub(super) const TEMPLATE_SECONDS: Name = (
    "sluice_template_seconds",
    "From a record's turn to its being made by expressions",
);
/// No labels.
pub(super) const TEMPLATE_WAITING: Name = (
    "sluice_template_waiting_bytes",
    "Bytes of records that wait for their expressions",
);
/// Labels: `secret`, `result`.
pub(super) const TEMPLATE_RELOADS: Name = (
    "sluice_template_secret_reloads",
    "Changed files of secrets, by what became of them",
);
/// No labels.
pub(super) const REPLY_WAITING: Name = (
    "sluice_reply_waiting",
    "Requests that wait for a reply to their record, those that poll included",
);
/// Labels: `cluster`, `topic` (of the replies), `outcome`.
pub(super) const REPLY_REQUESTS: Name = (
    "sluice_reply_requests",
    "Records that were written and that a reply was waited for, by what came of it",
);
/// Labels: `cluster`, `topic`.
pub(super) const REPLY_UNCLAIMED: Name = (
    "sluice_reply_unclaimed",
    "Records of a reply topic that nobody waited for at this sidecar: late ones, repeated ones, those of others",
);

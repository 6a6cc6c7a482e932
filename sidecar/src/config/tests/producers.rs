//! Producer profiles.

use super::*;

/// A profile that is written and says nothing is the one that is not written.
#[test]
fn an_empty_profile_is_the_default_one() {
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\nproducers: {other: {}}\n";
    let config = load(yaml, env(&[])).unwrap().config;
    let (other, default) = (&config.producers["other"], &config.producers["default"]);
    assert_eq!(other.properties, default.properties);
    assert_eq!(
        (other.acks, other.idempotent, other.max_records, other.max_bytes),
        (
            default.acks,
            default.idempotent,
            default.max_records,
            default.max_bytes
        )
    );
}

#[test]
fn every_setting_of_a_profile_is_heeded() {
    let Loaded { config, .. } = good("full.yaml", SECRETS);
    let bulk = &config.producers["bulk"];
    let expected = [
        ("acks", "-1"),
        ("batch.num.messages", "200"),
        ("batch.size", "1048576"),
        ("compression.type", "lz4"),
        ("connections.max.idle.ms", "60000"),
        ("enable.idempotence", "true"),
        ("linger.ms", "1000"),
        ("max.in.flight.requests.per.connection", "3"),
        ("message.timeout.ms", "20000"),
        ("request.timeout.ms", "2000"),
        ("retries", "10"),
        ("retry.backoff.max.ms", "150"),
        ("retry.backoff.ms", "150"),
        ("socket.timeout.ms", "9000"),
    ];
    let found: Vec<(&str, &str)> = bulk
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(bulk.max_records, 50_000);
    assert_eq!(bulk.max_bytes, 32 * 1024 * 1024);
    assert_eq!(bulk.max_queueing_time, Duration::from_millis(700));
    assert!(bulk.allow_auto_create_topics);
    assert_eq!(bulk.acks, Some(Acks::All));
    assert!(bulk.idempotent);
    let quick = &config.producers["quick"];
    assert_eq!(quick.acks, Some(Acks::Leader));
    assert!(!quick.idempotent);
    assert_eq!(property(&quick.properties, "acks"), Some("1"));
    assert_eq!(property(&quick.properties, "enable.idempotence"), Some("false"));
}

/// Each forbids idempotence by itself, and is no error as long as nobody asks for idempotence.
#[test]
fn idempotence_gives_way_with_a_warning() {
    let profiles = [
        ("{producer_request_acks: 1}", false, 1),
        ("{producer_request_acks: 0}", false, 1),
        ("{properties: {request.required.acks: 1}}", false, 1),
        ("{producer_request_retries_max_attempts: 0}", false, 1),
        (
            "{properties: {max.in.flight.requests.per.connection: 6}}",
            false,
            1,
        ),
        (
            "{properties: {queue.buffering.backpressure.threshold: 2}}",
            false,
            1,
        ),
        ("{properties: {queuing.strategy: lifo}}", false, 1),
        (
            "{producer_request_acks: 1, properties: {enable.idempotence: false}}",
            false,
            0,
        ),
        ("{properties: {enable.idempotence: false}}", false, 0),
        (
            "{properties: {enable.idempotence: true, max.in.flight: 5}}",
            true,
            0,
        ),
        ("{properties: {acks: all}}", true, 0),
    ];
    for (profile, idempotent, warnings) in profiles {
        let yaml = format!(
            "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\nproducers: {{p: {profile}}}"
        );
        let loaded =
            load(&yaml, env(&[])).unwrap_or_else(|problems| panic!("{profile}: {}", lines(&problems)));
        assert_eq!(loaded.config.producers["p"].idempotent, idempotent, "{profile}");
        assert_eq!(loaded.warnings.len(), warnings, "{profile}");
    }
}

#[test]
fn librdkafka_queue_bounds_are_the_profiles_bounds() {
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\n\
                producers: {p: {properties: {queue.buffering.max.messages: 7, queue.buffering.max.kbytes: 9}}}";
    let config = load(yaml, env(&[])).unwrap().config;
    let profile = &config.producers["p"];
    assert_eq!((profile.max_records, profile.max_bytes), (7, 9 * 1024));
    assert_eq!(
        property(&profile.properties, "queue.buffering.max.messages"),
        None
    );
}

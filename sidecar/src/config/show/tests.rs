//! What is shown of a configuration with as much in it as one has.

use super::*;
use crate::config::load;

#[test]
fn every_value_with_its_origin_and_no_secret() {
    let yaml = "clusters: {main: {bootstrap_servers: a, client_id: mine, allowed_topics: [t, u], security: {ssl: true}, \
                authentication: {mechanism: PLAIN, user: alice, password: hunter2}, \
                properties: {socket.timeout.ms: 7000}}}\n\
                producers: {bulk: {compression: lz4}}\n\
                listeners: {data: {tokens: [hunter2]}}\n\
                spool: {directory: /spool}\n\
                    templates: {max_waiting_bytes: 2048, named: {deploy: {payload: hunter2, template: {key: k}, trigger: {by: \
                    {user.id: {header: x-user}}, trust_request: true}}}}\n\
                    writes: [{topics: [a], template: deploy}]\n\
                secrets: {org: {value: hunter2, topics: [a, 'b.*']}}\n\
                egress: {allow: [{hosts: ['*.x.org', '[::1]'], schemes: [https], ports: [443]}, {cidrs: [10.0.0.0/8]}]}\n\
                reads: [{topics_pattern: 'a|b', tokens: [hunter2], limit: 7}, \
                {topics: ['{claims.org}.*', s], jwt: {provider: i, claims: {scope: [a, b]}}, from: earliest, \
                group: {claim: app, prefix: o.}, key: {claim: customer}}, \
                {topics: [t], anonymous: true, group: {header: h, allowed: [g]}, key: {query: q, allowed: [a, b], default: a}}]\n\
                jwt: {i: {issuer: x, audiences: [y], jwks: {url: 'https://keys/?key=hunter2'}}}";
    let env = [
        ("SLUICE__MAX_PRODUCERS", "3"),
        ("SLUICE__CLUSTERS__MAIN__CONSUMER__ENABLED", "false"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let loaded = load(yaml, env.into_iter()).unwrap();
    let text = show(&loaded.config, &loaded.origins);
    assert!(!text.contains("hunter2"), "{text}");
    for line in [
        "listeners.stream.path: /run/sluice/stream.sock (default)",
        "listeners.stream.mode: 0660 (default)",
        "listeners.data.address: 127.0.0.1:9071 (default)",
        "listeners.data.tokens: *** (the file)",
        "listeners.admin.tokens: none (default)",
        "clusters.main.bootstrap_servers: a:9092 (the file)",
        "clusters.main.producer.enabled: true (default)",
        "clusters.main.consumer.enabled: false (SLUICE__CLUSTERS__MAIN__CONSUMER__ENABLED)",
        "clusters.main.allowed_topics: t, u (the file)",
        "clusters.main.properties.client.id: mine (clusters.main.client_id, the file)",
        "clusters.main.properties.sasl.mechanism: PLAIN (clusters.main.authentication.mechanism, the file)",
        "clusters.main.properties.sasl.password: *** (clusters.main.authentication.password, the file)",
        "clusters.main.properties.security.protocol: SASL_SSL (clusters.main.security.ssl, the file)",
        "clusters.main.properties.socket.timeout.ms: 7000 (the file)",
        "default_cluster: main (default)",
        "producers.bulk.properties.compression.type: lz4 (producers.bulk.compression, the file)",
        "producers.bulk.properties.acks: -1 (default)",
        "producers.default.allow_auto_create_topics: false (default)",
        "producers.default.producer_async_buffering_limits_messages_in_memory: 100000 (default)",
        "producers.default.producer_async_buffering_limits_bytes_in_memory: 67108864 (default)",
        "max_producers: 3 (SLUICE__MAX_PRODUCERS)",
        "answer_timeout: 10s (default)",
        "max_request_bytes: 16777216 (default)",
        "grace_period: 20s (default)",
        "reload_interval: 5s (default)",
        "spool.directory: /spool (the file)",
        "spool.max_bytes: 1073741824 (default)",
        "dev_broker: none (default)",
        "reads[0].cluster: main (default)",
        "reads[0].topics_pattern: a|b (the file)",
        "reads[0].anonymous: false (default)",
        "reads[0].tokens: *** (the file)",
        "reads[0].limit: 7 (the file)",
        "reads[0].max_wait: 5s (default)",
        "reads[0].auto_offset_reset: latest (default)",
        "reads[0].publish: false (default)",
        "reads[0].allowed_origins: none (default)",
        "reads[0].remove_confluent_header: false (default)",
        "reads[1].topics: s, {claims.org}.* (the file)",
        "reads[1].jwt.provider: i (the file)",
        "reads[1].jwt.claims: scope says a and b (the file)",
        "reads[1].from: by query argument from among earliest, or else earliest (the file)",
        "reads[1].groups: o.* (default)",
        "reads[1].group.claim: app (the file)",
        "reads[1].group.prefix: o. (the file)",
        "reads[1].key.claim: customer (the file)",
        "reads[2].group: by header h among g (the file)",
        "reads[2].key: by query argument q among a, b, or else a (the file)",
        "jwt.i.issuer: x (the file)",
        "jwt.i.audiences: y (the file)",
        "jwt.i.jwks.url: on keys (the file)",
        "jwt.i.jwks.truststore: the system's (default)",
        "jwt.i.algorithms: RS256, ES256 (default)",
        "jwt.i.clock_skew: 1m (default)",
        "jwt.i.name_claim: sub (default)",
        "reads[0].qos: auto (default)",
        "templates.timeout: 250ms (default)",
        "templates.max_output_bytes: 1048576 (default)",
        "templates.max_waiting_bytes: 2048 (the file)",
        "templates.named.deploy: payload, key (the file)",
        "templates.named.deploy.trigger.by: user.id: header x-user (the file)",
        "writes[0].topics: a (the file)",
        "writes[0].template: deploy (the file)",
        "secrets.org.value: *** (the file)",
        "secrets.org.topics: a, b.* (the file)",
        "max_readers: 4 (default)",
        "max_members: 16 (default)",
        "subscriptions: none (default)",
        "held.topic: __sluice_held (default)",
        "state: none (default)",
        "egress.allow: https://*.x.org:443, https://[::1]:443, *://*:* within 10.0.0.0/8 (the file)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_the_platform_told_is_named() {
    let env = [("KAFKA_BOOTSTRAP_SERVERS".to_owned(), "a:1".to_owned())];
    let loaded = load("", env.into_iter()).unwrap();
    let text = show(&loaded.config, &loaded.origins);
    let line = "clusters.kafka.bootstrap_servers: a:1 (KAFKA_BOOTSTRAP_SERVERS)\n";
    assert!(text.contains(line), "{text}");
}

use crate::config::{load, show};

fn yaml(rest: &str) -> String {
    format!(
        "clusters: {{main: {{bootstrap_servers: 'localhost:1'}}, other: {{bootstrap_servers: 'localhost:2'}}}}\n\
         default_cluster: main\njwt: {{corp: {{issuer: x, audiences: [y], jwks: {{url: 'https://keys/'}}}}}}\n{rest}\n"
    )
}

fn problems(rest: &str) -> Vec<String> {
    let loaded = load(&yaml(rest), std::iter::empty());
    let problems = loaded.err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_field_takes_effect() {
    let loaded = load(
        &yaml(
            "actions: {cluster: other, topic: kept, replication_factor: 3, min_insync_replicas: 2}\n\
             orgs: {acme: {cluster: other, runs_topic: r, change_log_topic: c, partitions: 2, replication_factor: 3, \
             secret: hunter2, secrets: {key: hunter2}, access: [{tokens: [hunter2], name: ann, email: a@b, first_name: Ann, \
             last_name: Lee, may: [invoke, see], actions: ['deploy*']}, {jwt: {provider: corp, claims: {groups: ops}}, may: \
             [approve, report, manage, credentials]}], clients: {agent: {secret: hunter2hunter2hunter2, may: [report], \
             actions: [deploy]}}, token_lifetime: 1m, kafka_credentials: {brokers: ['k:1'], username: u, password: hunter2}, \
             run_timeout: 2m, retention: 3h, actions: [{identifier: deploy, trigger: {type: self-service, operation: CREATE}, \
             invocationMethod: {type: KAFKA}}]}}",
        ),
        std::iter::empty(),
    )
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    let text = show(&loaded.config, &loaded.origins);
    for line in [
        "actions.cluster: other (the file)",
        "actions.topic: kept (the file)",
        "actions.replication_factor: 3 (the file)",
        "actions.min_insync_replicas: 2 (the file)",
        "orgs.acme.cluster: other (the file)",
        "orgs.acme.runs_topic: r (the file)",
        "orgs.acme.change_log_topic: c (the file)",
        "orgs.acme.partitions: 2 (the file)",
        "orgs.acme.replication_factor: 3 (the file)",
        "orgs.acme.secret: *** (the file)",
        "orgs.acme.secrets.key: *** (the file)",
        "orgs.acme.access[0].name: ann (the file)",
        "orgs.acme.access[0].email: a@b (the file)",
        "orgs.acme.access[0].first_name: Ann (the file)",
        "orgs.acme.access[0].last_name: Lee (the file)",
        "orgs.acme.access[0].may: invoke, see (the file)",
        "orgs.acme.access[0].actions: deploy* (the file)",
        "orgs.acme.access[1].jwt.provider: corp (the file)",
        "orgs.acme.access[1].jwt.claims: groups says ops (the file)",
        "orgs.acme.access[1].may: approve, report, manage, credentials (the file)",
        "orgs.acme.access[1].actions: * (default)",
        "orgs.acme.clients.agent.may: report (the file)",
        "orgs.acme.clients.agent.actions: deploy (the file)",
        "orgs.acme.token_lifetime: 1m (the file)",
        "orgs.acme.kafka_credentials.brokers: k:1 (the file)",
        "orgs.acme.kafka_credentials.username: u (the file)",
        "orgs.acme.run_timeout: 2m (the file)",
        "orgs.acme.retention: 3h (the file)",
        "orgs.acme.actions: deploy (the file)",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let loaded = load(
        &yaml("orgs: {acme: {clients: {a: {secret: 0123456789abcdef, may: [see]}}}}"),
        std::iter::empty(),
    );
    let settings = loaded
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .config
        .actions
        .unwrap();
    assert_eq!(
        (settings.cluster.as_str(), settings.log.topic.as_str()),
        ("main", "__sluice_actions")
    );
    let org = &settings.orgs["acme"];
    assert_eq!(
        (org.runs_topic.as_str(), org.change_log_topic.as_str()),
        ("acme.runs", "acme.change.log")
    );
}

#[test]
fn what_cannot_be_meant_is_said_with_its_place() {
    let access = "access: [{tokens: [t], name: n, may: [see]}]";
    for (rest, told) in [
        ("actions: {topic: t}", "actions: means nothing without `orgs`"),
        ("orgs: {'a/b': {ACCESS}}", "orgs.a/b: a name is"),
        ("orgs: {a: {}}", "orgs.a.access: is required"),
        (
            "orgs: {a: {cluster: x, ACCESS}}",
            "orgs.a.cluster: no cluster is named \"x\"",
        ),
        (
            "orgs: {a: {runs_topic: 'a b', ACCESS}}",
            "orgs.a.runs_topic: \"a b\" is no topic's name",
        ),
        (
            "orgs: {a: {runs_topic: t, change_log_topic: t, ACCESS}}",
            "topic \"t\" is a's too, or twice its own",
        ),
        (
            "orgs: {a: {runs_topic: t, ACCESS}, b: {runs_topic: t, access: [{tokens: [u], name: n, may: [see]}]}}",
            "topic \"t\" is a's too",
        ),
        ("orgs: {a: {ACCESS}, b: {ACCESS}}", "one of its tokens is a's too"),
        (
            "orgs: {a: {clients: {c: {secret: 0123456789abcdef, may: [see]}}}, b: {clients: {c: {secret: 0123456789abcdef, may: [see]}}}}",
            "client \"c\" is a's too",
        ),
        (
            "orgs: {a: {clients: {c: {secret: short, may: [see]}}}}",
            "orgs.a.clients.c.secret: must have 16 bytes",
        ),
        (
            "orgs: {a: {clients: {c: {may: [see]}}}}",
            "orgs.a.clients.c.secret: is required",
        ),
        (
            "orgs: {a: {access: [{tokens: [t], name: n, may: [fly]}]}}",
            "orgs.a.access[0].may[0]: \"fly\" is none of invoke",
        ),
        (
            "orgs: {a: {access: [{tokens: [t], name: n}]}}",
            "orgs.a.access[0].may: is required",
        ),
        (
            "orgs: {a: {access: [{tokens: [t], may: [see]}]}}",
            "orgs.a.access[0].name: is required",
        ),
        (
            "orgs: {a: {access: [{may: [see]}]}}",
            "orgs.a.access[0].tokens: are required, or `jwt`",
        ),
        (
            "orgs: {a: {access: [{tokens: [t], name: n, jwt: {provider: corp}, may: [see]}]}}",
            "orgs.a.access[0].jwt: is set beside",
        ),
        (
            "orgs: {a: {access: [{jwt: {provider: corp}, name: n, may: [see]}]}}",
            "orgs.a.access[0].name: means nothing",
        ),
        (
            "orgs: {a: {access: [{jwt: {provider: none}, may: [see]}]}}",
            "orgs.a.access[0].jwt.provider: no provider",
        ),
        (
            "orgs: {a: {kafka_credentials: {}, ACCESS}}",
            "orgs.a.kafka_credentials.brokers: are required",
        ),
        (
            "orgs: {a: {actions: [{identifier: x}], ACCESS}}",
            "orgs.a.actions[0]: is no action: missing field",
        ),
        ("orgs: {a: {colour: red, ACCESS}}", "orgs.a.colour: unknown field"),
    ] {
        let all = problems(&rest.replace("ACCESS", access));
        assert!(all.iter().any(|one| one.contains(told)), "{rest}: {all:?}");
    }
}

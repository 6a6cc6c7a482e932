//! The admin API of the control plane, with librdkafka's mock cluster to keep state in.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/http.rs"]
mod http;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::{Method, Request};
use serde_json::{Value, json};
use sluice::config::{Address, Cluster, Config, Secret, State, TopicAllowlist};
use sluice::control::{Control, api};
use sluice::kafka::log::Settings;
use sluice::metrics::StateMetrics;
use sluice::subscriptions::running::{Order, Refused, Status, Told};
use sluice::subscriptions::sink::egress::Egress;
use sluice_settings::{Problems, Section};
use tower::ServiceExt;

use crate::http::Answer;
use crate::support::{Mock, PATIENCE, Sidecar};

/// With state on the mock, and an egress list that has one name and loopback.
fn config(mock: &Mock) -> Config {
    let mut config = support::config(&mock.bootstrap_servers());
    // The mock wakes nobody who waits for a record.
    support::cluster(&mut config)
        .properties
        .insert("fetch.wait.max.ms".to_owned(), Secret::new("10"));
    config.state = Some(State {
        cluster: "main".to_owned(),
        log: Settings {
            topic: "state".to_owned(),
            replication_factor: None,
            min_insync_replicas: None,
        },
    });
    let problems = Problems::default();
    let tree = json!({"allow": [{"hosts": ["hooks.example.com"]}, {"hosts": ["127.0.0.1"], "cidrs": ["127.0.0.0/8"]}]});
    config.egress = Arc::new(Egress::read(Section::root(&tree, &problems)));
    assert_eq!(problems.into_vec(), []);
    config
}

fn mock() -> Mock {
    support::mock(&[("state", 1), ("orders", 2), ("clicks", 3), ("other", 2)])
}

async fn call(
    sidecar: &Sidecar,
    method: Method,
    path: &str,
    body: Option<Value>,
    headers: &[(&str, &str)],
) -> Answer {
    let url = format!("http://{}{path}", sidecar.addresses.admin);
    http::call(method, &url, headers, body).await
}

async fn get(sidecar: &Sidecar, path: &str) -> Answer {
    call(sidecar, Method::GET, path, None, &[]).await
}

async fn post(sidecar: &Sidecar, path: &str, body: Value) -> Answer {
    call(sidecar, Method::POST, path, Some(body), &[]).await
}

async fn ready(sidecar: &Sidecar) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let told = get(sidecar, "/subscriptions").await.json();
        if told["state"] == "ready" {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{told}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn start(mock: &Mock) -> Sidecar {
    let sidecar = Sidecar::start(config(mock)).await;
    ready(&sidecar).await;
    sidecar
}

fn expect(answer: &Answer, status: u16, code: &str, words: &str) {
    let body = answer.json();
    let error = body["error"].as_str().unwrap_or_default();
    assert!(
        answer.status == status && body["code"] == code && error.contains(words),
        "not {status} {code} {words:?}: {} {body}",
        answer.status
    );
}

fn hook() -> Value {
    json!({
        "source": "kafka://main/orders",
        "sink": "https://hooks.example.com/in?token=s3cr3t",
        "options": {"auto.offset.reset": "earliest", "concurrency": 4},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_made_changed_paused_and_deleted_and_another_sidecar_knows() {
    let mock = mock();
    let (one, two) = (start(&mock).await, start(&mock).await);
    let made = post(&one, "/subscriptions", hook()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let body = made.json();
    let id = body["id"].as_str().unwrap().to_owned();
    let path = format!("/subscriptions/{id}");
    assert_eq!(made.header("location"), Some(path.as_str()));
    assert_eq!(made.header("etag"), Some("\"1\""));
    assert_eq!(body["sink"], "https://hooks.example.com/in?***");
    assert_eq!((&body["read_only"], &body["version"]), (&json!(false), &json!(1)));

    // The other one has it, at once.
    let there = get(&two, &path).await;
    assert_eq!(
        (there.status.as_u16(), &there.json()["source"]),
        (200, &json!("kafka://main/orders"))
    );
    let query = "?source=kafka://main/orders&sink=https%3A%2F%2Fhooks.example.com%2Fin%3Ftoken%3Ds3cr3t";
    let found = get(&one, &format!("/subscriptions{query}")).await.json();
    assert_eq!(found["subscriptions"][0]["id"], id.as_str());
    assert_eq!(
        get(&one, "/subscriptions?sink=other").await.json()["subscriptions"],
        json!([])
    );

    // A merge patch, and who comes too late.
    let patch = json!({"options": {"concurrency": 8, "auto.offset.reset": null}});
    let stale = call(
        &two,
        Method::PATCH,
        &path,
        Some(patch.clone()),
        &[("if-match", "\"7\"")],
    )
    .await;
    expect(&stale, 412, "precondition_failed", "version 1");
    let patched = call(&two, Method::PATCH, &path, Some(patch), &[("if-match", "\"1\"")]).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(patched.json()["options"], json!({"concurrency": 8}));
    let wrong = json!({"source": "kafka://main/a b", "options": {"concurrency": "many"}, "sinc": 1});
    let refused = call(&two, Method::PATCH, &path, Some(wrong), &[]).await;
    expect(&refused, 422, "invalid", "sinc");

    for (what, paused) in [
        ("pause", json!(true)),
        ("pause", json!(true)),
        ("resume", Value::Null),
    ] {
        let told = call(&two, Method::POST, &format!("{path}/{what}"), None, &[]).await;
        assert_eq!(told.status, 200, "{told:?}");
        assert_eq!(told.json()["options"]["paused"], paused);
    }
    let odd = call(&two, Method::DELETE, &format!("{path}?held=some"), None, &[]).await;
    expect(&odd, 400, "invalid_request", "keep or remove");
    let held = format!("/held/{id}");
    let there = call(&two, Method::DELETE, &held, None, &[]).await;
    expect(&there, 409, "conflict", "is there");
    let deleted = call(&two, Method::DELETE, &path, None, &[]).await;
    assert_eq!(deleted.status, 202, "{deleted:?}");
    expect(&get(&two, &path).await, 404, "not_found", &id);
    expect(
        &call(&two, Method::DELETE, &path, None, &[]).await,
        404,
        "not_found",
        &id,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_every_problem() {
    let mock = mock();
    let sidecar = start(&mock).await;
    let refused = post(&sidecar, "/subscriptions", json!({"sink": 7, "extra": 1})).await;
    expect(&refused, 422, "invalid", "source: is required");
    let paths: Vec<Value> = refused.json()["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].clone())
        .collect();
    assert_eq!(paths, ["source", "sink", "extra"]);
    let wrong = json!({
        "source": "kafka://nowhere/orders",
        "sink": "http://169.254.169.254/latest/meta-data",
        "options": {"concurrency": 0, "bootstrap.servers": "evil:9092", "plugin.library.paths": "x", "secret": {"file": "/etc/passwd"}},
    });
    let refused = post(&sidecar, "/subscriptions", wrong).await;
    for words in [
        "nowhere",
        "concurrency",
        "bootstrap.servers",
        "plugin.library.paths",
        "options.secret.file",
    ] {
        expect(&refused, 422, "invalid", words);
    }
    for (sink, words) in [
        ("http://169.254.169.254/latest", "169.254.169.254"),
        ("http://[::1]:9070/", "loopback"),
        ("https://elsewhere.example.com/", "egress.allow"),
        ("https://user:hunter2@hooks.example.com/", "password"),
    ] {
        let refused = post(
            &sidecar,
            "/subscriptions",
            json!({"source": "kafka://main/orders", "sink": sink}),
        )
        .await;
        expect(&refused, 422, "invalid", words);
        assert!(!refused.json().to_string().contains("hunter2"));
    }
    let redacted = json!({"source": "kafka://main/orders", "sink": "https://hooks.example.com/in?***"});
    expect(
        &post(&sidecar, "/subscriptions", redacted).await,
        422,
        "invalid",
        "how a secret is shown",
    );

    let url = format!("http://{}/subscriptions", sidecar.addresses.admin);
    let form = http::post(
        &url,
        &[("content-type", "application/x-www-form-urlencoded")],
        hook().to_string(),
    )
    .await;
    expect(&form, 400, "invalid_request", "content-type");
    let torn = http::post(
        &url,
        &[("content-type", "application/json")],
        "{\"source\": s3cr3t",
    )
    .await;
    expect(&torn, 400, "invalid_request", "line 1");
    assert!(!torn.json().to_string().contains("s3cr3t"));
    let long = http::post(
        &url,
        &[("content-type", "application/json")],
        "x".repeat((1 << 20) + 1),
    )
    .await;
    expect(&long, 413, "too_large", "1048576");
    expect(
        &get(&sidecar, "/subscriptions?sauce=1").await,
        400,
        "invalid_request",
        "sauce",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_one_that_the_cluster_allows() {
    let mock = mock();
    let mut config = config(&mock);
    let rule = ["ORG_ID.*", "deploy-bot"].map(str::to_owned);
    support::cluster(&mut config).groups = Some(TopicAllowlist(rule.to_vec()));
    let sidecar = Sidecar::start(config).await;
    ready(&sidecar).await;
    let with = |options: Value| {
        let mut subscription = hook();
        subscription["options"] = options;
        subscription
    };
    let rule = "clusters.main.consumer.groups allows: ORG_ID.*, deploy-bot";
    // Without one it is the subscription's id.
    for options in [
        json!({}),
        json!({"group.id": "OTHER.app"}),
        json!({"group.id": "deploy-bots"}),
    ] {
        let refused = post(&sidecar, "/subscriptions", with(options)).await;
        expect(&refused, 422, "invalid", rule);
        assert_eq!(refused.json()["problems"][0]["path"], "options.group.id");
    }
    for group in ["ORG_ID.app", "deploy-bot"] {
        let made = post(&sidecar, "/subscriptions", with(json!({"group.id": group}))).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let patch = json!({"options": {"group.id": "OTHER.app"}});
        let path = format!("/subscriptions/{id}");
        let refused = call(&sidecar, Method::PATCH, &path, Some(patch), &[]).await;
        expect(&refused, 422, "invalid", rule);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_kept_and_its_secrets_are_not_shown() {
    let mock = mock();
    let (one, two) = (start(&mock).await, start(&mock).await);
    let properties = json!({
        "metadata.broker.list": mock.bootstrap_servers(), "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
        "sasl.username": "me", "sasl.password": "hunter2",
    });
    let made = post(
        &one,
        "/kafka-clusters",
        json!({"name": "mine", "properties": properties}),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("location"), Some("/kafka-clusters/mine"));
    assert_eq!(made.json()["properties"]["sasl.password"], "***");
    expect(
        &post(
            &two,
            "/kafka-clusters",
            json!({"name": "mine", "properties": properties}),
        )
        .await,
        409,
        "conflict",
        "mine",
    );
    expect(
        &post(
            &two,
            "/kafka-clusters",
            json!({"name": "main", "properties": properties}),
        )
        .await,
        409,
        "conflict",
        "configuration",
    );
    for sidecar in [&one, &two] {
        for path in [
            "/kafka-clusters",
            "/kafka-clusters/mine",
            "/kafka-clusters/mine?include_subscriptions=true",
        ] {
            let shown = get(sidecar, path).await;
            assert_eq!(shown.status, 200);
            let text = shown.json().to_string();
            assert!(text.contains("mine") && !text.contains("hunter2"), "{text}");
        }
    }
    let wrong =
        json!({"name": "a_b", "properties": {"ssl.ca.location": "/etc/passwd", "sasl.password": "***"}});
    let refused = post(&one, "/kafka-clusters", wrong).await;
    for words in [
        "name: ",
        "ssl.ca.pem",
        "how a secret is shown",
        "bootstrap.servers",
    ] {
        expect(&refused, 422, "invalid", words);
    }

    let made = post(
        &one,
        "/subscriptions",
        json!({"source": "kafka://mine/orders", "sink": "http://127.0.0.1:1/"}),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let shown = get(&two, "/kafka-clusters/mine?include_subscriptions=true")
        .await
        .json();
    assert_eq!(shown["subscriptions"], json!([id]));
    expect(
        &call(&two, Method::DELETE, "/kafka-clusters/mine", None, &[]).await,
        409,
        "conflict",
        &id,
    );
    let patch = json!({"properties": {"bootstrap.servers": mock.bootstrap_servers()}});
    let patched = call(&two, Method::PATCH, "/kafka-clusters/mine", Some(patch), &[]).await;
    assert_eq!(
        (
            patched.status.as_u16(),
            patched.json()["properties"].as_object().unwrap().len()
        ),
        (200, 1)
    );
    let forced = call(&two, Method::DELETE, "/kafka-clusters/mine?force=true", None, &[]).await;
    assert_eq!(forced.status, 202, "{forced:?}");
    let invalid = get(&two, &format!("/subscriptions/{id}")).await.json();
    assert_eq!(invalid["state"], "invalid");
    assert!(
        invalid["problems"][0]
            .as_str()
            .unwrap()
            .contains("no cluster is named"),
        "{invalid}"
    );
    expect(
        &call(&two, Method::DELETE, "/kafka-clusters/main", None, &[]).await,
        403,
        "read_only",
        "configuration",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_registered_and_what_calls_them_is_not_broken() {
    let mock = mock();
    let sidecar = start(&mock).await;
    let manifest = |object: &str| {
        json!({"services": [
            {"name": "Greeter", "ty": "SERVICE", "handlers": [{"name": "greet"}]},
            {"name": "Counter", "ty": object, "handlers": [{"name": "run"}]},
        ]})
    };
    let register = |manifest: Value, more: Value| {
        let mut body = json!({"uri": "http://127.0.0.1:9/", "manifest": manifest});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let made = post(
        &sidecar,
        "/deployments",
        register(manifest("WORKFLOW"), json!({})),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["uri"], "http://127.0.0.1:9");
    let again = post(
        &sidecar,
        "/deployments",
        register(manifest("WORKFLOW"), json!({})),
    )
    .await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &json!(id)));
    let service = get(&sidecar, "/services/Counter").await.json();
    assert_eq!(
        (&service["ty"], &service["deployment_id"]),
        (&json!("WORKFLOW"), &json!(id))
    );
    assert_eq!(
        get(&sidecar, "/services").await.json()["services"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    expect(&get(&sidecar, "/services/None").await, 404, "not_found", "None");

    let keyed = |source: &str| json!({"source": source, "sink": "service://Counter/run"});
    let made = post(&sidecar, "/subscriptions", keyed("kafka://main/orders")).await;
    assert_eq!(made.status, 201, "{made:?}");
    expect(
        &post(&sidecar, "/subscriptions", keyed("kafka://main/clicks")).await,
        422,
        "invalid",
        "orders has 2 partitions",
    );
    expect(
        &post(&sidecar, "/subscriptions", keyed("kafka://main/~o.*")).await,
        422,
        "invalid",
        "pattern",
    );
    assert_eq!(
        post(&sidecar, "/subscriptions", keyed("kafka://main/other"))
            .await
            .status,
        201
    );

    let other = manifest("SERVICE");
    expect(
        &post(&sidecar, "/deployments", register(other.clone(), json!({}))).await,
        409,
        "conflict",
        "force",
    );
    let broken = post(
        &sidecar,
        "/deployments",
        register(other.clone(), json!({"force": true})),
    )
    .await;
    expect(&broken, 409, "conflict", "breaking");
    let forced = post(
        &sidecar,
        "/deployments",
        register(other, json!({"force": true, "breaking": true})),
    )
    .await;
    assert_eq!(
        (forced.status.as_u16(), &forced.json()["revision"]),
        (200, &json!(2))
    );
    let path = format!("/deployments/{id}");
    expect(
        &call(&sidecar, Method::DELETE, &path, None, &[]).await,
        409,
        "conflict",
        "force=true",
    );
    assert_eq!(
        call(&sidecar, Method::DELETE, &format!("{path}?force=true"), None, &[])
            .await
            .status,
        202
    );
    assert_eq!(get(&sidecar, "/services").await.json()["services"], json!([]));
    let refused = post(&sidecar, "/deployments", json!({"uri": "http://10.0.0.1:9080"})).await;
    expect(&refused, 422, "invalid", "10.0.0.1");
    // Nobody is there.
    let refused = post(&sidecar, "/deployments", json!({"uri": "http://127.0.0.1:1"})).await;
    expect(&refused, 502, "bad_deployment", "127.0.0.1:1/discover");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_state_or_kafka_it_is_said_what_is_missing() {
    let mock = mock();
    let mut none = config(&mock);
    none.state = None;
    let sidecar = Sidecar::start(none).await;
    assert_eq!(
        get(&sidecar, "/subscriptions").await.json(),
        json!({"subscriptions": [], "state": "none"})
    );
    expect(
        &post(&sidecar, "/subscriptions", hook()).await,
        503,
        "no_state",
        "state: {cluster",
    );
    expect(
        &get(&sidecar, "/subscriptions/sub_1").await,
        404,
        "not_found",
        "sub_1",
    );

    let mut away = config(&mock);
    support::cluster(&mut away).bootstrap_servers = vec!["127.0.0.1:1".to_owned()];
    let sidecar = Sidecar::start(away).await;
    let refused = post(
        &sidecar,
        "/kafka-clusters",
        json!({"name": "a", "properties": {"bootstrap.servers": "a:1"}}),
    )
    .await;
    expect(&refused, 503, "unavailable", "");
    assert_eq!(refused.header("retry-after"), Some("1"));

    // Whoever can reach a listener that asks for nothing may look.
    let mut open = config(&mock);
    open.listeners.admin.address = Address::Tcp(([192, 0, 2, 1], 9070).into());
    let router = api::router(Control::new(&open, StateMetrics::default()), Arc::new(Nobody));
    let request = |method: Method, body: Value| {
        let builder = Request::builder()
            .method(method)
            .uri("/subscriptions")
            .header("content-type", "application/json");
        builder.body(axum::body::Body::from(body.to_string())).unwrap()
    };
    let refused = router
        .clone()
        .oneshot(request(Method::POST, hook()))
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    let shown = router
        .clone()
        .oneshot(request(Method::GET, Value::Null))
        .await
        .unwrap();
    assert_eq!(shown.status(), 200);
    open.listeners.admin.tokens = vec![Secret::new("token")];
    let router = api::router(Control::new(&open, StateMetrics::default()), Arc::new(Nobody));
    let taken = router
        .clone()
        .oneshot(request(Method::POST, hook()))
        .await
        .unwrap();
    assert_eq!(taken.status(), 503, "the state is not read yet");
    let held = Request::get("/held").body(axum::body::Body::empty()).unwrap();
    let held = router.oneshot(held).await.unwrap().into_body();
    let held: Value = serde_json::from_slice(&held.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(
        held,
        json!({"held": [{"cluster": "main", "subscription": "gone", "events": 3, "known": false}]})
    );
}

/// No subscription runs here.
struct Nobody;

impl api::Runner for Nobody {
    fn status(&self, _: &str) -> Option<Status> {
        None
    }

    fn carry_out<'a>(&'a self, id: &'a str, _: Order) -> BoxFuture<'a, Result<Told, Refused>> {
        Box::pin(std::future::ready(Err(Refused::Unknown(id.to_owned()))))
    }

    fn held<'a>(
        &'a self,
        _: &'a str,
        _: &'a Arc<Cluster>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, usize>, String>> {
        Box::pin(std::future::ready(Ok(BTreeMap::from([("gone".to_owned(), 3)]))))
    }

    fn forget_held<'a>(
        &'a self,
        _: &'a str,
        _: &'a Arc<Cluster>,
        id: &'a str,
    ) -> BoxFuture<'a, Result<usize, String>> {
        Box::pin(std::future::ready(Ok(if id == "gone" { 3 } else { 0 })))
    }
}

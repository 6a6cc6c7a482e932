//! Tokens that an issuer signs: who may read what by them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use serde_json::{Value, json};

use crate::support::{Mock, Sidecar, mock};
use crate::world::{Events, get, put, reading_as, values, write};
use crate::ws_world::{Socket, refused};

/// An issuer: a key, and the file that publishes it.
struct Issuer {
    key: PKey<Private>,
    jwks: tempfile::NamedTempFile,
}

impl Issuer {
    fn new() -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.raw_public_key().unwrap());
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
        let jwks = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(jwks.path(), set.to_string()).unwrap();
        Self { key, jwks }
    }

    /// Its lines of the configuration.
    fn yaml(&self) -> String {
        format!(
            "jwt: {{corporate: {{issuer: 'https://issuer', audiences: [sluice], algorithms: [EdDSA], clock_skew: 0, \
             jwks: {{file: '{}'}}}}}}\n",
            self.jwks.path().display()
        )
    }

    /// A header's value with a token that says this besides, and ends after `seconds`.
    fn bearer(&self, claims: &Value, seconds: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({"iss": "https://issuer", "aud": "sluice", "sub": "alice", "exp": now + seconds});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let header = json!({"alg": "EdDSA", "kid": "k"}).to_string();
        let message = [header, all.to_string()]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let mut signer = Signer::new_without_digest(&self.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
        format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn world(topics: &[(&str, i32)], reads: &str) -> (Mock, Issuer, Sidecar) {
    let mock = mock(topics);
    let issuer = Issuer::new();
    let sidecar = reading_as(&mock, &format!("{}reads: {reads}", issuer.yaml())).await;
    (mock, issuer, sidecar)
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_choose_what_may_be_read() {
    let topics = [
        ("acme.a", 1),
        ("acme.b", 1),
        ("globex.a", 1),
        ("shared", 1),
        ("audit", 1),
    ];
    let reads = "[{topics: ['{claims.org}.*', shared], jwt: {provider: corporate}}, \
                 {topics: [audit], jwt: {provider: corporate, claims: {scope: [read, audit], realm.roles: auditor}}}, \
                 {topics: [audit], tokens: [hunter2]}]";
    let (_mock, issuer, sidecar) = world(&topics, reads).await;
    let status = async |path: &str, bearer: &str| {
        let answer = get(&sidecar, path, &[("authorization", bearer)]).await;
        let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
        (answer.status.as_u16(), challenge, answer.json())
    };
    let acme = issuer.bearer(&json!({"org": "acme"}), 300);
    assert_eq!(status("/topics/acme.a/records", &acme).await.0, 200);
    assert_eq!(status("/topics/shared/records", &acme).await.0, 200);
    let (_, _, listed) = status("/topics", &acme).await;
    assert_eq!(
        listed,
        json!({"topics": [{"topic": "acme.a"}, {"topic": "acme.b"}, {"topic": "shared"}]})
    );
    for path in [
        "/topics/globex.a/records",
        "/topics/audit/records",
        "/records?topics=acme.a,globex.a",
    ] {
        let (code, challenge, body) = status(path, &acme).await;
        assert_eq!(
            (code, &body["code"]),
            (403, &json!("topic_not_allowed")),
            "{path}"
        );
        assert!(
            challenge.starts_with("Bearer error=\"insufficient_scope\""),
            "{challenge}"
        );
        assert!(
            body["error"].as_str().unwrap().contains("lets alice read"),
            "{body}"
        );
    }
    // What would widen a pattern opens nothing but what needs no claim.
    for org in [
        json!("*"),
        json!("acme.a"),
        json!(""),
        json!(["*", "."]),
        Value::Null,
    ] {
        let bearer = issuer.bearer(&json!({ "org": org }), 300);
        assert_eq!(status("/topics/acme.a/records", &bearer).await.0, 403, "{org}");
        assert_eq!(status("/topics/globex.a/records", &bearer).await.0, 403, "{org}");
        assert_eq!(status("/topics/shared/records", &bearer).await.0, 200, "{org}");
    }
    let both = issuer.bearer(&json!({"org": ["acme", "globex"]}), 300);
    assert_eq!(status("/records?topics=acme.a,globex.a", &both).await.0, 200);
    // Every claim that is asked for is needed.
    let roles = json!({"roles": ["auditor"]});
    for (claims, expected) in [
        (json!({"scope": "read audit", "realm": roles}), 200),
        (json!({"scope": "read", "realm": roles}), 403),
        (json!({"scope": "read audit"}), 403),
        (json!({"scope": "read auditor", "realm": roles}), 403),
    ] {
        let bearer = issuer.bearer(&claims, 300);
        assert_eq!(
            status("/topics/audit/records", &bearer).await.0,
            expected,
            "{claims}"
        );
    }
    assert_eq!(status("/topics/audit/records", "Bearer hunter2").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_the_group_and_the_key_that_its_token_says() {
    let reads = "[{topics: [t], jwt: {provider: corporate}, tokens: [hunter2], group: {claim: app, prefix: org.}, \
                 key: {claim: customer}, from: earliest, max_wait: 0}, \
                 {topics: [narrow], jwt: {provider: corporate}, group: {claim: app}, groups: ['org.*'], max_wait: 0}]";
    let (mock, issuer, sidecar) = world(&[("t", 1), ("narrow", 1)], reads).await;
    let records = [("acme", "1"), ("globex", "2"), ("acme", "3")];
    put(
        &mock,
        "t",
        0,
        &records.map(|(key, value)| (Some(key), Some(value))),
    )
    .await;
    let ask = async |path: &str, bearer: &str| {
        let answer = get(&sidecar, path, &[("authorization", bearer)]).await;
        (answer.status.as_u16(), answer.json())
    };
    let acme = issuer.bearer(&json!({"app": "a", "customer": "acme"}), 300);
    let globex = issuer.bearer(&json!({"app": "g", "customer": "globex"}), 300);
    for (bearer, group, expected) in [(&acme, "org.a", json!([1, 3])), (&globex, "org.g", json!([2]))] {
        let (status, page) = ask("/topics/t/records?qos=at-most-once&max_wait=60s", bearer).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        let found = Value::from_iter(items.iter().map(|item| item["value"].clone()));
        assert_eq!(found, expected, "{page}");
        let (_, described) = ask("/topics/t", bearer).await;
        assert_eq!(
            (&described["group"], &described["partitions"][0]["committed"]),
            (&json!(group), &json!(3)),
            "{described}"
        );
        // Its own name is no other, and nobody may name another one, by what it may send besides the token.
        assert_eq!(ask(&format!("/topics/t?group={group}"), bearer).await.0, 200);
        for other in ["org.a", "org.g", "org.other", "other", "*", "org.*"] {
            if other == group {
                continue;
            }
            for path in ["/topics/t", "/topics/t/records", "/topics/t/stream"] {
                let (status, body) = ask(&format!("{path}?group={other}"), bearer).await;
                assert_eq!(
                    (status, &body["code"]),
                    (403, &json!("group_not_allowed")),
                    "{path} {other}"
                );
            }
        }
    }
    let (status, _) = ask("/topics/t/partitions/0/records/1", &acme).await;
    assert_eq!(status, 404);
    // A token that says no group has none, and gets none by naming it; one that says no key gets no record.
    let bare = issuer.bearer(&json!({"customer": "acme"}), 300);
    let (status, described) = ask("/topics/t", &bare).await;
    assert_eq!((status, &described["group"]), (200, &Value::Null));
    assert_eq!(ask("/topics/t/records?group=org.a", &bare).await.0, 403);
    let keyless = issuer.bearer(&json!({"app": "a"}), 300);
    for bearer in [&*keyless, "Bearer hunter2"] {
        let (status, body) = ask("/topics/t/records", bearer).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("invalid_request")),
            "{body}"
        );
        assert_eq!(ask("/topics/t/partitions/0/records/0", bearer).await.0, 400);
    }
    // `groups` bounds what a token may say.
    let inside = issuer.bearer(&json!({"app": "org.x"}), 300);
    let outside = issuer.bearer(&json!({"app": "x"}), 300);
    let odd = issuer.bearer(&json!({"app": "org.\n"}), 300);
    for (bearer, expected) in [(&inside, 200), (&outside, 403), (&odd, 400)] {
        assert_eq!(ask("/topics/narrow", bearer).await.0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_use_the_groups_of_its_organisation_and_the_one_of_its_name() {
    let reads = "[{topics: [t], jwt: {provider: corporate}, groups: ['{claims.org}.*', '{name}', shared], \
                 group: {header: x-app, prefix: '{claims.org}.'}, from: earliest, max_wait: 0}, \
                 {topics: [made], jwt: {provider: corporate}, group: {header: x-app, prefix: '{claims.org}.'}, max_wait: 0}]";
    let (_mock, issuer, sidecar) = world(&[("t", 1), ("made", 1)], reads).await;
    let ask = async |path: &str, bearer: &str, app: Option<&str>| {
        let mut headers = vec![("authorization", bearer)];
        headers.extend(app.map(|app| ("x-app", app)));
        let answer = get(&sidecar, path, &headers).await;
        (answer.status.as_u16(), answer.json())
    };
    let acme = issuer.bearer(&json!({"org": "acme"}), 300);
    let bare = issuer.bearer(&json!({}), 300);
    let odd = issuer.bearer(&json!({"org": "*", "sub": "*"}), 300);
    for (bearer, group, expected) in [
        (&acme, "acme.app", 200),
        (&acme, "alice", 200),
        (&acme, "shared", 200),
        (&acme, "acme", 403),
        (&acme, "acme2.app", 403),
        (&acme, "globex.app", 403),
        (&acme, "alice2", 403),
        (&acme, "bob", 403),
        (&bare, "alice", 200),
        (&bare, "acme.app", 403),
        (&bare, ".app", 403),
        (&odd, "acme.app", 403),
        (&odd, "bob", 403),
        (&odd, "shared", 200),
    ] {
        for path in ["/topics/t", "/topics/t/records"] {
            let (status, body) = ask(&format!("{path}?group={group}"), bearer, None).await;
            assert_eq!(status, expected, "{path} {group}: {body}");
            if status == 403 {
                assert_eq!(body["code"], "group_not_allowed");
                let why = body["error"].as_str().unwrap();
                assert!(
                    why.ends_with("its groups are shared, {claims.org}.*, {name}"),
                    "{why}"
                );
            }
        }
    }
    for topic in ["/topics/t", "/topics/made"] {
        let (status, described) = ask(topic, &acme, Some("app")).await;
        assert_eq!(
            (status, &described["group"]),
            (200, &json!("acme.app")),
            "{described}"
        );
        let (status, body) = ask(topic, &bare, Some("app")).await;
        assert_eq!(
            (status, &body["code"]),
            (403, &json!("group_not_allowed")),
            "{body}"
        );
        let why = body["error"].as_str().unwrap();
        assert!(
            why.contains("begin with {claims.org}., which is not in its token"),
            "{why}"
        );
    }
    assert_eq!(ask("/topics/made?group=globex.app", &acme, None).await.0, 403);
    assert_eq!(ask("/topics/made?group=acme.app", &acme, None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_is_said_why() {
    let (_mock, issuer, sidecar) = world(&[("t", 1)], "[{topics: [t], jwt: {provider: corporate}}]").await;
    let stranger = Issuer::new().bearer(&json!({}), 300);
    for (bearer, what) in [
        (issuer.bearer(&json!({"aud": "other"}), 300), "for somebody else"),
        (
            issuer.bearer(&json!({"nbf": 9_999_999_999_u64}), 300),
            "not good yet",
        ),
        (issuer.bearer(&json!({"exp": 1}), 300), "expired"),
        (stranger, "signature is wrong"),
        (issuer.bearer(&json!({"iss": "other"}), 300), "none that is known"),
        ("Bearer hunter2".to_owned(), "none that is known"),
    ] {
        for path in ["/topics/t/records", "/topics/t/stream", "/topics", "/topics/t"] {
            let answer = get(&sidecar, path, &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, 401, "{what}");
            let body = answer.json();
            assert_eq!(body["code"], "not_authenticated");
            assert!(body["error"].as_str().unwrap().contains(what), "{body}");
            let challenge = answer.header("www-authenticate").unwrap();
            let start = "Bearer error=\"invalid_token\", error_description=\"";
            assert!(
                challenge.starts_with(start) && challenge.contains(what),
                "{challenge}"
            );
        }
    }
    let answer = get(&sidecar, "/topics/t/records", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    std::fs::remove_file(issuer.jwks.path()).unwrap();
    let unknown = reading_as(
        &mock(&[("t", 1)]),
        "jwt: {corporate: {issuer: 'https://issuer', audiences: [sluice], algorithms: [EdDSA], jwks: {url: \
         'http://127.0.0.1:1/keys'}}}\nreads: [{topics: [t], jwt: {provider: corporate}}]",
    )
    .await;
    let good = issuer.bearer(&json!({}), 300);
    let answer = get(&unknown, "/topics/t/records", &[("authorization", &good)]).await;
    let body = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &body["code"]),
        (503, &json!("unavailable")),
        "{body}"
    );
    assert!(
        body["error"].as_str().unwrap().contains("jwt.corporate"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_ends_with_its_token() {
    let (mock, issuer, sidecar) = world(&[("t", 1)], "[{topics: [t], jwt: {provider: corporate}}]").await;
    write(&mock, "t", 0, &["first"]).await;
    let bearer = issuer.bearer(&json!({}), 4);
    let headers = [("authorization", bearer.as_str())];
    let mut events = Events::open(&sidecar, "/topics/t/stream?from=earliest", &headers).await;
    assert_eq!(events.values(1).await, ["first"]);
    events.event("caught-up").await;
    let ended = events.event("error").await.json();
    assert_eq!(ended["code"], "not_authenticated");
    assert!(ended["error"].as_str().unwrap().contains("expired"), "{ended}");
    assert_eq!(events.next().await, None);
    let bearer = issuer.bearer(&json!({}), 2);
    let started = std::time::Instant::now();
    let answer = get(
        &sidecar,
        "/topics/t/records?max_wait=25s",
        &[("authorization", &bearer)],
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(values(&answer.json()), [""; 0]);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_its_token_and_writes_what_its_claims_open() {
    let reads = "[{topics: ['{claims.org}.*'], jwt: {provider: corporate}, publish: true}]";
    let (mock, issuer, sidecar) = world(&[("acme.a", 1), ("other.a", 1)], reads).await;
    write(&mock, "acme.a", 0, &["first"]).await;
    let bearer = issuer.bearer(&json!({"org": "acme"}), 6);
    // Browsers have no other header for it.
    let offered = format!("sluice.v1, bearer.{}", bearer.trim_start_matches("Bearer "));
    let headers = [("sec-websocket-protocol", offered.as_str())];
    let mut socket = Socket::open(&sidecar, "/topics/acme.a/ws?from=earliest", &headers).await;
    assert_eq!(socket.values(1).await, ["first"]);
    socket.of("caught-up").await;
    socket
        .say(r#"{"type":"publish","id":1,"value":"x","topic":"other.a"}"#)
        .await;
    assert_eq!(socket.of("error").await["code"], "topic_not_allowed");
    socket.say(r#"{"type":"pause","id":2}"#).await;
    socket.of("ok").await;
    let ended = socket.until("error").await;
    assert_eq!(
        (&ended["status"], &ended["code"]),
        (&json!(401), &json!("not_authenticated"))
    );
    assert!(ended["error"].as_str().unwrap().contains("expired"), "{ended}");
    assert_eq!(socket.closed().await, (1008, "not_authenticated".to_owned()));
    let (status, body) = refused(&sidecar, "/topics/other.a/ws", &headers).await;
    assert!(status == 401 || status == 403, "{body}");
}

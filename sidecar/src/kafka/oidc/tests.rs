//! Against an issuer of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "s:e&c ret";

/// An issuer that answers like that; its address.
async fn issuer<F, R>(answer: F) -> String
where
    F: Fn(HeaderMap, String) -> R + Clone + Send + Sync + 'static,
    R: IntoResponse,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handle = move |headers: HeaderMap, body: String| {
        let response = answer(headers, body).into_response();
        async move { response }
    };
    let app = Router::new().route("/token", post(handle));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/token")
}

fn settings(endpoint: &str) -> Settings {
    Settings {
        endpoint: endpoint.parse().unwrap(),
        client_id: "me".to_owned(),
        client_secret: Secret::new(SECRET),
        scopes: Vec::new(),
        trust: Trust {
            verify: true,
            authorities: None,
        },
    }
}

async fn get(issuer: &Arc<Issuer>, now: SystemTime, refused: bool) -> Result<Shown, String> {
    let issuer = Arc::clone(issuer);
    let got = tokio::task::spawn_blocking(move || issuer.get(now, refused));
    got.await.unwrap()
}

async fn failure(endpoint: &str) -> String {
    let issuer = Arc::new(Issuer::new(settings(endpoint)));
    let why = get(&issuer, SystemTime::now(), false).await.unwrap_err();
    assert!(!why.contains(SECRET), "{why}");
    why
}

fn jwt(seconds: u64, now: SystemTime) -> String {
    let ends = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + seconds;
    let claims = json!({"sub": "alice", "exp": ends}).to_string();
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_once_and_again_after_half_its_time_or_when_it_is_refused() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let now = SystemTime::now();
    let endpoint = issuer(move |headers, body| {
        counter.fetch_add(1, Ordering::Relaxed);
        let login = format!("Basic {}", STANDARD.encode("me:s%3Ae%26c+ret"));
        assert_eq!(headers["authorization"], login);
        assert_eq!(body, "grant_type=client_credentials&scope=read+write");
        axum::Json(json!({"access_token": jwt(100, now), "token_type": "Bearer", "expires_in": 1000}))
    })
    .await;
    let mut settings = settings(&endpoint);
    settings.scopes = vec!["read".to_owned(), "write".to_owned()];
    let issuer = Arc::new(Issuer::new(settings));
    let after = |seconds| now + Duration::from_secs(seconds);
    for (seconds, refused, count) in [
        (0, false, 1),
        (5, true, 1),
        (49, false, 1),
        (51, false, 2),
        (55, true, 2),
        (70, true, 3),
    ] {
        let shown = get(&issuer, after(seconds), refused).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), count, "{seconds}");
        assert_eq!(shown.principal, "alice");
        // The token's own end counts, since the brokers look at nothing else.
        let ends = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 100;
        assert_eq!(shown.until_ms, i64::try_from(ends * 1000).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_no_jwt_is_good_for_as_long_as_the_issuer_says() {
    let endpoint = issuer(|_, _| axum::Json(json!({"access_token": "opaque", "expires_in": 60}))).await;
    let now = SystemTime::now();
    let shown = get(&Arc::new(Issuer::new(settings(&endpoint))), now, false)
        .await
        .unwrap();
    let ends = now.duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(60);
    assert_eq!(shown.until_ms, i64::try_from(ends.as_millis()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_remembered_for_a_moment() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let endpoint = issuer(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        StatusCode::INTERNAL_SERVER_ERROR
    })
    .await;
    let issuer = Arc::new(Issuer::new(settings(&endpoint)));
    for _ in 0..5 {
        let why = get(&issuer, SystemTime::now(), false).await.unwrap_err();
        assert!(why.ends_with("it answers 500"), "{why}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    tokio::time::sleep(PAUSE).await;
    get(&issuer, SystemTime::now(), false).await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_has_its_words() {
    type Answer = fn() -> Response;
    let rows: [(Answer, &str); 9] = [
        (
            || (StatusCode::UNAUTHORIZED, r#"{"error": "invalid_client"}"#).into_response(),
            "it answers 401, invalid_client",
        ),
        (
            || {
                (
                    StatusCode::BAD_REQUEST,
                    r#"{"error": "invalid_scope", "error_description": "no\nsuch"}"#,
                )
                    .into_response()
            },
            "it answers 400, invalid_scope: no such",
        ),
        (
            || (StatusCode::BAD_REQUEST, format!(r#"{{"error": "{SECRET}"}}"#)).into_response(),
            "repeats the client's secret",
        ),
        (
            || (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response(),
            "a redirection, which is not followed",
        ),
        (|| "<html>".into_response(), "is not JSON"),
        (|| "{}".into_response(), "without an `access_token`"),
        (|| r#"{"access_token": "two words"}"#.into_response(), "RFC 6750"),
        (
            || r#"{"access_token": "x", "expires_in": 0}"#.into_response(),
            "has expired already",
        ),
        (
            || Body::from(vec![b' '; 300_000]).into_response(),
            "more than 262144 bytes",
        ),
    ];
    for (answer, words) in rows {
        let why = failure(&issuer(move |_, _| answer()).await).await;
        assert!(
            why.starts_with("token endpoint 127.0.0.1:") && why.contains(words),
            "{why}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_told_apart_too() {
    let why = failure("http://127.0.0.1:1/").await;
    assert!(why.contains("cannot connect"), "{why}");
    let why = failure("http://no-such-host.invalid/").await;
    assert!(why.contains("the name cannot be resolved"), "{why}");
    // Speaks no TLS.
    let plain = issuer(|_, _| "").await.replace("http:", "https:");
    let why = failure(&plain).await;
    assert!(why.contains("the TLS handshake failed"), "{why}");
    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let why = failure(&format!("http://{}/", silent.local_addr().unwrap())).await;
    assert!(why.contains("no answer within 5 s"), "{why}");
}

/// Serves one TLS connection after another, with a certificate of its own for 127.0.0.1; its address, and the certificate.
fn encrypted() -> (String, String) {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::ssl::{SslAcceptor, SslMethod};
    use openssl::x509::X509;
    use openssl::x509::extension::SubjectAlternativeName;
    use std::io::{Read, Write};
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(2).unwrap())
        .unwrap();
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut stream) = acceptor.accept(stream) else {
                continue;
            };
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).is_ok() {
                let body = r#"{"access_token": "x", "expires_in": 60}"#;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    let pem = String::from_utf8(certificate.to_pem().unwrap()).unwrap();
    (format!("https://{address}/token"), pem)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_issuers_certificate_is_verified_unless_told_otherwise() {
    let (endpoint, pem) = encrypted();
    let with = |endpoint: &str, verify, authorities| {
        let settings = Settings {
            trust: Trust { verify, authorities },
            ..settings(endpoint)
        };
        Arc::new(Issuer::new(settings))
    };
    let now = SystemTime::now();
    get(&with(&endpoint, true, Some(pem.clone())), now, false)
        .await
        .unwrap();
    get(&with(&endpoint, false, None), now, false).await.unwrap();
    let why = get(&with(&endpoint, true, None), now, false).await.unwrap_err();
    assert!(
        why.contains("its certificate is not accepted: self-signed"),
        "{why}"
    );
    let elsewhere = endpoint.replace("127.0.0.1", "localhost");
    let why = get(&with(&elsewhere, true, Some(pem)), now, false)
        .await
        .unwrap_err();
    assert!(
        why.contains("its certificate is not accepted: hostname mismatch"),
        "{why}"
    );
}

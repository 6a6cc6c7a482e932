use std::time::Duration;

use axum::Json;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::world::*;
use crate::subscriptions::event::Deliver;

#[tokio::test]
async fn a_password_or_a_token_is_shown() {
    let server = takes_all().await;
    let basic = json!({"authentication": {"basic": {"username": "me", "password": "p:w é"}}});
    assert_eq!(
        webhook(&server.url("/"), &basic).deliver(&[valued("1")]).await,
        DONE
    );
    assert_eq!(
        server.last().header("authorization"),
        format!("Basic {}", STANDARD.encode("me:p:w é"))
    );
    let bearer = json!({"authentication": {"bearer": {"token": "abc"}}});
    assert_eq!(
        webhook(&server.url("/"), &bearer).deliver(&[valued("1")]).await,
        DONE
    );
    assert_eq!(server.last().header("authorization"), "Bearer abc");
}

#[tokio::test]
async fn a_token_is_fetched_once_kept_and_fetched_anew_when_it_is_refused() {
    let issuer =
        serve(|_, before| Json(json!({"access_token": format!("t{before}"), "expires_in": 600}))).await;
    // The first token is taken back after three calls.
    let target = serve(|sent, before| {
        let refused = before >= 3 && sent.header("authorization") == "Bearer t0";
        answer(if refused { 401 } else { 200 }, "")
    })
    .await;
    let tree = json!({"authentication": {"oauth2": {
        "token_endpoint_url": issuer.url("/token"), "client_id": "me", "client_secret": "s3cret", "scopes": ["a", "b"],
    }}});
    let webhook = webhook(&target.url("/"), &tree);
    for _ in 0..3 {
        assert_eq!(webhook.deliver(&[valued("1")]).await, DONE);
    }
    let asked = issuer.all();
    assert_eq!(asked.len(), 1, "the token is kept");
    assert_eq!(asked[0].text(), "grant_type=client_credentials&scope=a+b");
    assert_eq!(
        asked[0].header("authorization"),
        format!("Basic {}", STANDARD.encode("me:s3cret"))
    );
    assert_eq!(target.last().header("authorization"), "Bearer t0");
    // One that was fetched a moment ago would not be replaced.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(webhook.deliver(&[valued("1")]).await, DONE);
    assert_eq!((issuer.all().len(), target.all().len()), (2, 5));
    assert_eq!(target.last().header("authorization"), "Bearer t1");
}

#[tokio::test]
async fn a_target_that_takes_no_token_is_not_asked_for_ever() {
    let issuer =
        serve(|_, before| Json(json!({"access_token": format!("t{before}"), "expires_in": 600}))).await;
    let target = serve(|sent, _| answer(401, sent.header("authorization").to_owned())).await;
    let tree = json!({"authentication": {"oauth2": {
        "token_endpoint_url": issuer.url("/token"), "client_id": "me", "client_secret": "s3cret",
    }}});
    let webhook = webhook(&target.url("/"), &tree);
    for _ in 0..5 {
        let why = poisoned(webhook.deliver(&[valued("1")]).await);
        assert!(why.contains("401") && why.contains("repeats a secret"), "{why}");
    }
    assert!(issuer.all().len() <= 5, "{}", issuer.all().len());
}

#[tokio::test]
async fn an_issuer_that_fails_is_told_without_secrets() {
    let issuer = serve(|_, _| {
        answer(
            400,
            "{\"error\":\"invalid_client\",\"error_description\":\"not s3cret\"}",
        )
        .into_response()
    })
    .await;
    let target = takes_all().await;
    let tree = json!({"authentication": {"oauth2": {
        "token_endpoint_url": issuer.url("/token"), "client_id": "me", "client_secret": "s3cret",
    }}});
    let webhook = webhook(&target.url("/"), &tree);
    for _ in 0..3 {
        let why = retried(webhook.deliver(&[valued("1")]).await);
        assert!(why.contains("token endpoint") && !why.contains("s3cret"), "{why}");
    }
    assert!(target.all().is_empty());
    assert_eq!(issuer.all().len(), 1, "it is left alone for a moment");
}

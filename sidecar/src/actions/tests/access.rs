//! Who asks, and what he may.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::two;
use crate::actions::access;
use crate::actions::org::{Grant, User};
use crate::json_api::Error;

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
    );
    headers
}

#[tokio::test]
async fn a_token_says_who_asks_and_what_he_may() {
    let settings = two();
    let ann = access::caller(&settings.orgs, &bearer("t-ann")).await.unwrap();
    assert_eq!((ann.org.id.as_str(), ann.user.id.as_str()), ("acme", "ann"));
    assert_eq!(ann.user.email.as_deref(), Some("ann@acme.test"));
    for (grant, may) in [
        (Grant::Invoke, true),
        (Grant::See, true),
        // By the second entry, which has the same token.
        (Grant::Report, true),
        (Grant::Approve, false),
        (Grant::Manage, false),
        (Grant::Credentials, false),
    ] {
        assert_eq!(ann.check(grant).is_ok(), may, "{grant}");
    }
    assert!(ann.check_action(Grant::Invoke, "deploy-web").is_ok());
    let refused = ann.check_action(Grant::Invoke, "delete").unwrap_err();
    assert!(refused.to_string().contains("\"delete\""), "{refused}");
    assert!(ann.may(Grant::Report, "delete"));

    let rae = access::caller(&settings.orgs, &bearer("t-rae")).await.unwrap();
    assert_eq!(rae.org.id, "rest");
    for headers in [HeaderMap::new(), bearer("t-nobody"), bearer("")] {
        let error = access::caller(&settings.orgs, &headers).await.unwrap_err();
        assert!(matches!(error, Error::NotAuthenticated(_)), "{error:?}");
    }
    // Another organisation is not opened by its name.
    let mut headers = bearer("t-rae");
    headers.insert("sluice-org", HeaderValue::from_static("acme"));
    assert!(access::caller(&settings.orgs, &headers).await.is_err());
}

#[tokio::test]
async fn a_client_gets_a_token_for_its_secret() {
    let settings = two();
    let now = SystemTime::now();
    let issue = |client: &str, secret: &str, now| access::issue(&settings.orgs, client, secret, now);
    for (client, secret) in [
        ("agent", "fedcba9876543210"),
        ("other", "0123456789abcdef"),
        ("nobody", ""),
        ("", ""),
    ] {
        assert!(issue(client, secret, now).is_err(), "{client}");
    }
    let (token, lifetime) = issue("agent", "0123456789abcdef", now).unwrap();
    assert_eq!(lifetime, Duration::from_secs(3 * 3600));
    let agent = access::caller(&settings.orgs, &bearer(&token)).await.unwrap();
    assert_eq!((agent.org.id.as_str(), agent.user.id.as_str()), ("acme", "agent"));
    assert!(agent.check(Grant::Credentials).is_ok() && agent.check(Grant::Invoke).is_err());

    // Each of its characters counts but the last ones of a part, which may have bits to spare.
    for i in 0..token.len() - 1 {
        let mut forged = token.clone().into_bytes();
        forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert!(
            access::caller(&settings.orgs, &bearer(&forged)).await.is_err(),
            "{forged}"
        );
    }
    let (old, _) = issue(
        "agent",
        "0123456789abcdef",
        now - lifetime - Duration::from_secs(1),
    )
    .unwrap();
    let error = access::caller(&settings.orgs, &bearer(&old)).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    // One that the same client of another configuration made, which had another secret.
    let elsewhere = super::settings("{acme: {clients: {agent: {secret: 'another secret!!!', may: [see]}}}}");
    let (foreign, _) = access::issue(&elsewhere.orgs, "agent", "another secret!!!", now).unwrap();
    assert!(access::caller(&settings.orgs, &bearer(&foreign)).await.is_err());
}

#[test]
fn a_user_is_who_the_claims_say() {
    let claims = json!({"email": "a@b", "given_name": "Ann", "family_name": ["Lee"], "x": 1});
    let Value::Object(claims) = claims else { panic!() };
    let user = User::of_claims("ann".to_owned(), &claims);
    let expected = User {
        id: "ann".to_owned(),
        email: Some("a@b".to_owned()),
        first_name: Some("Ann".to_owned()),
        last_name: Some("Lee".to_owned()),
    };
    assert_eq!(user, expected);
}

proptest::proptest! {
    #[test]
    fn no_other_text_is_a_token(any in ".{0,80}", said in "[A-Za-z0-9_-]{0,120}", signature in "[A-Za-z0-9_-]{0,60}") {
        let settings = two();
        let json = URL_SAFE_NO_PAD.encode(format!(r#"{{"org":"acme","client":"agent","until":{}}}"#, u64::MAX));
        for token in [
            any.clone(),
            format!("sluice1.{any}"),
            format!("sluice1.{said}.{signature}"),
            format!("sluice1.{json}.{signature}"),
            format!("sluice1.{}.{signature}", URL_SAFE_NO_PAD.encode(&any)),
        ] {
            let found = access::of_client(&settings.orgs, &token, SystemTime::now());
            proptest::prop_assert!(matches!(found, Ok(None)), "{token}: {found:?}");
        }
    }
}

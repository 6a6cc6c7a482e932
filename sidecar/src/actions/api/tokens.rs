//! Tokens for programs, and what consumers connect with.

use std::time::SystemTime;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Api;
use crate::actions::access;
use crate::actions::org::Grant;
use crate::json_api::{Answer, Error, Json};

/// `POST /v1/auth/access_token`.
pub(super) async fn issue(State(api): State<Api>, Json(body): Json) -> Answer {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let (Some(client), Some(secret)) = (text("clientId"), text("clientSecret")) else {
        return Err(Error::Unreadable(
            "clientId and clientSecret are required, and are texts".to_owned(),
        ));
    };
    let orgs = &api.actions.settings.orgs;
    let (token, lifetime) = access::issue(orgs, client, secret, SystemTime::now())?;
    Ok(secret_reply(&json!({
        "ok": true,
        "accessToken": token,
        "tokenType": "Bearer",
        "expiresIn": lifetime.as_secs(),
    })))
}

/// `GET /v1/kafka-credentials`.
pub(super) async fn credentials(State(api): State<Api>, headers: HeaderMap) -> Answer {
    let caller = api.caller(&headers).await?;
    caller.check(Grant::Credentials)?;
    let org = &caller.org;
    let credentials = org.credentials.as_ref();
    let credentials = credentials.ok_or_else(|| {
        Error::NotFound(format!(
            "organisation {} has no kafka_credentials in the configuration",
            org.id
        ))
    })?;
    Ok(secret_reply(&json!({
        "ok": true,
        "credentials": {
            "brokers": credentials.brokers,
            "username": credentials.username,
            "password": credentials.password.expose(),
        },
    })))
}

/// A reply that nobody on the way is to keep.
fn secret_reply(body: &Value) -> axum::response::Response {
    let mut response = axum::Json(body).into_response();
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

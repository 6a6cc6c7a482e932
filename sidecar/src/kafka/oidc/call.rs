//! One request to a token endpoint.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};

use super::Settings;
use crate::fetch::{self, Answer};

/// Asks, on a thread of its own: whoever calls may be within a runtime, which must not be blocked twice. Blocks for `within`
/// at most.
///
/// # Errors
/// What went wrong, in words without secrets.
pub(super) fn call(settings: &Settings, within: Duration) -> Result<Answer, String> {
    let settings = settings.clone();
    let asking = std::thread::Builder::new()
        .name("token-endpoint".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("cannot ask: {error}"))?;
            let answer = runtime.block_on(async { tokio::time::timeout(within, ask(&settings)).await });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", within.as_secs())))
        });
    let asking = asking.map_err(|error| format!("cannot start a thread: {error}"))?;
    asking
        .join()
        .unwrap_or_else(|_| Err("the attempt failed".to_owned()))
}

async fn ask(settings: &Settings) -> Result<Answer, String> {
    fetch::fetch(&settings.endpoint, &settings.trust, request(settings)?).await
}

/// What an issuer is asked. Client and secret are as RFC 6749 has them (section 2.3.1): each encoded like a form, since a `:`
/// may be in either.
///
/// # Errors
/// The endpoint's address is none of a request.
pub(crate) fn request(settings: &Settings) -> Result<Request<Full<Bytes>>, String> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let login = format!(
        "{}:{}",
        encoded(&settings.client_id),
        encoded(settings.client_secret.expose())
    );
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !settings.scopes.is_empty() {
        form.append_pair("scope", &settings.scopes.join(" "));
    }
    let uri = &settings.endpoint;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Request::post(path)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(login)))
        .body(Full::new(Bytes::from(form.finish())))
        .map_err(|_| "no request can be made of its address".to_owned())
}

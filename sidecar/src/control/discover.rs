//! `GET {uri}/discover`: what a deployment says it has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::ACCEPT;
use hyper::{Request, Uri};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::manifest::Manifest;
use crate::fetch::{self, Trust};
use crate::subscriptions::sink::egress::{Author, Egress, Place};

/// The longest manifest, in bytes.
const LONGEST: usize = 1 << 20;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is asked for: JSON, as Restate's SDKs call it too.
const KINDS: &str = "application/json, application/vnd.restate.endpointmanifest.v1+json;q=0.9";

/// Whether a deployment may be at a URI, so far as it says.
///
/// # Errors
/// What is wrong with it, or why it may not be called.
pub(super) fn check(uri: &str, egress: &Egress) -> Result<Place, String> {
    let url = Url::parse(uri).map_err(|error| format!("is no URL: {error}"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have neither a query nor a fragment: handlers are below it".to_owned());
    }
    let place = Place::of(&url)?;
    egress.check(&place, Author::Api)?;
    Ok(place)
}

/// Fetches and reads the manifest.
///
/// # Errors
/// It cannot be had, or is none; without what it holds.
pub(super) async fn fetch(uri: &str, place: Place, egress: &Arc<Egress>) -> Result<Manifest, String> {
    let url = format!("{uri}/discover");
    let body = match timeout(PATIENCE, get(&url, &place, egress)).await {
        Ok(answer) => answer.map_err(|why| format!("{url}: {why}"))?,
        Err(_) => return Err(format!("{url}: no answer within {} s", PATIENCE.as_secs())),
    };
    let tree: Value = serde_json::from_slice(&body).map_err(|error| {
        format!(
            "{url}: what it answers is no JSON: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    Manifest::read(&tree, "").map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{url}: what it answers is no manifest: {}", told.join("; "))
    })
}

/// One GET, to an address that was judged. A redirection is not followed: it would lead where nobody allowed.
async fn get(url: &str, place: &Place, egress: &Arc<Egress>) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(ACCEPT, KINDS)
        .body(Full::<Bytes>::default());
    let request = request.map_err(|error| error.to_string())?;
    let addresses = egress.guard(place.clone(), Author::Api).resolve().await?;
    let trust = Trust {
        verify: true,
        authorities: None,
    };
    let answer = fetch::fetch_from(&addresses, &uri, &trust, request, LONGEST).await?;
    if answer.status != 200 {
        return Err(format!("it answers {}: a manifest comes with 200", answer.status));
    }
    Ok(answer.body)
}

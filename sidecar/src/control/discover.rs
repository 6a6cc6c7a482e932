//! `GET {uri}/discover`: what a deployment says it has.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use url::Url;

use super::manifest::Manifest;
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
    let addresses = egress.guard(place.clone(), Author::Api).resolve().await?;
    let mut connected = Err("it has no address".to_owned());
    for address in addresses {
        connected = TcpStream::connect(address)
            .await
            .map_err(|error| format!("cannot connect to {address}: {error}"));
        if connected.is_ok() {
            break;
        }
    }
    let stream = connected?;
    if !place.is_secure() {
        return exchange(stream, url).await;
    }
    let connector = SslConnector::builder(SslMethod::tls_client())
        .map_err(|error| error.to_string())?
        .build();
    let configured = connector.configure().and_then(|tls| tls.into_ssl(&place.host()));
    let ssl = configured.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
    let shaken = Pin::new(&mut stream).connect().await;
    shaken.map_err(|error| format!("no TLS connection: {error}"))?;
    exchange(stream, url).await
}

async fn exchange<S>(stream: S, url: &str) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let words = |error: hyper::Error| format!("the call failed: {error}");
    let uri: Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, KINDS)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        if answer.status() != StatusCode::OK {
            return Err(format!(
                "it answers {}: a manifest comes with 200",
                answer.status()
            ));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body
            .map_err(|error| format!("the answer breaks off, or is longer than {LONGEST} bytes: {error}"))?;
        Ok(body.to_bytes())
    };
    let mut connection = pin!(connection);
    let mut answer = pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection may be closed as soon as all of the answer is here.
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(words(error)),
        },
    }
}

//! The admin API of the control plane: Restate's calls, and more. `docs/subscriptions-api.md` has every one of them.

mod clusters;
mod deployments;
pub(crate) mod error;
mod held;
mod orders;
mod subscriptions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::Value;

use self::error::Error;
use super::Control;
use super::item::{Item, Kind};
use super::view::View;
use crate::config::Cluster;
use crate::registry::{Phase, Registry};
use crate::subscriptions::engine::Handle;
use crate::subscriptions::running::{Order, Refused, Status, Told};

/// The longest body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Runs subscriptions in this sidecar.
pub trait Runner: Send + Sync + 'static {
    /// How a subscription is here; none: it does not run here.
    fn status(&self, id: &str) -> Option<Status>;

    /// Has a subscription that runs here do something.
    fn carry_out<'a>(&'a self, id: &'a str, order: Order) -> BoxFuture<'a, Result<Told, Refused>>;

    /// How many events are held on a cluster of each subscription, by its id; or why nobody can tell.
    fn held<'a>(
        &'a self,
        name: &'a str,
        cluster: &'a Arc<Cluster>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, usize>, String>>;

    /// Removes what is held on a cluster of a subscription that is there no more: how many events.
    fn forget_held<'a>(
        &'a self,
        name: &'a str,
        cluster: &'a Arc<Cluster>,
        id: &'a str,
    ) -> BoxFuture<'a, Result<usize, String>>;
}

impl Runner for Handle {
    fn status(&self, id: &str) -> Option<Status> {
        Handle::status(self, id)
    }

    fn carry_out<'a>(&'a self, id: &'a str, order: Order) -> BoxFuture<'a, Result<Told, Refused>> {
        Box::pin(self.order(id, order))
    }

    fn held<'a>(
        &'a self,
        name: &'a str,
        cluster: &'a Arc<Cluster>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, usize>, String>> {
        Box::pin(Handle::held(self, name, cluster))
    }

    fn forget_held<'a>(
        &'a self,
        name: &'a str,
        cluster: &'a Arc<Cluster>,
        id: &'a str,
    ) -> BoxFuture<'a, Result<usize, String>> {
        Box::pin(Handle::forget_held(self, name, cluster, id))
    }
}

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Api {
    control: Arc<Control>,
    runner: Arc<dyn Runner>,
}

/// `/subscriptions`, `/kafka-clusters`, `/deployments` and `/services`, for the admin listener.
pub fn router(control: Arc<Control>, runner: Arc<dyn Runner>) -> Router {
    Router::new()
        .route(
            "/subscriptions",
            post(subscriptions::create).get(subscriptions::list),
        )
        .route(
            "/subscriptions/{id}",
            get(subscriptions::show)
                .delete(subscriptions::delete)
                .patch(subscriptions::change),
        )
        .route("/subscriptions/{id}/pause", post(subscriptions::pause))
        .route("/subscriptions/{id}/resume", post(subscriptions::resume))
        .route("/subscriptions/{id}/seek", post(orders::seek))
        .route("/subscriptions/{id}/replay", post(orders::replay))
        .route("/subscriptions/{id}/test", post(orders::test))
        .route("/subscriptions/{id}/parked", get(orders::parked))
        .route("/subscriptions/{id}/parked/retry", post(orders::retry_parked))
        .route("/subscriptions/{id}/parked/drop", post(orders::drop_parked))
        .route("/kafka-clusters", post(clusters::create).get(clusters::list))
        .route(
            "/kafka-clusters/{name}",
            get(clusters::show)
                .delete(clusters::delete)
                .patch(clusters::change),
        )
        .route("/held", get(held::list))
        .route("/held/{subscription}", delete(held::delete))
        .route("/deployments", post(deployments::create).get(deployments::list))
        .route(
            "/deployments/{id}",
            get(deployments::show).delete(deployments::delete),
        )
        .route("/services", get(deployments::services))
        .route("/services/{name}", get(deployments::service))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Api { control, runner })
}

type Answer = Result<Response, Error>;

impl Api {
    fn view(&self) -> Arc<View> {
        self.control.view()
    }

    /// Whether whoever asks may change anything.
    fn may_change(&self) -> Result<(), Error> {
        if self.control.open {
            return Err(Error::ReadOnly(
                "the admin listener is open to other machines and asks for no token: set listeners.admin.tokens to \
                 change anything by it"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Where to change something.
    fn registry(&self) -> Result<&Arc<Registry<Item>>, Error> {
        self.may_change()?;
        self.control.registry.as_ref().ok_or(Error::NoState)
    }

    /// Puts an item where version `base` of it is, and gives the new version.
    async fn put(&self, kind: Kind, id: &str, base: u64, item: &Item) -> Result<u64, Error> {
        let version = self.registry()?.put(&kind.key(id), base, item).await?;
        self.control.refresh().await;
        Ok(version)
    }

    async fn remove(&self, kind: Kind, id: &str, base: u64) -> Result<(), Error> {
        self.registry()?.delete(&kind.key(id), base).await?;
        self.control.refresh().await;
        Ok(())
    }

    /// Has this sidecar know what another made a moment ago, where that can be.
    async fn catch_up(&self) {
        if let Some(registry) = &self.control.registry
            && registry.catch_up().await.is_ok()
        {
            self.control.refresh().await;
        }
    }

    /// Whether what was made by the API is known here; none: nothing can be.
    fn phase(&self) -> Option<Phase> {
        let phase = self.control.registry.as_ref()?.phase();
        Some(match phase {
            // All was read, and is being looked at.
            Phase::Ready if !self.view().known => Phase::Starting,
            phase => phase,
        })
    }

    /// Why there is nothing of this id, which may be there and unreadable, or not be known yet.
    fn missing(&self, kind: Kind, what: &str, id: &str) -> Error {
        let key = kind.key(id);
        if let Some(why) = self.view().unreadable.get(&key) {
            return Error::Conflict(format!(
                "{what} {id} was written by another version of Sluice: {why}"
            ));
        }
        match self.phase() {
            None | Some(Phase::Ready) => Error::NotFound(format!("no {what} is {id:?}")),
            Some(Phase::Starting) => Error::Unavailable("the state is still being read".to_owned()),
            Some(Phase::Away(why)) => Error::Unavailable(why),
        }
    }
}

/// A JSON body.
struct Json(Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let json = is_json(request.headers());
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| too_large(&error).into_response())?;
        // What a browser sends elsewhere without asking is never JSON.
        if !json {
            return Err(Error::Unreadable(
                "the body must be JSON, and say so: content-type: application/json".to_owned(),
            )
            .into_response());
        }
        let read = serde_json::from_slice(&body);
        read.map(Self).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            // What stands there may be a secret.
            Error::Unreadable(format!("the body is no JSON: see line {line}, column {column}"))
                .into_response()
        })
    }
}

/// A JSON body, or none.
struct MaybeJson(Value);

impl<S: Send + Sync> FromRequest<S> for MaybeJson {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let empty = request.headers().get(CONTENT_TYPE).is_none();
        if empty {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|error| too_large(&error).into_response())?;
            if body.is_empty() {
                return Ok(Self(Value::Object(serde_json::Map::new())));
            }
            return Err(
                Error::Unreadable("the body needs a content-type: application/json".to_owned())
                    .into_response(),
            );
        }
        Json::from_request(request, state)
            .await
            .map(|Json(value)| Self(value))
    }
}

fn too_large(error: &BytesRejection) -> Error {
    match error.status().as_u16() {
        413 => Error::TooLarge(format!("the body is longer than {MAX_BODY} bytes")),
        _ => Error::Unreadable(error.body_text()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Whether the request is about version `version`: `If-Match` names it, or is not there.
fn check_match(headers: &HeaderMap, version: u64) -> Result<(), Error> {
    let Some(wanted) = headers.get(IF_MATCH) else {
        return Ok(());
    };
    let wanted = wanted
        .to_str()
        .map_err(|_| Error::Unreadable("If-Match is no text".to_owned()))?;
    let mut tags = wanted.split(',').map(str::trim);
    if tags.any(|tag| tag == "*" || tag == etag(version)) {
        return Ok(());
    }
    Err(Error::Stale(format!(
        "it has version {version} now, which If-Match ({wanted}) does not name"
    )))
}

fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Adds `ETag` to an answer.
fn tagged(version: u64, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&etag(version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The fields of a body, and nothing else.
fn object(body: Value) -> Result<serde_json::Map<String, Value>, Error> {
    match body {
        Value::Object(map) => Ok(map),
        _ => Err(Error::field("", "must be a mapping")),
    }
}

/// Now, as RFC 3339 has it.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Something that nobody else has.
fn new_id(prefix: &str) -> Result<String, Error> {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes)
        .map_err(|error| Error::Unavailable(format!("there is no randomness: {error}")))?;
    Ok(format!("{prefix}_{:032x}", u128::from_be_bytes(bytes)))
}

//! The admin API of the control plane: Restate's calls, and more. `docs/subscriptions-api.md` has every one of them.

mod clusters;
mod deployments;
mod held;
mod orders;
mod subscriptions;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use futures_util::future::BoxFuture;

use super::Control;
use super::item::{Item, Kind};
use super::view::View;
use crate::config::Cluster;
use crate::json_api::{Error, MAX_BODY};
use crate::registry::{Phase, Registry};
use crate::subscriptions::engine::Handle;
use crate::subscriptions::running::{Order, Refused, Status, Told};

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

//! Watches and steers what runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Handle;
use crate::subscriptions::running::{Order, Refused, State, Status, Told};

/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Handle {
    /// How a subscription is in this sidecar; none: it does not have it.
    pub fn status(&self, id: &str) -> Option<Status> {
        self.0.slots().get(id).map(|slot| slot.board.status())
    }

    /// How every subscription is in this sidecar.
    pub fn statuses(&self) -> BTreeMap<Arc<str>, Status> {
        let slots = self.0.slots();
        slots
            .iter()
            .map(|(id, slot)| (Arc::clone(id), slot.board.status()))
            .collect()
    }

    /// How many events are held on a cluster of each subscription, by its id.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn held(
        &self,
        name: &str,
        cluster: &Arc<crate::config::Cluster>,
    ) -> Result<BTreeMap<String, usize>, String> {
        self.0.outlet(name, cluster)?.held_by_subscription().await
    }

    /// Removes everything that is held on a cluster of a subscription, which should run nowhere any more. Gives how many events.
    ///
    /// # Errors
    /// Kafka does not answer, or does not take it; some may be removed.
    pub async fn forget_held(
        &self,
        name: &str,
        cluster: &Arc<crate::config::Cluster>,
        id: &str,
    ) -> Result<usize, String> {
        self.0.outlet(name, cluster)?.forget_held(id).await
    }

    /// Tells a subscription to do something, and what came of it.
    ///
    /// # Errors
    /// It is not there, does not run, or cannot do it.
    pub async fn order(&self, id: &str, order: Order) -> Result<Told, Refused> {
        let (orders, board) = {
            let slots = self.0.slots();
            let slot = slots.get(id).ok_or_else(|| Refused::Unknown(id.to_owned()))?;
            (slot.orders.clone(), Arc::clone(&slot.board))
        };
        let not_running = || match board.status().state {
            State::Failed { error, .. } => Refused::NotRunning(error),
            State::Starting => Refused::NotRunning("it is starting".to_owned()),
            State::Running | State::Paused { .. } | State::Stopping => {
                Refused::NotRunning("it is stopping".to_owned())
            }
        };
        if matches!(board.status().state, State::Failed { .. } | State::Starting) {
            return Err(not_running());
        }
        let (answer, told) = oneshot::channel();
        if orders.send((order, answer)).await.is_err() {
            return Err(not_running());
        }
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Err(not_running()),
            Err(_) => Err(Refused::Unavailable(format!(
                "it was not done within {} s, and may be yet",
                PATIENCE.as_secs()
            ))),
        }
    }
}

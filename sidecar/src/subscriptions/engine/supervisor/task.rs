//! One subscription's supervision: its task is started again when it ends with an error, after a pause.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::{Connect, ORDERS, Shared, over};
use crate::metrics::SubscriptionMetrics;
use crate::subscriptions::engine::reconcile::With;
use crate::subscriptions::engine::runner::{Board, Exit, Ordered, Parts, Runner, Starts, Stop};
use crate::subscriptions::event::Deliver;
use crate::subscriptions::running::State;

/// The first pause before a task is started again, and the longest. One that ran for longer than the latter starts with the former.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A subscription's supervision.
pub(super) struct Task<C> {
    pub(super) id: Arc<str>,
    pub(super) with: With,
    pub(super) board: Arc<Board>,
    pub(super) shared: Arc<Shared>,
    pub(super) connect: Arc<C>,
}

impl<C: Connect> Task<C> {
    /// Runs it until it is told to stop.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Ordered>, mut stop: watch::Receiver<Stop>) {
        let metrics = self.shared.metrics.subscription(&self.id);
        let mut pause = PAUSE;
        loop {
            let started = Instant::now();
            let id = &*self.id;
            tracing::info!(subscription = id, source = %self.with.spec.source, "starting");
            // A task of its own, so that a panic ends it and not this.
            let ran = tokio::spawn(attempt(self.parts(&metrics), orders, stop.clone()));
            let error;
            (orders, error) = match ran.await {
                Ok((orders, Ok(Exit::Stopped))) => {
                    drop(orders);
                    metrics.gone();
                    return;
                }
                Ok((orders, Ok(Exit::Again))) => (orders, None),
                Ok((orders, Err(error))) => (orders, Some(error)),
                Err(error) => {
                    // Whoever waits for an order is told that it was not carried out.
                    let (sender, receiver) = mpsc::channel(ORDERS);
                    if let Some(slot) = self.shared.slots().get_mut(&self.id) {
                        slot.orders = sender;
                    }
                    (
                        receiver,
                        Some(format!(
                            "the task failed within the sidecar, which is a defect: {error}"
                        )),
                    )
                }
            };
            let Some(error) = error else {
                continue;
            };
            if started.elapsed() > LONGEST_PAUSE {
                pause = PAUSE;
            }
            tracing::error!(subscription = id, error, retry_in = ?pause, "a subscription failed: it is started again");
            metrics.restarted();
            let failed = State::Failed {
                error: error.clone(),
                retry_in_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            };
            self.board.restarted(failed, &error);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = over(&mut stop) => {
                    metrics.gone();
                    return;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.board.set(State::Starting);
        }
    }

    fn parts(&self, metrics: &SubscriptionMetrics) -> Result<Parts<C::Sink>, String> {
        let sink = self.connect.connect(&self.id, &self.with.spec)?;
        let called = self.with.called.as_ref();
        let together = called.and_then(|called| Some((called, called.together.as_ref()?)));
        let joint = together.map(|(called, together)| {
            let (hub, gate, runs) = self.shared.joint(&self.with, together);
            let service = Arc::from(together.service.as_str());
            let starts = called.once.then_some(Starts { service, runs });
            ((hub, gate), starts)
        });
        let (together, starts) = joint.map_or((None, None), |(together, starts)| (Some(together), starts));
        Ok(Parts {
            together,
            starts,
            targets: Arc::clone(&self.shared.targets),
            id: Arc::clone(&self.id),
            with: self.with.clone(),
            sink: Arc::new(sink),
            outlet: self
                .shared
                .outlet(&self.with.spec.source.cluster, &self.with.cluster)?,
            board: Arc::clone(&self.board),
            metrics: metrics.clone(),
        })
    }
}

async fn attempt<D: Deliver>(
    parts: Result<Parts<D>, String>,
    mut orders: mpsc::Receiver<Ordered>,
    mut stop: watch::Receiver<Stop>,
) -> (mpsc::Receiver<Ordered>, Result<Exit, String>) {
    let ended = match parts {
        Ok(parts) => Runner::run(parts, &mut orders, &mut stop).await,
        Err(error) => Err(error),
    };
    (orders, ended)
}

//! The sidecar as one value: checked configuration in, listeners and producers up, orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::task::JoinSet;

use crate::actions::{self, Actions};
use crate::admin;
use crate::config::Config;
use crate::control::{Control, api};
use crate::idempotency;
use crate::kafka::dev_broker::{self, DevBroker};
use crate::listeners::{Bound, Server};
use crate::metrics::Metrics;
use crate::produce::{Gateway, grpc, rest};
use crate::read;
use crate::reload::{Status, Watcher};
use crate::replies::{self, Replies};
use crate::shutdown::{self, Phase, Shutdown, Stopper};
use crate::spool;
use crate::subscriptions::connect::{Directory, Sinks};
use crate::subscriptions::engine::Engine;

/// Why the sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("{0}")]
    Listen(#[from] io::Error),
    /// A producer could not be made.
    #[error("{0}")]
    Producer(String),
    /// The spool could not be opened.
    #[error("spool: {0}")]
    Spool(#[from] spool::Error),
    /// The idempotency keys could not be opened.
    #[error("idempotency: {0}")]
    Idempotency(#[from] idempotency::Error),
    /// The embedded broker does not start.
    #[error("{0}")]
    DevBroker(#[from] dev_broker::Error),
}

/// Where the listeners are.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// gRPC.
    pub stream: Bound,
    /// REST.
    pub data: Bound,
    /// Health and metrics.
    pub admin: Bound,
    /// The dev broker, where there is one.
    pub dev_broker: Option<SocketAddr>,
}

/// How the sidecar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Records that had been taken on and could not be flushed.
    pub given_up: usize,
}

/// A sidecar whose listeners are bound. It serves when [`App::run`] is polled.
pub struct App {
    config: Config,
    watcher: Watcher,
    gateway: Arc<Gateway>,
    reads: Arc<read::Reads>,
    subscriptions: Engine,
    stream: Server,
    data: Server,
    admin: Server,
    control: Arc<Control>,
    actions: Option<Arc<Actions>>,
    shutdown: Shutdown,
    /// The phase of the faces. They drain with the process, and stop when the last fates are told.
    faces: (Stopper, Shutdown),
    /// Outlives the producers.
    dev_broker: Option<DevBroker>,
}

/// Starts the sidecar and serves until `shutdown` says otherwise and everything that was taken on is flushed, or
/// `grace_period` is over.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), StartError> {
    let Ended { given_up } = App::bind(config, shutdown).await?.run().await;
    tracing::info!(given_up, "ended");
    Ok(())
}

impl App {
    /// Starts the dev broker, where there is one, and the producers, and binds the listeners. Kafka need not be
    /// up.
    ///
    /// # Errors
    /// When an address cannot be listened on, librdkafka refuses a configuration, or the spool or the
    /// idempotency keys cannot be opened.
    pub async fn bind(config: Config, shutdown: Shutdown) -> Result<Self, StartError> {
        let dev_broker = match &config.dev_broker {
            Some(dev_broker) => Some(DevBroker::start(dev_broker).await?),
            None => None,
        };
        if let Some(dev_broker) = &dev_broker {
            for (topic, partitions) in own_topics(&config) {
                dev_broker.have(topic, partitions)?;
            }
        }
        let metrics = Arc::new(Metrics::default());
        let gateway = Gateway::new(&config, Arc::clone(&metrics))?;
        let faces = shutdown::channel();
        let reads = read::Reads::new(&config, &metrics, faces.1.clone(), Arc::clone(&gateway));
        let replies = Replies::new(
            &config,
            Arc::clone(&gateway),
            Arc::clone(&reads),
            Arc::clone(&metrics),
            faces.1.clone(),
        );
        let records = grpc::service(
            Arc::clone(&gateway),
            Arc::clone(&replies),
            Arc::clone(&metrics),
            faces.1.clone(),
            config.max_request_bytes,
        );
        let listeners = &config.listeners;
        let path = format!("/{}/{{method}}", sluice_proto::SERVICE);
        let stream = Server::bind(
            "stream",
            &listeners.stream,
            &metrics,
            Router::new().route_service(&path, records),
        )
        .await?;
        let rest = rest::router(
            Arc::clone(&gateway),
            Arc::clone(&replies),
            config.max_request_bytes,
            rest::Believed::of(&listeners.data),
        );
        let mut data = Server::bind("data", &listeners.data, &metrics, rest)
            .await?
            .and(read::router(Arc::clone(&reads)))
            .and(replies::router(replies));
        let actions = Actions::new(&config, metrics.actions(), metrics.action_state());
        if let Some(actions) = &actions {
            data = data.and(actions::router(Arc::clone(actions), faces.1.clone()));
        }
        let reloads = Arc::new(Status::default());
        let mut admin = admin::router(
            Arc::clone(&gateway),
            Arc::clone(&metrics),
            faces.1.clone(),
            Arc::clone(&reloads),
        );
        if let Some(dev_broker) = &dev_broker {
            admin = admin.merge(dev_broker.admin_routes());
        }
        let control = Control::new(&config, metrics.state());
        let sinks = Sinks {
            egress: Arc::clone(&config.egress),
            metrics: Arc::clone(&metrics),
            directory: Arc::clone(&control) as Arc<dyn Directory>,
        };
        let subscriptions = Engine::start(
            control.desired(),
            sinks,
            (config.held.clone(), config.replies.topics.clone()),
            Arc::clone(&metrics),
        );
        admin = admin.merge(api::router(
            Arc::clone(&control),
            Arc::new(subscriptions.handle()),
        ));
        let admin = Server::bind("admin", &listeners.admin, &metrics, admin).await?;
        let watcher = Watcher::new(
            &config,
            (Arc::clone(&gateway), Arc::clone(&reads), Arc::clone(&control)),
            actions.clone(),
            metrics,
            reloads,
        );
        Ok(Self {
            config,
            watcher,
            gateway,
            reads,
            subscriptions,
            stream,
            data,
            admin,
            control,
            actions,
            shutdown,
            faces,
            dev_broker,
        })
    }

    /// Where the listeners are; with the ports that were chosen, where 0 was asked for.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            stream: self.stream.address().clone(),
            data: self.data.address().clone(),
            admin: self.admin.address().clone(),
            dev_broker: self.dev_broker.as_ref().map(DevBroker::address),
        }
    }

    /// Serves until the shutdown drains, then ends in order:
    ///
    /// 1. readiness fails, the stream and data listeners accept nothing more, streams are told to drain;
    /// 2. subscriptions take no more records, and finish and commit what is with their handlers; requests and streams in hand are answered, and what was taken on is flushed; nothing more of the spool is handed
    ///    over, since it is delivered when the sidecar is started again;
    /// 3. what is not flushed when `grace_period` is over, or at the second signal, is given up and counted;
    /// 4. the admin listener closes last.
    pub async fn run(self) -> Ended {
        let (stopper, phase) = self.faces;
        let (gateway, mut shutdown) = (self.gateway, self.shutdown);
        for (name, server) in [
            ("stream", &self.stream),
            ("data", &self.data),
            ("admin", &self.admin),
        ] {
            tracing::info!(listener = name, address = %server.address(), "listening");
        }
        let mut faces = JoinSet::new();
        faces.spawn(self.stream.serve(phase.clone()));
        faces.spawn(self.data.serve(phase));
        let (admin_stopper, admin_phase) = shutdown::channel();
        let admin = tokio::spawn(self.admin.serve(admin_phase));
        let watching = tokio::spawn(self.watcher.run());
        let control = tokio::spawn(self.control.run());
        let actions = self.actions.map(|actions| tokio::spawn(actions.run()));

        shutdown.reached(Phase::Draining).await;
        let until = Instant::now() + self.config.grace_period;
        tracing::info!(outstanding = gateway.outstanding(), "draining");
        stopper.drain();
        watching.abort();
        gateway.rest();
        let flushed = async {
            while faces.join_next().await.is_some() {}
            gateway.flush(until).await;
            self.reads.drained().await;
        };
        let flushed = tokio::time::timeout_at(until.into(), flushed);
        let flushed = async { tokio::join!(flushed, self.subscriptions.stop(until)) };
        tokio::select! {
            _ = flushed => {}
            () = tokio::time::sleep_until((until + LEAVING).into()) => {}
            () = shutdown.reached(Phase::Stopping) => {}
        }
        let closing = Arc::clone(&gateway);
        let given_up = tokio::task::spawn_blocking(move || closing.close())
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "closing the producers failed");
                0
            });
        if given_up > 0 {
            tracing::error!(records = given_up, "records could not be flushed");
        }
        // Fates that the end itself decided still go out.
        let told = tokio::time::timeout(LAST_REPLIES, async { while faces.join_next().await.is_some() {} });
        if told.await.is_err() {
            tracing::info!("cutting off connections that are still open");
        }
        stopper.stop();
        admin_stopper.stop();
        if let Err(error) = admin.await {
            tracing::error!(%error, "the admin listener failed");
        }
        control.abort();
        if let Some(actions) = actions {
            actions.abort();
        }
        drop(self.dev_broker);
        Ended { given_up }
    }
}

/// The topics that the sidecar would make, and their partitions.
fn own_topics(config: &Config) -> Vec<(&str, i32)> {
    let mut topics = Vec::new();
    if !config.subscriptions.is_empty() {
        topics.push((config.held.topic.as_str(), config.held.partitions));
    }
    if let Some(actions) = &config.actions {
        topics.push((actions.log.topic.as_str(), 1));
        for org in actions.orgs.values() {
            topics.extend(
                [&org.runs_topic, &org.change_log_topic].map(|topic| (topic.as_str(), org.topics.partitions)),
            );
        }
    }
    topics
}

/// How long leaving the groups of subscriptions may take once `grace_period` is over.
const LEAVING: Duration = Duration::from_secs(2);
/// How long the last fates may take on their way out.
const LAST_REPLIES: Duration = Duration::from_millis(300);

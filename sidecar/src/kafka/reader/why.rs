//! Why Kafka does not answer those who read: a wrong password, a certificate of nobody that is trusted.
//!
//! librdkafka's consumers say that nothing came. So when nothing has come for a moment, the cluster is tried by a client of
//! the kind that producers are, which says what is wrong with the way to it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::kafka::connection::{self, Connection};
use crate::kafka::probe;
use crate::kafka::trouble::Trouble;

/// After how long without an answer it is looked for why.
const SLOW: Duration = Duration::from_millis(500);
/// How often it is looked for at most.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the cluster is tried: shorter than who asked waits, who is to be told.
const TRY: Duration = Duration::from_secs(3);
/// For how long what was found is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// What is wrong with one cluster.
pub(super) struct Why {
    connection: Arc<Connection>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looking: bool,
    looked: Option<Instant>,
    found: Option<(Trouble, Instant)>,
}

impl Why {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            state: Mutex::default(),
        }
    }

    /// Waits for `answer`. One that does not come has what is wrong with the way to the cluster in its words, once that is
    /// known.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut answer = pin!(answer);
        let answered = match tokio::time::timeout(SLOW, answer.as_mut()).await {
            Ok(answered) => answered,
            Err(_) => {
                self.look();
                answer.await
            }
        };
        match answered {
            Err(Error::Unavailable(text)) => {
                self.look();
                Err(Error::Unavailable(self.explain(text)))
            }
            answered => {
                self.lock().found = None;
                answered
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, text: String) -> String {
        let state = self.lock();
        let found = state.found.as_ref();
        match found.filter(|(_, when)| when.elapsed() < BELIEVED) {
            Some((trouble, _)) => trouble.to_string(),
            None => text,
        }
    }

    /// Has somebody look, unless somebody does, or did a moment ago.
    fn look(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            if state.looking || state.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
                return;
            }
            state.looking = true;
        }
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let reached = probe::reach(&this.connection, TRY);
            let trouble = match reached {
                Ok(_) | Err(connection::Error::Unreachable { trouble: None, .. }) => None,
                Err(
                    connection::Error::Trouble { trouble, .. }
                    | connection::Error::Unreachable {
                        trouble: Some(trouble),
                        ..
                    },
                ) => Some(trouble),
                Err(other) => {
                    tracing::debug!(error = %other, "it cannot be tried why Kafka does not answer");
                    None
                }
            };
            let mut state = this.lock();
            state.looking = false;
            let now = Instant::now();
            state.looked = Some(now);
            let known = state.found.as_ref().map(|(known, _)| known);
            if let Some(trouble) = trouble.as_ref().filter(|trouble| known != Some(trouble)) {
                tracing::warn!(target: "librdkafka", reason = trouble.kind.label(), "reading: {trouble}");
            }
            state.found = trouble.map(|trouble| (trouble, now));
        });
    }
}

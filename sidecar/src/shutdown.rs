//! Stopping: what phase the process is in, who moves it on, and how everything else watches it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How far the process is on its way out. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is accepted.
    Serving,
    /// Not ready, streams are told to drain, accepted records are being flushed.
    Draining,
    /// What is not flushed by now is given up.
    Stopping,
}

/// Moves the phase on.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Phase>);

impl Stopper {
    /// Begins the orderly way out; does nothing when it has begun.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Gives up what is not flushed.
    pub fn stop(&self) {
        self.advance(Phase::Stopping);
    }

    /// One step forward: the first call drains, the second stops at once.
    pub fn step(&self) {
        let next = match *self.0.borrow() {
            Phase::Serving => Phase::Draining,
            Phase::Draining | Phase::Stopping => Phase::Stopping,
        };
        self.advance(next);
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let forward = *phase < to;
            if forward {
                *phase = to;
            }
            forward
        });
    }
}

/// Watches the phase.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Phase>);

impl Shutdown {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves once the phase is `phase` or later. Cancel-safe. When every [`Stopper`] is gone the phase
    /// cannot change any more and this never resolves.
    pub async fn reached(&mut self, phase: Phase) {
        if self.0.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A phase at [`Phase::Serving`], and what moves it on.
pub fn channel() -> (Stopper, Shutdown) {
    let (tx, rx) = watch::channel(Phase::Serving);
    (Stopper(tx), Shutdown(rx))
}

/// Lets SIGTERM and SIGINT move the phase on: the first drains, the second stops at once.
///
/// Must be called within a tokio runtime; fails when the handlers cannot be installed.
pub fn on_signals() -> std::io::Result<Shutdown> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (stopper, shutdown) = channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            stopper.step();
        }
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_step_stops_and_nothing_goes_back() {
        let (stopper, mut shutdown) = channel();
        assert_eq!(shutdown.phase(), Phase::Serving);
        stopper.step();
        assert_eq!(shutdown.phase(), Phase::Draining);
        stopper.step();
        stopper.drain();
        assert_eq!(shutdown.phase(), Phase::Stopping);
        shutdown.reached(Phase::Draining).await;
    }
}

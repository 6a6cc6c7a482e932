//! Whether a client is there: it says something, answers pings, or takes what it is sent.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::time::{Duration, Instant};

use super::end::{ERROR, End};

/// How long a client may take to answer a ping.
pub(super) const PONG: Duration = Duration::from_secs(30);

/// What is known of a client.
pub(super) struct Life {
    state: Mutex<State>,
    /// How often it is asked.
    pub(super) ping: Duration,
    /// How long it may take to answer.
    pong: Duration,
}

struct State {
    heard: Instant,
    /// Whether nobody listens to it just now.
    deaf: bool,
    /// Whether it is waited for, to take what it is sent.
    blocked: bool,
}

impl Life {
    pub(super) fn new(ping: Duration, pong: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                heard: Instant::now(),
                deaf: false,
                blocked: false,
            }),
            ping,
            pong,
        }
    }

    /// It has said something.
    pub(super) fn heard(&self) {
        self.update(|_| {});
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard = Instant::now();
        update(&mut state);
    }

    /// Waits for something of our own, and does not listen to the client in the meantime: what it says then is not its fault.
    pub(super) async fn waits<T>(&self, what: impl Future<Output = T>) -> T {
        self.during(what, |state, on| state.deaf = on).await
    }

    /// Waits for the client to take something. That it does shows that it is there, if it had to be waited for.
    pub(super) async fn taken<T>(&self, what: impl Future<Output = T>) -> T {
        self.during(what, |state, on| state.blocked = on).await
    }

    async fn during<T>(&self, what: impl Future<Output = T>, set: impl Fn(&mut State, bool)) -> T {
        let mut what = std::pin::pin!(what);
        // Most of the time nothing is waited for.
        if let Some(done) = (&mut what).now_or_never() {
            return done;
        }
        self.update(|state| set(state, true));
        let done = what.await;
        self.update(|state| set(state, false));
        done
    }

    /// Resolves when nothing was heard of it for too long.
    pub(super) async fn over(&self) -> End {
        loop {
            let until = self.until(Instant::now());
            if Instant::now() >= until {
                let seconds = (self.ping + self.pong).as_secs();
                return End::new(
                    ERROR,
                    format!("nothing was heard of the client for {seconds} s, no pong either"),
                );
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// When it is given up, as it looks `now`.
    fn until(&self, now: Instant) -> Instant {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = state.deaf && !state.blocked;
        let from = if ours { now } else { state.heard };
        from + self.ping + self.pong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_not_heard_is_gone_unless_we_do_not_listen() {
        let never = std::future::pending::<()>;
        let life = Life::new(Duration::from_secs(20), PONG);
        let later = Instant::now() + Duration::from_secs(600);
        assert!(life.until(later) < later, "nothing was heard");
        {
            let mut waits = std::pin::pin!(life.waits(never()));
            assert!((&mut waits).now_or_never().is_none());
            assert!(life.until(later) > later, "nobody listens");
            let mut taken = std::pin::pin!(life.taken(never()));
            assert!((&mut taken).now_or_never().is_none());
            assert!(life.until(later) < later, "it takes nothing either");
        }
        life.heard();
        let heard = life.until(Instant::now());
        let patience = heard.saturating_duration_since(Instant::now());
        assert!(patience > Duration::from_secs(40) && patience <= Duration::from_secs(50));
    }
}

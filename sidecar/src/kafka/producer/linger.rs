//! Cutting the linger short, so that a lone record does not wait and load is still gathered.
//!
//! librdkafka lingers for `linger.ms` over every batch. `rd_kafka_flush` makes it send at once for as long as
//! the call lasts, and it lasts until nothing is in flight or its time is over: so it is called from a thread
//! of its own, for a millisecond, when a record is handed over and nothing is in flight (as Nagle's algorithm
//! has it for TCP). Records that come while something is in flight are gathered for `linger.ms` at most.

use std::sync::{Condvar, Mutex, PoisonError};

use super::Shared;

/// How long, in milliseconds, broker threads are kept from lingering. They must see it within this time.
const CUT_MS: i32 = 1;

/// Whether what was just handed over is to be sent at once; `idle`: nothing was in flight before it.
pub(super) fn cut_short(idle: bool) -> bool {
    idle
}

#[derive(Default)]
pub(super) struct Linger {
    asked: Mutex<Asked>,
    bell: Condvar,
}

#[derive(Default)]
struct Asked {
    cut: bool,
    stop: bool,
}

impl Linger {
    /// Has what librdkafka holds sent now.
    pub(super) fn cut(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).cut = true;
        self.bell.notify_one();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.bell.notify_one();
    }

    /// Waits until asked to cut; false: to stop.
    fn wait(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !asked.cut && !asked.stop {
            asked = self.bell.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
        asked.cut = false;
        !asked.stop
    }
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    while shared.linger.wait() {
        let native = std::sync::Arc::clone(shared.lock().native());
        native.send_now(CUT_MS);
    }
}

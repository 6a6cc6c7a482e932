//! The thread that takes librdkafka's events and sees to deadlines.

use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::bag::Bag;
use crate::kafka::native::Polled;

/// The thread.
pub(super) fn run(shared: &Shared) {
    let mut deliveries = Vec::new();
    let (mut native, mut wait) = {
        let mut state = shared.lock();
        (Arc::clone(state.native()), state.next_look(Instant::now()))
    };
    loop {
        let polled = native.poll(wait, &mut deliveries);
        let now = Instant::now();
        let mut bag = Bag::default();
        let mut state = shared.lock();
        // Reports of a producer that was replaced are about records that were settled with it.
        if Arc::ptr_eq(&native, state.native()) {
            match polled {
                Polled::Nothing => {}
                Polled::Deliveries => {
                    for delivery in &deliveries {
                        state.delivered(delivery, now, &mut bag);
                    }
                }
                Polled::AllDown(why) => {
                    tracing::warn!(producer = shared.name, why, "cluster unreachable");
                    state.down(why);
                    shared.bell.notify_all();
                }
                Polled::Fatal(why) => {
                    state.fatal(why);
                    shared.bell.notify_all();
                }
            }
        } else {
            native = Arc::clone(state.native());
        }
        deliveries.clear();
        state.sweep(now, &mut bag);
        wait = state.next_look(now);
        if state.needs_minding() {
            shared.bell.notify_all();
        }
        let stopped = state.stopped();
        drop(state);
        bag.send();
        if stopped {
            return;
        }
    }
}

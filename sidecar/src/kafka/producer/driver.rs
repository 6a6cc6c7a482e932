//! The task that takes librdkafka's events, sees to deadlines and sends on what was gathered.

use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::bag::Bag;
use crate::kafka::native::{Delivery, Native, Polled, Renewal};
use crate::kafka::trouble::Kind;

/// How many events are taken before others on the runtime have their turn.
const EVENTS_AT_ONCE: usize = 64;

/// The task. It ends when the producer stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut native = Arc::clone(shared.lock().native());
    let mut deliveries = Vec::new();
    while let Some(look) = serve(&shared, &mut native, &mut deliveries) {
        match look {
            Some(at) => tokio::select! {
                () = shared.driver.notified() => {}
                () = tokio::time::sleep_until(at.into()) => {}
            },
            None => shared.driver.notified().await,
        }
    }
}

/// Does what there is to do. Returns when to look again at the latest, and `None` to stop.
fn serve(
    shared: &Shared,
    native: &mut Arc<Native>,
    deliveries: &mut Vec<Delivery>,
) -> Option<Option<Instant>> {
    let (mut down, mut fatal, mut renewal) = (None, None, None);
    let mut troubles = Vec::new();
    let mut more = true;
    for _ in 0..EVENTS_AT_ONCE {
        match native.poll(deliveries) {
            Some(Polled::AllDown(why)) => down = Some(why),
            Some(Polled::TokenDue) => renewal = Some(Renewal::Due),
            Some(Polled::Trouble(trouble)) => {
                if trouble.kind == Kind::Credentials {
                    renewal = renewal.or(Some(Renewal::IfChanged));
                }
                troubles.push(trouble);
            }
            Some(Polled::Fatal(why)) => fatal = Some(why),
            Some(Polled::Deliveries | Polled::Nothing) => {}
            None => {
                more = false;
                break;
            }
        }
    }
    if more {
        shared.driver.notify_one();
    }
    if let Some(renewal) = renewal.filter(|_| shared.token.is_some()) {
        let native = Arc::clone(native);
        // A file may be slow, and no record waits for it; what is slower still, the end of the process does not wait for.
        if native.has_slow_token() {
            std::thread::spawn(move || native.renew_token(renewal));
        } else {
            tokio::task::spawn_blocking(move || native.renew_token(renewal));
        }
    }
    let now = Instant::now();
    let mut bag = Bag::default();
    let mut state = shared.lock();
    let was_down = state.is_down();
    // What a producer that was replaced reports is about records that were settled with it.
    if Arc::ptr_eq(native, state.native()) {
        for delivery in deliveries.drain(..) {
            state.delivered(delivery, now, &mut bag);
        }
        for trouble in troubles {
            state.trouble(trouble, now);
        }
        if let Some(why) = down {
            state.down(why);
        }
        if let Some(why) = fatal {
            state.fatal(why);
        }
    } else {
        *native = Arc::clone(state.native());
        shared.driver.notify_one();
    }
    deliveries.clear();
    state.send_gathered(now, &mut bag);
    state.sweep(now, &mut bag);
    shared.log_health(was_down, &state);
    let look = state.next_look();
    let mind = state.needs_minding();
    let stopped = state.stopped();
    drop(state);
    if mind {
        shared.bell.notify_all();
    }
    bag.send();
    (!stopped).then_some(look)
}

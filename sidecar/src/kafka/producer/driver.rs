//! The task that takes librdkafka's events, sees to deadlines and sends on what was gathered.

use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::bag::Bag;
use crate::kafka::native::{Delivery, Native, Polled, Renewal};
use crate::kafka::trouble::{Kind, Trouble};

/// How many events are taken before others on the runtime have their turn.
const EVENTS_AT_ONCE: usize = 64;

/// The clients whose events are taken.
struct Sources {
    native: Arc<Native>,
    /// The one that is being replaced, while it has records.
    retiring: Option<Arc<Native>>,
}

/// What a client's events say, besides delivery reports.
#[derive(Default)]
struct Seen {
    down: Option<String>,
    fatal: Option<String>,
    renewal: Option<Renewal>,
    troubles: Vec<Trouble>,
    /// There may be more.
    more: bool,
}

/// The task. It ends when the producer stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut sources = Sources {
        native: Arc::clone(shared.lock().native()),
        retiring: None,
    };
    let (mut deliveries, mut late) = (Vec::new(), Vec::new());
    while let Some(look) = serve(&shared, &mut sources, &mut deliveries, &mut late) {
        match look {
            Some(at) => tokio::select! {
                () = shared.driver.notified() => {}
                () = tokio::time::sleep_until(at.into()) => {}
            },
            None => shared.driver.notified().await,
        }
    }
}

/// Takes a client's events; a token that it needs is looked for.
fn take(native: &Arc<Native>, deliveries: &mut Vec<Delivery>) -> Seen {
    let mut seen = Seen {
        more: true,
        ..Seen::default()
    };
    for _ in 0..EVENTS_AT_ONCE {
        match native.poll(deliveries) {
            Some(Polled::AllDown(why)) => seen.down = Some(why),
            Some(Polled::TokenDue) => seen.renewal = Some(Renewal::Due),
            Some(Polled::Trouble(trouble)) => {
                if trouble.kind == Kind::Credentials {
                    seen.renewal = seen.renewal.or(Some(Renewal::Refused));
                }
                seen.troubles.push(trouble);
            }
            Some(Polled::Fatal(why)) => seen.fatal = Some(why),
            Some(Polled::Deliveries | Polled::Nothing) => {}
            None => {
                seen.more = false;
                break;
            }
        }
    }
    if let Some(renewal) = seen.renewal.filter(|_| native.has_token()) {
        let native = Arc::clone(native);
        // A file may be slow, and no record waits for it; what is slower still, the end of the process does not wait for.
        if native.has_slow_token() {
            std::thread::spawn(move || native.renew_token(renewal));
        } else {
            tokio::task::spawn_blocking(move || native.renew_token(renewal));
        }
    }
    seen
}

/// Does what there is to do. Returns when to look again at the latest, and `None` to stop.
fn serve(
    shared: &Shared,
    sources: &mut Sources,
    deliveries: &mut Vec<Delivery>,
    late: &mut Vec<Delivery>,
) -> Option<Option<Instant>> {
    let seen = take(&sources.native, deliveries);
    let of_retiring = sources.retiring.as_ref().map(|native| take(native, late));
    if seen.more || of_retiring.as_ref().is_some_and(|seen| seen.more) {
        shared.driver.notify_one();
    }
    // One that failed and cannot go on gives back what it has.
    if let (Some(native), Some(_)) = (&sources.retiring, of_retiring.and_then(|seen| seen.fatal)) {
        native.purge();
    }
    let now = Instant::now();
    let mut bag = Bag::default();
    let mut state = shared.lock();
    let was_down = state.is_down();
    let is_current = Arc::ptr_eq(&sources.native, state.native());
    let retiring = state.retiring().cloned();
    let is_retiring = |native: &Arc<Native>| retiring.as_ref().is_some_and(|one| Arc::ptr_eq(one, native));
    // What a producer that was replaced after it had failed reports is about records that were settled with it.
    if !is_current && !is_retiring(&sources.native) {
        deliveries.clear();
    }
    if !sources.retiring.as_ref().is_some_and(is_retiring) {
        late.clear();
    }
    for delivery in late.drain(..).chain(deliveries.drain(..)) {
        state.delivered(delivery, now, &mut bag);
    }
    if is_current {
        for trouble in seen.troubles {
            state.trouble(trouble, now, &mut bag);
        }
        if let Some(why) = seen.down {
            state.down(why);
        }
        if let Some(why) = seen.fatal {
            state.fatal(why);
        }
    }
    let same = match (&sources.retiring, &retiring) {
        (Some(had), Some(one)) => Arc::ptr_eq(had, one),
        (None, None) => true,
        _ => false,
    };
    if !is_current || !same {
        sources.native = Arc::clone(state.native());
        sources.retiring = retiring;
        shared.driver.notify_one();
    }
    state.send_gathered(now, &mut bag);
    state.sweep(now, &mut bag);
    shared.log_health(was_down, &state);
    let look = state.next_look();
    let mind = state.needs_minding();
    let stopped = state.stopped();
    let diverting = state.is_diverting();
    drop(state);
    if mind {
        shared.bell.notify_all();
    }
    bag.send();
    if diverting {
        shared.divert();
    }
    (!stopped).then_some(look)
}

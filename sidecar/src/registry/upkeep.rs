//! Taking back what says nothing any more, and forgetting what was deleted long ago.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::Proposed;
use super::{Phase, Registry};
use crate::epoch::now_ms;

/// How long dead records of others are left to whoever wrote what made them dead, in milliseconds.
pub(super) const OTHERS_MS: i64 = 60_000;
/// How long it takes until it is tried again, in milliseconds.
const AGAIN_MS: i64 = 30_000;
/// How long a row stays deleted, and how long closed: longer than a record may be under way (`message.timeout.ms`), or a
/// sidecar behind that still changes anything, in milliseconds.
const DELETED_MS: i64 = 3_600_000;
const CLOSED_MS: i64 = 600_000;
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);
/// Records that are taken back at once.
const AT_ONCE: usize = 500;

/// For as long as it is polled.
pub(super) async fn run<V>(registry: &Registry<V>)
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    loop {
        // At the latest then it is looked.
        let _told_or_late = tokio::time::timeout(LOOK, registry.dead.notified()).await;
        if registry.phase() != Phase::Ready {
            continue;
        }
        let now = now_ms();
        let (dead, old, closed) = {
            let mut inner = registry.lock();
            let dead = inner.table.due(now, now + AGAIN_MS, AT_ONCE);
            let old = inner.table.closable(now - DELETED_MS, AT_ONCE);
            (dead, old, inner.table.forgettable(now - CLOSED_MS, AT_ONCE))
        };
        let more = dead.len() == AT_ONCE;
        let take_back = dead.into_iter().chain(closed).map(async |name| {
            let taken = registry.log.append(name.to_string().as_bytes(), None).await;
            taken.inspect_err(|error| tracing::debug!(%error, %name, "a dead record is still there"))
        });
        // What failed is due again later.
        let _again = join_all(take_back).await;
        for name in old {
            let closing = registry.change(&name.key, name.version, &Proposed::Closed).await;
            if let Err(error) = closing {
                tracing::debug!(%error, row = &*name.key, "a deleted row is not closed");
            }
        }
        if more {
            registry.dead.notify_one();
        }
    }
}

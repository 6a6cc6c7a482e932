//! What is held of subscriptions that are there no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::held::Id;
use super::outlet::Outlet;
use crate::kafka::reader::Error;

impl Outlet {
    /// How many events are held of each subscription, by its id. Nothing where the held topic is not there.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub(super) async fn held_by_subscription(&self) -> Result<BTreeMap<String, usize>, String> {
        let mut all = BTreeMap::new();
        for id in self.all_held().await? {
            if let Some(id) = Id::read(&id) {
                *all.entry(id.subscription.to_owned()).or_default() += 1;
            }
        }
        Ok(all)
    }

    /// Removes everything that is held of a subscription. Gives how many events.
    ///
    /// # Errors
    /// Kafka does not answer, or does not take it: some may be removed.
    pub(super) async fn forget_held(&self, subscription: &str) -> Result<usize, String> {
        let mut count = 0;
        for id in self.all_held().await? {
            if Id::read(&id).is_some_and(|id| id.subscription == subscription) {
                self.hold(&id, None)
                    .await
                    .map_err(|failure| failure.message.into_owned())?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The ids of all events that are held.
    async fn all_held(&self) -> Result<BTreeSet<String>, String> {
        let topic: Arc<str> = Arc::from(self.held_topic());
        let partitions = match self.reader().partitions(&topic).await {
            Ok(partitions) => partitions,
            Err(Error::UnknownTopic(_)) => return Ok(BTreeSet::new()),
            Err(error) => return Err(format!("cannot read {topic}: {error}")),
        };
        let keys: Vec<(Arc<str>, i32)> = (0..partitions).map(|n| (Arc::clone(&topic), n)).collect();
        let mut ids = BTreeSet::new();
        self.scan(&topic, &keys, |record| {
            let id = record.key.as_deref().map(String::from_utf8_lossy);
            let Some(id) = id.filter(|id| Id::read(id).is_some()) else {
                return;
            };
            if record.value.is_some() {
                ids.insert(id.into_owned());
            } else {
                ids.remove(&*id);
            }
        })
        .await?;
        Ok(ids)
    }
}

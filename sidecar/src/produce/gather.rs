//! Waiting for the fates of one request's records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_proto::v1::Answer;
use tokio::sync::oneshot;

use super::FateSink;
use crate::kafka::record::{Failure, Outcome, Recipient};

/// What became of a record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// In each of its topics, or one for all of them.
    pub(crate) outcomes: Vec<Outcome>,
    /// An earlier record had it.
    pub(crate) replayed: bool,
    /// Its topic, if its template chose that.
    pub(crate) topic: Option<String>,
    /// What its client is answered that waited for a reply.
    pub(crate) answer: Option<Answer>,
}

impl From<Failure> for Told {
    fn from(failure: Failure) -> Self {
        Self {
            outcomes: vec![failure.into()],
            ..Self::default()
        }
    }
}

/// Gathers the outcomes of records whose ids are their positions.
pub(crate) struct Gather(Mutex<Gathered>);

struct Gathered {
    outcomes: Vec<Option<Told>>,
    /// The topics that templates chose, by the record.
    chosen: HashMap<u64, String>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Told>>>,
}

impl Gather {
    /// For this many records; the future resolves when all of them have a fate.
    pub(crate) fn new(records: usize) -> (Arc<Self>, impl Future<Output = Vec<Told>>) {
        let (done, all) = oneshot::channel();
        let gathered = Gathered {
            outcomes: vec![None; records],
            chosen: HashMap::new(),
            missing: records,
            done: Some(done),
        };
        let this = Arc::new(Self(Mutex::new(gathered)));
        this.update(|_| {});
        // Every submission is settled, so that the sender is not dropped unused.
        (this, async move { all.await.unwrap_or_default() })
    }

    fn update(&self, update: impl FnOnce(&mut Gathered)) {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut gathered);
        if gathered.missing == 0
            && let Some(done) = gathered.done.take()
        {
            let all = std::mem::take(&mut gathered.outcomes)
                .into_iter()
                .flatten()
                .collect();
            // The client may have gone.
            drop(done.send(all));
        }
    }
}

impl Gathered {
    fn put(&mut self, position: u64, outcomes: Vec<Outcome>, replayed: bool) {
        let told = Told {
            outcomes,
            replayed,
            topic: self.chosen.remove(&position),
            answer: None,
        };
        let slot = usize::try_from(position)
            .ok()
            .and_then(|at| self.outcomes.get_mut(at));
        if let Some(slot) = slot
            && slot.replace(told).is_none()
        {
            self.missing -= 1;
        }
    }
}

impl Recipient for Gather {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        self.update(|gathered| {
            for (position, outcome) in outcomes.drain(..) {
                gathered.put(position, vec![outcome], false);
            }
        });
    }
}

impl FateSink for Gather {
    fn settle_many(&self, token: u64, outcomes: Vec<Outcome>, replayed: bool) {
        self.update(|gathered| gathered.put(token, outcomes, replayed));
    }

    fn chose(&self, token: u64, topic: &str) {
        self.update(|gathered| drop(gathered.chosen.insert(token, topic.to_owned())));
    }
}

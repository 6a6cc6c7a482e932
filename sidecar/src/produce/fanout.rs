//! A record that goes to several topics: its fate is known when all of them are.

use std::sync::{Arc, Mutex, PoisonError};

use super::FateSink;
use crate::kafka::record::{Outcome, Recipient};

/// Gathers the outcomes of one record.
pub(super) struct FanOut<S> {
    sink: Arc<S>,
    id: u64,
    outcomes: Mutex<Gathered>,
}

struct Gathered {
    by_topic: Vec<Option<Outcome>>,
    missing: usize,
}

impl<S> FanOut<S> {
    /// For the record `id` with this many topics. Tokens are the topics' positions.
    pub(super) fn new(sink: Arc<S>, id: u64, topics: usize) -> Self {
        let gathered = Gathered {
            by_topic: vec![None; topics],
            missing: topics,
        };
        Self {
            sink,
            id,
            outcomes: Mutex::new(gathered),
        }
    }
}

impl<S: FateSink> Recipient for FanOut<S> {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        let mut gathered = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        for (position, outcome) in outcomes.drain(..) {
            let slot = usize::try_from(position)
                .ok()
                .and_then(|at| gathered.by_topic.get_mut(at));
            if let Some(slot) = slot
                && slot.replace(outcome).is_none()
            {
                gathered.missing -= 1;
            }
        }
        if gathered.missing > 0 {
            return;
        }
        let all = std::mem::take(&mut gathered.by_topic);
        drop(gathered);
        if !all.is_empty() {
            self.sink
                .settle_many(self.id, all.into_iter().flatten().collect(), false);
        }
    }
}

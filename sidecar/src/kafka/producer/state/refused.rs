//! A producer of one caller, whose token the brokers do not take: nothing waits for what only another token can mend.

use std::time::Instant;

use sluice_proto::v1::ErrorClass;

use super::State;
use crate::kafka::producer::bag::Bag;
use crate::kafka::record::Failure;
use crate::kafka::trouble::{Kind, Trouble};

impl State {
    /// Refuses what waits, and what comes from now on, if that is what is wrong. What librdkafka has is waited for.
    pub(super) fn refuse_caller(&mut self, trouble: &Trouble, now: Instant, bag: &mut Bag) {
        if !self.limits.of_caller || trouble.kind != Kind::Credentials {
            return;
        }
        let text = format!("the brokers do not accept the caller's token: {}", trouble.detail);
        let failure = Failure::new(ErrorClass::CallerNotAuthenticated, text);
        self.refused = Some(failure.clone());
        let mut waiting = Vec::new();
        for (_, topic) in self.topics.iter() {
            waiting.extend(topic.held.drain(..).map(|held| held.key));
            waiting.extend(topic.take_gathered().into_iter().map(|held| held.key));
        }
        self.gathering.clear();
        self.held = 0;
        for key in waiting {
            self.settle(key, failure.clone().into(), now, bag);
        }
    }

    /// Whether the brokers do not take the caller's token.
    pub(in crate::kafka::producer) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }
}

//! How a subscription ends: what is under way is finished and committed, and the group is left.

use std::time::Instant;

use super::{LEAVE, Runner};
use crate::subscriptions::engine::hub::Incoming;
use crate::subscriptions::event::Deliver;
use crate::subscriptions::running::State;

impl<D: Deliver> Runner<D> {
    /// Finishes what is under way, until `until` at the latest, and commits.
    pub(super) async fn drain(&mut self, events: &mut Incoming, until: Instant) {
        self.draining = true;
        self.wait_no_more();
        self.board.set(State::Stopping);
        while !self.is_settled() && Instant::now() < until {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => if let Err(error) = self.happened(event) {
                        self.trouble(&error, None);
                        break;
                    },
                    None => break,
                },
                Some(step) = self.steps.join_next() => match self.step(step).await {
                    Ok(_) => {}
                    Err(error) => {
                        self.trouble(&error, None);
                        break;
                    }
                },
                () = tokio::time::sleep_until(until.into()) => {}
            }
            self.close_what_is_done();
        }
        self.metrics
            .abandoned(self.requests.values().map(|request| request.tickets.len()).sum());
        self.requests.clear();
        self.steps.abort_all();
        let progress = self.progress();
        if let Err(error) = self.member.commit(&progress).await {
            self.trouble(&error.to_string(), None);
        }
    }

    /// Whether nothing is under way for events, and no commit is: of two either may be the last.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_busy() && !self.committing && self.handing_over == 0
    }

    /// Leaves the group; what is to be committed is.
    pub(super) async fn leave(&mut self, mut events: Incoming) {
        let handed_over = async { while events.next().await.is_some() {} };
        self.closing.clear();
        if !tokio::join!(self.member.close(LEAVE), handed_over).0 {
            tracing::warn!(
                subscription = &*self.id,
                "leaving the group takes longer than {} s",
                LEAVE.as_secs()
            );
        }
        self.report();
    }
}

//! WebSockets both ways: each record is sent by one of the clients, in turn, and comes to all of them.

use std::time::{Duration, Instant};

use sluice_e2e::Result;

use super::Place;
use super::crowd::{Crowd, Protocol, Tally};
use super::report::Report;
use crate::alone;

impl Place<'_> {
    /// The sidecar with many; and with as many as the service that has a consumer and a producer for each, and that one.
    pub(super) async fn sockets(&self) -> Result<()> {
        let sizes = &self.sizes;
        let mut report = Report::default();
        for (name, clients) in [("sockets", sizes.sockets), ("few-sockets", sizes.consumers)] {
            let (sidecar, address) = self.sidecar(name).await?;
            let pid = alone::pid(&sidecar)?;
            report.push(self.stream("sidecar", pid, address, Protocol::Socket, clients)?);
        }
        let (mut service, address) = self.service("each-sockets").await?;
        report.push(self.stream(
            "a consumer and a producer per client",
            service.pid(),
            address,
            Protocol::Socket,
            sizes.consumers,
        )?);
        service.running()?;
        report.print(&format!(
            "WebSockets both ways, {} records a second to everybody, each sent by one of them",
            sizes.rate
        ));
        Ok(())
    }

    /// Has the clients send records for `time`, one after the other, and has all of them come to all.
    pub(super) fn said(&self, crowd: &mut Crowd, time: Duration) -> Result<Tally> {
        crowd.tally()?;
        let every = Duration::from_secs(1) / self.sizes.rate;
        let begun = Instant::now();
        let (mut sent, mut due) = (0_usize, Duration::ZERO);
        while due < time {
            crowd.read(due.saturating_sub(begun.elapsed()), |tally| tally.ended > 0)?;
            crowd.publish(sent % crowd.len())?;
            sent += 1;
            due += every;
        }
        let sent = u64::try_from(sent)?;
        Self::all_came(crowd, sent, sent)
    }
}

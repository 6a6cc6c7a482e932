//! A subscription's part of a member that several read by, and what takes its place where it has a member of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::Hub;
use crate::kafka::group::{Error, Event, Events, Member, Partition};
use crate::kafka::reader::Offsets;

/// A subscription's part of the member.
pub(in super::super) struct Seat {
    pub(super) hub: Arc<Hub>,
    pub(super) id: Arc<str>,
    pub(super) number: usize,
}

/// What happens to a seat's partitions.
pub(in super::super) struct SeatEvents {
    pub(super) receiver: mpsc::UnboundedReceiver<Event>,
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) changed: Arc<Notify>,
}

impl Seat {
    pub(in super::super) async fn commit(&self, positions: &Offsets, exactly: bool) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        self.hub.commit(&self.id, positions, exactly).await
    }

    pub(in super::super) fn pause(&self, partitions: &[Partition]) -> Result<(), Error> {
        self.hub.pause(&self.id, partitions)
    }

    pub(in super::super) fn resume(&self, partitions: &[Partition]) -> Result<(), Error> {
        self.hub.resume(&self.id, partitions)
    }

    pub(in super::super) fn stand_up(&self) {
        self.hub.stand_up(&self.id, self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stand_up();
    }
}

impl SeatEvents {
    pub(in super::super) async fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await;
        if let Some(Event::Batch(_)) = event {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            self.changed.notify_one();
        }
        event
    }
}

/// A member of a subscription's own, or a part of one.
pub(in super::super) enum Reads {
    /// Of its own.
    Alone(Member),
    /// A part.
    Together(Seat),
}

/// What happens to it.
pub(in super::super) enum Incoming {
    /// To one of its own.
    Alone(Events),
    /// To a part.
    Together(SeatEvents),
}

impl Reads {
    /// As [`Member::commit`].
    ///
    /// # Errors
    /// As of [`Member::commit`].
    pub(in super::super) async fn commit(&self, positions: &Offsets) -> Result<(), Error> {
        match self {
            Self::Alone(member) => member.commit(positions).await,
            Self::Together(seat) => seat.commit(positions, false).await,
        }
    }

    /// Commits positions although others that read the same partitions are not there: nothing is committed over them before the
    /// partitions are read anew.
    ///
    /// # Errors
    /// As of [`Member::commit`].
    pub(in super::super) async fn seek(&self, positions: &Offsets) -> Result<(), Error> {
        match self {
            Self::Alone(member) => member.commit(positions).await,
            Self::Together(seat) => seat.commit(positions, true).await,
        }
    }

    /// As [`Member::pause`].
    ///
    /// # Errors
    /// As of [`Member::pause`].
    pub(in super::super) fn pause(&self, partitions: &[Partition]) -> Result<(), Error> {
        match self {
            Self::Alone(member) => member.pause(partitions),
            Self::Together(seat) => seat.pause(partitions),
        }
    }

    /// As [`Member::resume`].
    ///
    /// # Errors
    /// As of [`Member::resume`].
    pub(in super::super) fn resume(&self, partitions: &[Partition]) -> Result<(), Error> {
        match self {
            Self::Alone(member) => member.resume(partitions),
            Self::Together(seat) => seat.resume(partitions),
        }
    }

    /// Leaves. Gives whether it was done within that time.
    pub(in super::super) async fn close(&self, within: Duration) -> bool {
        match self {
            Self::Alone(member) => member.close(within).await,
            Self::Together(seat) => {
                seat.stand_up();
                true
            }
        }
    }
}

impl Incoming {
    /// The next event; none once it has left. Cancel-safe.
    pub(in super::super) async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Alone(events) => events.next().await,
            Self::Together(events) => events.next().await,
        }
    }
}

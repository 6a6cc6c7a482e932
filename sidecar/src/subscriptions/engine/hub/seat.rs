//! A subscription's part of a member that several read by, and what takes its place where it has a member of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::Hub;
use super::asked::progress_of;
use crate::kafka::group::{Error, Event, Events, Mark, Member, Partition};
use crate::kafka::reader::Offsets;
use crate::subscriptions::engine::progress::{self, Progress, Progresses};

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
    async fn commit(&self, progress: &Progresses) -> Result<(), Error> {
        if progress.is_empty() {
            return Ok(());
        }
        self.hub.commit(&self.id, progress).await
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
    /// Of its own: the subscription's id, and the member.
    Alone(Arc<str>, Member),
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
    /// Commits how far partitions are.
    ///
    /// # Errors
    /// As of [`Member::commit`].
    pub(in super::super) async fn commit(&self, progress: &Progresses) -> Result<(), Error> {
        match self {
            Self::Alone(id, member) => {
                let mark = |(key, progress): (&Partition, &Progress)| {
                    let note = progress::write(progress.position, [(&**id, progress)].into_iter());
                    let offset = progress.position;
                    (key.clone(), Mark { offset, note })
                };
                member.commit_marks(&progress.iter().map(mark).collect()).await
            }
            Self::Together(seat) => seat.commit(progress).await,
        }
    }

    /// How far partitions are, so far as it is committed.
    ///
    /// # Errors
    /// As of [`Member::marks`].
    pub(in super::super) async fn progress(&self, of: &[Partition]) -> Result<Progresses, Error> {
        let (id, marks) = match self {
            Self::Alone(id, member) => (id, member.marks(of).await?),
            Self::Together(seat) => (&seat.id, seat.hub.marks(of).await?),
        };
        let read = |(key, mark): (Partition, Mark)| (key, progress_of(&mark, id));
        Ok(marks.into_iter().map(read).collect())
    }

    /// Commits positions although others that read the same partitions are not there: nothing is committed over them before the
    /// partitions are read anew. What was finished after them is forgotten.
    ///
    /// # Errors
    /// As of [`Member::commit`].
    pub(in super::super) async fn seek(&self, positions: &Offsets) -> Result<(), Error> {
        match self {
            Self::Alone(_, member) => member.commit(positions).await,
            Self::Together(seat) => seat.hub.seek(positions).await,
        }
    }

    /// As [`Member::pause`].
    ///
    /// # Errors
    /// As of [`Member::pause`].
    pub(in super::super) fn pause(&self, partitions: &[Partition]) -> Result<(), Error> {
        match self {
            Self::Alone(_, member) => member.pause(partitions),
            Self::Together(seat) => seat.pause(partitions),
        }
    }

    /// As [`Member::resume`].
    ///
    /// # Errors
    /// As of [`Member::resume`].
    pub(in super::super) fn resume(&self, partitions: &[Partition]) -> Result<(), Error> {
        match self {
            Self::Alone(_, member) => member.resume(partitions),
            Self::Together(seat) => seat.resume(partitions),
        }
    }

    /// Leaves. Gives whether it was done within that time.
    pub(in super::super) async fn close(&self, within: Duration) -> bool {
        match self {
            Self::Alone(_, member) => member.close(within).await,
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

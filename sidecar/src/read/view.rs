//! `view=latest`: the newest record of each key of a topic, kept up to date for as long as somebody asks for it.
//!
//! A view is built by reading the topic from its first record on, and from then on follows the ends as any reader does. What it holds
//! is bounded in keys and bytes; what does not fit is an error that says so, never a part of the topic.

mod state;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub(super) use self::state::{Bounds, Place, State};
use super::failure::{Failure, Kind};
use super::feed::{Feed, Selection};
use super::from::From;
use crate::config::Reset;
use crate::kafka::reader::{Limits, Reader};
use crate::shutdown::{Phase, Shutdown};

/// The most views that there are at once.
const MAX_VIEWS: usize = 16;
/// How long a view stays that nobody asks for.
const IDLE: Duration = Duration::from_secs(60);
/// How long a request waits for a view that is being built.
const BUILD: Duration = Duration::from_secs(5);
/// How often partitions are looked for that the topic did not have, and whether anybody still asks.
const LOOK: Duration = Duration::from_secs(5);
/// How long Kafka is left alone when it did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// What is read at once.
const PIECE: Limits = Limits {
    records: 500,
    bytes: 1024 * 1024,
};

/// The views of all topics that are asked for.
#[derive(Default)]
pub(super) struct Views(Arc<Mutex<Vec<Arc<View>>>>);

/// One topic's view.
pub(super) struct View {
    topic: Arc<str>,
    /// Of one client: what was built with others' certificates is not gone on with.
    reader: Arc<Reader>,
    bounds: Bounds,
    state: Mutex<State>,
    /// How far it is.
    progress: watch::Sender<Progress>,
    asked: Mutex<Instant>,
}

/// How far a view is.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Whether it has all that was in the topic.
    ready: bool,
    /// Goes up when a key's record changes.
    changes: u64,
    /// Why it is none.
    failed: Option<Failure>,
}

impl Views {
    /// The view of a topic, with all that is in the topic; it is built if there is none.
    pub(super) async fn of(
        &self,
        reader: &Arc<Reader>,
        topic: &Arc<str>,
        bounds: Bounds,
        shutdown: &Shutdown,
    ) -> Result<Arc<View>, Failure> {
        let view = self.find(reader, topic, bounds, shutdown)?;
        let until = Instant::now() + BUILD;
        let mut progress = view.progress.subscribe();
        let done = progress.wait_for(|progress| progress.ready || progress.failed.is_some());
        match timeout_at(until, done).await {
            Ok(Ok(progress)) => progress.failed.clone().map_or(Ok(()), Err)?,
            Ok(Err(_)) | Err(_) => {
                let records = view.lock().seen();
                return Err(Failure::new(
                    Kind::Unavailable,
                    format!(
                        "the view of topic {topic} is being built, and has {records} records so far: ask again"
                    ),
                ));
            }
        }
        Ok(view)
    }

    fn find(
        &self,
        reader: &Arc<Reader>,
        topic: &Arc<str>,
        bounds: Bounds,
        shutdown: &Shutdown,
    ) -> Result<Arc<View>, Failure> {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |view: &&Arc<View>| {
            Arc::ptr_eq(&view.reader, reader) && view.topic == *topic && view.bounds == bounds
        };
        if let Some(view) = views.iter().find(same) {
            view.asked_now();
            return Ok(Arc::clone(view));
        }
        if views.len() >= MAX_VIEWS {
            return Err(Failure::new(
                Kind::Overloaded,
                format!(
                    "there are {MAX_VIEWS} views, which is all that there may be: one goes when nobody has asked for it for {} s",
                    IDLE.as_secs()
                ),
            ));
        }
        let view = Arc::new(View {
            topic: Arc::clone(topic),
            reader: Arc::clone(reader),
            bounds,
            state: Mutex::new(State::new(bounds)),
            progress: watch::Sender::new(Progress::default()),
            asked: Mutex::new(Instant::now()),
        });
        views.push(Arc::clone(&view));
        let (all, shutdown) = (Arc::clone(&self.0), shutdown.clone());
        let kept = Arc::clone(&view);
        tokio::spawn(async move {
            if let Err(failure) = kept.keep(shutdown).await {
                *kept.lock() = State::new(bounds);
                kept.progress
                    .send_modify(|progress| progress.failed = Some(failure));
                // Whoever asks meanwhile is told the same without the topic being read for each.
                tokio::time::sleep(LOOK).await;
            }
            let mut views = all.lock().unwrap_or_else(PoisonError::into_inner);
            views.retain(|view| !Arc::ptr_eq(view, &kept));
        });
        Ok(view)
    }
}

impl View {
    /// What it holds.
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked_now(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until a key's record changes, or `until`, or the sidecar drains. Cancel-safe.
    pub(super) async fn changed(
        &self,
        tag: &str,
        until: Instant,
        mut shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let mut progress = self.progress.subscribe();
        loop {
            self.asked_now();
            progress.mark_unchanged();
            if let Some(failure) = progress.borrow().failed.clone() {
                return Err(failure);
            }
            if self.lock().tag() != tag {
                return Ok(());
            }
            // Now and then, so that the view knows that somebody is there.
            let next = until.min(Instant::now() + IDLE / 2);
            tokio::select! {
                _changed_or_late = timeout_at(next, progress.changed()) => {}
                () = shutdown.reached(Phase::Draining) => return Ok(()),
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Follows the topic until nobody asks any more.
    async fn keep(&self, mut shutdown: Shutdown) -> Result<(), Failure> {
        let selection = Selection {
            topics: vec![Arc::clone(&self.topic)],
            partition: None,
            cursor: None,
            from: Some(From::Earliest),
            reset: Reset::Earliest,
        };
        let mut feed: Option<Feed> = None;
        let mut look_at = Instant::now() + LOOK;
        loop {
            if shutdown.phase() >= Phase::Draining {
                return Ok(());
            }
            let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.elapsed() > IDLE {
                return Ok(());
            }
            let stepped = tokio::select! {
                stepped = self.step(&mut feed, &selection, &mut look_at) => stepped,
                () = shutdown.reached(Phase::Draining) => return Ok(()),
            };
            if let Err(failure) = stepped {
                if !failure.may_pass() {
                    return Err(failure);
                }
                // What was collected and not applied is read again.
                feed = None;
                *self.lock() = State::new(self.bounds);
                self.progress.send_modify(|progress| progress.ready = false);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn step(
        &self,
        feed: &mut Option<Feed>,
        selection: &Selection,
        look_at: &mut Instant,
    ) -> Result<(), Failure> {
        let feed = match feed {
            Some(feed) => feed,
            None => feed.insert(Feed::open(&self.reader, selection).await?),
        };
        if Instant::now() >= *look_at {
            *look_at = Instant::now() + LOOK;
            feed.look_for_partitions(selection).await?;
        }
        let records = feed.collect(PIECE).await?;
        let moved = feed.moved();
        let mut changed = false;
        {
            let mut state = self.lock();
            for moved in &moved {
                // The topic was made anew, or retention passed the reader: what was read is from another log, or has a gap.
                changed |= state.forget(moved.partition);
            }
            for record in &records {
                changed |= state.apply(record)?;
            }
            state.at(feed.cursor());
        }
        let ready = records.is_empty() && feed.caught_up();
        self.progress.send_if_modified(|progress| {
            let news = changed || (ready && !progress.ready);
            progress.changes += u64::from(changed);
            progress.ready |= ready;
            news
        });
        if ready {
            feed.wait(*look_at).await?;
        }
        Ok(())
    }
}

//! The thread that writes: everything that came while it waited for the disk in one transaction.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;

use super::follow::Place;
use super::state::{Command, Queued, Removal, State, Waiting};
use super::store::{Book, Changes, Done};
use super::{Shared, drainer, tell};
use crate::kafka::error::unknown;
use crate::kafka::record::{Failure, Outcome};

/// How long the removal of a delivered record may wait for company. A crash within it has the record delivered again.
const REMOVE_WITHIN: Duration = Duration::from_millis(20);
/// So many removals do not wait, and are made at once.
const REMOVE_AT: usize = 1000;
/// So many are made beside records that are added, or an eighth of those that wait if that is more.
const REMOVE_BESIDE: usize = 100;
/// A file is made small when this much is free in it, all that is in it is no more than that, and nothing has been written
/// for so long: what is moved then takes a moment only.
const FREE: u64 = 64 * 1024 * 1024;
const FULL: u64 = 4 * 1024 * 1024;
const QUIET: Duration = Duration::from_secs(5);
/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What there is to do.
enum Task {
    Write(Box<Batch>),
    /// Give free space back.
    Compact,
}

/// What is written together.
struct Batch {
    changes: Changes,
    appended: Vec<Queued>,
    command: Option<Command>,
    /// The places of the keys of what is removed.
    places: Vec<Option<Place>>,
}

/// The thread.
pub(super) fn run(shared: &Shared, book: Book) {
    let mut book = Some(book);
    let mut written = true;
    while let Some(task) = next(shared, written) {
        // Once after each burst, whatever came of it.
        written = matches!(task, Task::Write(_));
        book = match task {
            Task::Write(batch) => write(shared, book, *batch),
            Task::Compact => book.and_then(|book| compact(shared, book)),
        };
    }
}

fn compact(shared: &Shared, book: Book) -> Option<Book> {
    let Err(error) = shared.store.compact() else {
        return Some(book);
    };
    tracing::error!(%error, "the spool's free space cannot be given back");
    // As it was, or opened again before the next write.
    shared.store.reopen().ok()
}

/// When the file is to be made small, if nothing comes until then.
fn compact_at(shared: &Shared, state: &State, now: Instant) -> Option<Instant> {
    let held = state.stored.bytes + state.dead.bytes;
    let sparse = held <= FULL && !state.closing && shared.store.size() > FREE;
    sparse.then_some(now + QUIET)
}

/// Waits for something to write; `None` to stop.
fn next(shared: &Shared, written: bool) -> Option<Task> {
    let mut state = shared.lock();
    let compact = compact_at(shared, &state, Instant::now()).filter(|_| written);
    loop {
        let now = Instant::now();
        // After a failure the next attempt is put off, unless it is the last.
        let rest = state.broken.as_ref().map(|(_, until)| *until);
        let rest = rest.filter(|until| now < *until && !state.closing);
        let urgent = !state.append.is_empty() || !state.bury.is_empty() || !state.commands.is_empty();
        let due = state.remove_since.map(|since| since + REMOVE_WITHIN);
        let removable = state.remove.len() + state.sent.len();
        let many = removable >= REMOVE_AT || state.closing;
        let removals = removable > 0 && (many || due.is_some_and(|due| due <= now));
        if rest.is_none() && (urgent || removals) {
            return Some(Task::Write(Box::new(take(&mut state))));
        }
        if state.closing {
            return None;
        }
        if rest.is_none() && compact.is_some_and(|at| at <= now) {
            return Some(Task::Compact);
        }
        let until = rest.or(due).or(compact);
        state = match until {
            Some(until) => {
                let left = until.saturating_duration_since(now);
                shared
                    .writer
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => shared.writer.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

fn take(state: &mut State) -> Batch {
    let mut batch = Batch {
        changes: Changes::default(),
        appended: Vec::new(),
        command: None,
        places: Vec::new(),
    };
    // By itself: when it fails, what it did is not mistaken for what others did.
    if !state.commands.is_empty() {
        let mut command = state.commands.remove(0);
        for removal in std::mem::take(&mut command.discard) {
            batch.changes.remove.push((removal.lane, removal.number));
            batch.places.push(removal.place);
        }
        batch.changes.replay.clone_from(&command.replay);
        batch.changes.forget.clone_from(&command.forget);
        batch.command = Some(command);
        return batch;
    }
    batch.appended = std::mem::take(&mut state.append);
    let changes = &mut batch.changes;
    for queued in &mut batch.appended {
        let encoded = std::mem::take(&mut queued.encoded);
        changes.append.push((queued.lane.clone(), encoded));
    }
    // Who waits for an answer must not wait for the removal of all that was delivered meanwhile; but no fewer than come.
    let removals = match changes.append.is_empty() {
        true => state.remove.len().min(REMOVE_AT),
        false => state.remove.len().min(REMOVE_BESIDE.max(state.remove.len() / 8)),
    };
    for removal in state.remove.drain(..removals) {
        changes.remove.push((removal.lane, removal.number));
        batch.places.push(removal.place);
    }
    changes.sent = std::mem::take(&mut state.sent);
    if state.remove.is_empty() {
        state.remove_since = None;
    }
    changes.bury = std::mem::take(&mut state.bury);
    batch
}

/// Writes a batch. `book` is none when the file could not be opened again after a failure, and so is what is returned.
fn write(shared: &Shared, book: Option<Book>, batch: Batch) -> Option<Book> {
    let lost = book.is_none();
    let opened = book.map_or_else(|| shared.store.reopen(), Ok);
    let mut book = match opened {
        Ok(book) => book,
        Err(error) => {
            let why = error.to_string();
            failed(shared, None, batch, &refusal(&why).into(), &why);
            return None;
        }
    };
    if lost {
        // What was written last may be there, and nobody knows what it is.
        let mut state = shared.lock();
        let known = state.newest;
        state.adopt(&book, known, shared.settings.grace);
    }
    let before = book.next();
    let begun = Instant::now();
    let error = match shared.store.commit(&mut book, &batch.changes) {
        Ok(done) => {
            shared.metrics.synced(begun.elapsed());
            wrote(shared, &book, batch, &done);
            return Some(book);
        }
        Err(error) => error,
    };
    let why = error.to_string();
    tracing::error!(why, "the spool cannot be written");
    match shared.store.reopen() {
        Ok(book) => {
            // Every transaction that appends moves the number on: what failed may be there all the same, and is on the
            // disk then, since opening the file wrote to it again.
            let survived = book.next() != before;
            let outcome = if survived {
                Outcome::Accepted
            } else {
                refusal(&why).into()
            };
            failed(shared, Some(&book), batch, &outcome, &why);
            Some(book)
        }
        Err(error) => {
            let outcome = unknown(format!("the spool failed: {why}; and again: {error}"));
            failed(shared, None, batch, &outcome.into(), &why);
            None
        }
    }
}

fn refusal(why: &str) -> Failure {
    Failure::new(
        ErrorClass::SidecarUnavailable,
        format!("the spool cannot be written: {why}"),
    )
}

/// Everything is on the disk: the records may go, and those who sent them are told.
fn wrote(shared: &Shared, book: &Book, batch: Batch, done: &Done) {
    let Batch {
        changes,
        appended,
        command,
        places,
    } = batch;
    let grace = shared.settings.grace;
    let mut state = shared.lock();
    state.newest = book.next();
    if state.broken.take().is_some() {
        tracing::info!("the spool can be written again");
    }
    let mut accepted = Vec::with_capacity(appended.len());
    for (((lane, number), queued), (_, encoded)) in done.appended.iter().zip(appended).zip(&changes.append) {
        let size = encoded.len();
        state.queued = state.queued.saturating_sub(size as u64);
        accepted.extend(state.waiting.try_remove(queued.waiting));
        let lanes = state.lanes.len();
        let at = *lane;
        let lane = state.lane(at, &queued.lane, grace);
        lane.oldest_ms.get_or_insert(queued.entry.spooled_ms);
        // What comes right behind what is in memory need not be read again.
        if lane.window.last() == lane.newest && drainer::has_room(&lane.window, lanes) {
            lane.window.push(*number, queued.entry, size);
        }
        lane.newest = *number;
        state.touch(at);
    }
    for (lane, number, key) in &done.replayed {
        if let Some(row) = book.lanes.get(lane) {
            let row = row.lane();
            state.lane(*lane, &row, grace).newest = *number;
            state.touch(*lane);
            if let Some(place) = state.place(&row, key.as_ref()) {
                state.following.count(place);
            }
        }
    }
    let buried = changes.bury.iter();
    let buried = buried.map(|(_, _, letter)| (letter.lane(), letter.entry.key.as_ref()));
    let buried: Vec<_> = buried.map(|(lane, key)| state.place(&lane, key)).collect();
    for place in places.into_iter().chain(buried).flatten() {
        state.following.uncount(place);
    }
    // A lane without records is forgotten; it has none under way either, since what is under way is on the disk.
    for lane in &done.emptied {
        if let Some(lane) = state.lanes.remove(lane) {
            state.unread.remove(&lane.lane);
        }
    }
    state.amount(book);
    shared.tell_followed(&state);
    for number in &changes.sent {
        state.letters.gone(*number);
    }
    if shared.settings.dead_letters.is_some() {
        for (_, number, _) in &changes.bury {
            state.letters.add(*number);
        }
    }
    drop(state);
    shared.drainer.notify_one();
    if !changes.bury.is_empty() {
        shared.letters.notify_one();
    }
    tell_all(accepted, &Outcome::Accepted);
    if let Some(command) = command {
        // Who asked may have gone.
        drop(
            command
                .reply
                .send(Ok((done.replayed.len() as u64, done.forgotten))),
        );
    }
}

/// Nothing is on the disk, as far as is known: those who sent records are told so, and what is known about others
/// is kept for the next attempt.
fn failed(shared: &Shared, book: Option<&Book>, batch: Batch, outcome: &Outcome, why: &str) {
    let Batch {
        changes,
        appended,
        command,
        places,
    } = batch;
    let mut state = shared.lock();
    let sizes = changes.append.iter().map(|(_, encoded)| encoded.len() as u64);
    state.queued = state.queued.saturating_sub(sizes.sum());
    // Those that are there all the same are still to be followed.
    let survived = matches!(outcome, Outcome::Accepted);
    for place in appended
        .iter()
        .filter(|_| !survived)
        .filter_map(|queued| queued.place)
    {
        state.following.uncount(place);
    }
    let waiting: Vec<Waiting> = appended
        .iter()
        .filter_map(|queued| state.waiting.try_remove(queued.waiting))
        .collect();
    if !changes.remove.is_empty() || !changes.sent.is_empty() {
        state.remove_since.get_or_insert_with(Instant::now);
    }
    let removals = changes.remove.iter().zip(places);
    state
        .remove
        .extend(removals.map(|((lane, number), place)| Removal {
            lane: *lane,
            number: *number,
            place,
        }));
    state.sent.extend(changes.sent);
    state.bury.extend(changes.bury);
    state.broken = Some((why.to_owned(), Instant::now() + PAUSE));
    // What is there all the same is read from there.
    if let Some(book) = book {
        // Dead letters that were replayed are counted when they are read, other records are already.
        let known = match command {
            Some(_) => state.newest,
            None => book.next(),
        };
        state.newest = book.next();
        state.adopt(book, known, shared.settings.grace);
    }
    shared.tell_followed(&state);
    drop(state);
    shared.drainer.notify_one();
    tell_all(waiting, outcome);
    if let Some(command) = command {
        // Who asked may have gone.
        let why = format!("the spool cannot be written: {why}");
        drop(command.reply.send(Err(why)));
    }
}

/// Tells neighbours with the same recipient in one call.
fn tell_all(waiting: Vec<Waiting>, outcome: &Outcome) {
    let mut waiting = waiting.into_iter().peekable();
    let mut batch = Vec::new();
    while let Some(Waiting { receipt, .. }) = waiting.next() {
        batch.push((receipt.token, outcome.clone()));
        let same = |next: &Waiting| std::sync::Arc::ptr_eq(&next.receipt.recipient, &receipt.recipient);
        if !waiting.peek().is_some_and(same) {
            receipt.recipient.settle(&mut batch);
            batch.clear();
        }
    }
}

/// Tells those whose records are not on the disk in time.
pub(super) fn expire(shared: &Shared, state: &mut State, now: Instant) -> Vec<Waiting> {
    let late: Vec<usize> = state
        .waiting
        .iter()
        .filter(|(_, waiting)| waiting.deadline <= now)
        .map(|(key, _)| key)
        .collect();
    if !late.is_empty() {
        tracing::error!(
            records = late.len(),
            directory = %shared.settings.directory.display(),
            "the spool's disk is too slow: records are not on it in time"
        );
    }
    late.into_iter()
        .filter_map(|key| state.waiting.try_remove(key))
        .collect()
}

/// Tells them.
pub(super) fn tell_late(waiting: Vec<Waiting>) {
    for waiting in waiting {
        tell(
            waiting.receipt,
            unknown("the spool's disk did not take the record in time").into(),
        );
    }
}

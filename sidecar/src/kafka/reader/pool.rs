//! A bounded number of clients, each of which goes to whatever offset is asked for next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::native::{Queue, Source, Started, Taken};
use super::{Batch, Error, Limits, PATIENCE, client_config};
use crate::kafka::connection::Connection;

/// - `fetch.queue.backoff.ms`: how soon more is fetched once all was taken.
/// - `queued.max.messages.kbytes`: what may be fetched and not be taken, per partition; a client reads one at a time.
const DEFAULTS: [(&str, &str); 4] = [
    ("fetch.error.backoff.ms", "100"),
    ("fetch.queue.backoff.ms", "2"),
    ("queued.max.messages.kbytes", "1024"),
    ("reconnect.backoff.max.ms", "1000"),
];

/// - `fetch.wait.max.ms`: a partition that is at its end holds up what the client is asked for next for so long.
/// - `queued.min.messages`: nothing is fetched while there is something.
const NEEDED: [(&str, &str); 2] = [("fetch.wait.max.ms", "10"), ("queued.min.messages", "1")];

/// A client's configuration.
pub(super) fn config(connection: &Connection) -> ClientConfig {
    client_config(connection, &DEFAULTS, &NEEDED)
}

/// The clients.
pub(super) struct Pool {
    connection: Arc<Connection>,
    room: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Arc<Source>>>>,
}

impl Pool {
    /// At most `clients`, made when they are first needed.
    pub(super) fn new(connection: Arc<Connection>, clients: usize) -> Self {
        Self {
            connection,
            room: Arc::new(Semaphore::new(clients)),
            idle: Arc::default(),
        }
    }

    /// How many clients there are while none reads.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a client to be free.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        let room = Arc::clone(&self.room).acquire_owned();
        match tokio::time::timeout(PATIENCE, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(Error::Unavailable(format!(
                "no client was free to read within {} s; max_readers says how many there are",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Has the client read that `room` is for.
    pub(super) async fn read(
        &self,
        room: OwnedSemaphorePermit,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
        limits: Limits,
    ) -> Result<Batch, Error> {
        let (connection, idle, topic) = (
            Arc::clone(&self.connection),
            Arc::clone(&self.idle),
            Arc::clone(topic),
        );
        let read = tokio::task::spawn_blocking(move || {
            let found = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let source = match found {
                Some(source) => source,
                None => Source::new(&connection, &config(&connection)).map_err(Error::Unavailable)?,
            };
            let batch = read(&source, &topic, partition, offset, limits);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(source);
            drop(room);
            batch
        });
        read.await
            .map_err(|error| Error::Unavailable(error.to_string()))?
    }
}

fn read(
    source: &Arc<Source>,
    topic: &Arc<str>,
    partition: i32,
    offset: i64,
    limits: Limits,
) -> Result<Batch, Error> {
    source.serve();
    let deadline = Instant::now() + PATIENCE;
    // A queue of its own: nothing of an earlier read comes into it.
    let queue = Queue::new(source).ok_or_else(|| Error::Unavailable("no memory for a queue".to_owned()))?;
    let _started = Started::new(&queue, topic, partition, offset).map_err(|code| {
        Error::of(code, topic, partition, offset).unwrap_or_else(|| Error::Unavailable(code.to_string()))
    })?;
    let mut batch = Batch {
        records: Vec::new(),
        next: offset,
        ended: false,
    };
    let (mut bytes, mut trouble, mut heard) = (0, None, false);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let most = limits.records.saturating_sub(batch.records.len());
        if most == 0 {
            return Ok(batch);
        }
        if left.is_zero() {
            let why = trouble.unwrap_or_else(|| format!("nothing came within {} s", PATIENCE.as_secs()));
            return if heard {
                Ok(batch)
            } else {
                Err(Error::Unavailable(why))
            };
        }
        for taken in queue.take(left, most, |_| Arc::clone(topic)) {
            match taken {
                Taken::Record(record) => {
                    heard = true;
                    bytes += record.size();
                    if bytes > limits.bytes && !batch.records.is_empty() {
                        return Ok(batch);
                    }
                    batch.next = record.offset.saturating_add(1);
                    batch.records.push(Arc::new(record));
                }
                Taken::End { next, .. } => {
                    batch.next = batch.next.max(next);
                    batch.ended = true;
                    return Ok(batch);
                }
                Taken::Failed { code, text, .. } => match Error::of(code, topic, partition, batch.next) {
                    // What came before it is good, and the next read says it again.
                    Some(_) if !batch.records.is_empty() => return Ok(batch),
                    Some(error) => return Err(error),
                    None => trouble = Some(text),
                },
            }
        }
        if batch.records.len() < limits.records {
            source.serve();
        }
    }
}

//! Steady load, and the check that every answer was true.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::kafka::Record;
use crate::wait;

/// Several clients, each posting one record after another, every one with a value of its own.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Sent>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicUsize,
    answers: Mutex<HashMap<u16, usize>>,
}

impl Shared {
    fn count(&self, status: u16) {
        *self
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(status)
            .or_default() += 1;
    }
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The record's value, which no other has.
    pub value: String,
    /// The status; 0 if no answer came.
    pub status: u16,
    /// The `code` of an error; what happened if no answer came.
    pub code: String,
    /// `x-kafka-partition` and `x-kafka-offset`, where the answer has them.
    pub stored_at: Option<(i32, i64)>,
    /// From the request to its answer.
    pub took: Duration,
}

impl Load {
    /// Starts `clients` of them on `path`, whose route must make the body the record's value. A client waits
    /// for `pause` after each answer.
    pub fn start(client: &Client, path: &str, clients: usize, pause: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let run = |_| post_until_stopped(client.clone(), path.to_owned(), pause, Arc::clone(&shared));
        let clients = (0..clients).map(run).collect();
        Self { shared, clients }
    }

    /// How many answers had this status so far; 0 stands for none at all.
    pub fn answered(&self, status: u16) -> usize {
        let answers = self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&status).copied().unwrap_or(0)
    }

    /// Waits for `more` further answers of this status.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait_for(&self, more: usize, status: u16) -> Result<()> {
        self.wait_for_any(more, &[status]).await
    }

    /// Waits for `more` further answers of any of these statuses.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait_for_any(&self, more: usize, statuses: &[u16]) -> Result<()> {
        let answered = || {
            statuses
                .iter()
                .map(|status| self.answered(*status))
                .sum::<usize>()
        };
        let goal = answered() + more;
        wait::until(
            &format!("{more} more answers of {statuses:?}"),
            Duration::from_secs(60),
            async || {
                let answers = self
                    .shared
                    .answers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                ensure!(answered() >= goal, "answers so far: {answers:?}");
                Ok(())
            },
        )
        .await
    }

    /// Stops the clients once each has its last answer, and gives all that was sent.
    ///
    /// # Errors
    /// When a client has failed.
    pub async fn finish(mut self) -> Result<Vec<Sent>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(sent) = self.clients.join_next().await {
            all.extend(sent.context("a client of the load")?);
        }
        Ok(all)
    }
}

async fn post_until_stopped(client: Client, path: String, pause: Duration, shared: Arc<Shared>) -> Vec<Sent> {
    let mut all = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let value = format!("value-{:08}", shared.next.fetch_add(1, Ordering::Relaxed));
        let start = Instant::now();
        let reply = client.post(&path, "text/plain", value.clone()).await;
        let took = start.elapsed();
        let sent = match reply {
            Ok(reply) => {
                let at = || {
                    Some((
                        reply.header("x-kafka-partition").parse().ok()?,
                        reply.header("x-kafka-offset").parse().ok()?,
                    ))
                };
                Sent {
                    value,
                    status: reply.status,
                    code: reply.code(),
                    stored_at: at(),
                    took,
                }
            }
            Err(error) => Sent {
                value,
                status: 0,
                code: format!("{error:#}"),
                stored_at: None,
                took,
            },
        };
        shared.count(sent.status);
        all.push(sent);
        tokio::time::sleep(pause).await;
    }
    all
}

/// How many requests were answered how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// 200.
    pub stored: usize,
    /// 503.
    pub refused: usize,
    /// 504.
    pub unknown: usize,
}

/// Checks each answer against what the topic holds: a 200 is there exactly once, where the answer says; a 503
/// is not there; a 504 is there at most once; there is no other answer, and no record that nobody sent.
///
/// # Errors
/// With the answers that were not true.
pub fn truthful(sent: &[Sent], records: &[Record]) -> Result<Tally> {
    let mut places: HashMap<&[u8], Vec<(i32, i64)>> = HashMap::new();
    for record in records {
        let value = record.value.as_deref().context("a null value")?;
        places
            .entry(value)
            .or_default()
            .push((record.partition, record.offset));
    }
    let mut tally = Tally::default();
    let mut untrue = Vec::new();
    for one in sent {
        let found = places.remove(one.value.as_bytes()).unwrap_or_default();
        let fits = match (one.status, found.as_slice()) {
            (200, [place]) => one.stored_at.is_none_or(|said| said == *place),
            (503, found) => found.is_empty(),
            (504, found) => found.len() <= 1 && one.code == "outcome_unknown",
            _ => false,
        };
        match one.status {
            200 => tally.stored += 1,
            503 => tally.refused += 1,
            _ => tally.unknown += 1,
        }
        if !fits {
            untrue.push(format!("{one:?} is at {found:?}"));
        }
    }
    let count = untrue.len();
    untrue.truncate(10);
    ensure!(
        count == 0,
        "{count} untrue answers of {} ({tally:?}):\n{}",
        sent.len(),
        untrue.join("\n")
    );
    ensure!(places.is_empty(), "{} records that nobody sent", places.len());
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &str, status: u16, stored_at: Option<(i32, i64)>) -> Sent {
        let code = if status == 504 { "outcome_unknown" } else { "" };
        Sent {
            value: value.into(),
            status,
            code: code.into(),
            stored_at,
            took: Duration::ZERO,
        }
    }

    fn record(value: &str, offset: i64) -> Record {
        Record {
            partition: 0,
            offset,
            key: None,
            value: Some(value.into()),
            headers: std::collections::BTreeMap::new(),
            timestamp_ms: 0,
        }
    }

    #[test]
    fn true_answers_are_counted() {
        let all = [
            sent("a", 200, Some((0, 0))),
            sent("b", 503, None),
            sent("c", 504, None),
            sent("d", 504, None),
        ];
        let tally = truthful(&all, &[record("a", 0), record("c", 1)]).unwrap();
        assert_eq!(
            tally,
            Tally {
                stored: 1,
                refused: 1,
                unknown: 2
            }
        );
    }

    #[test]
    fn every_lie_is_found() {
        let lost = truthful(&[sent("a", 200, None)], &[]);
        let twice = truthful(&[sent("a", 200, None)], &[record("a", 0), record("a", 1)]);
        let elsewhere = truthful(&[sent("a", 200, Some((0, 5)))], &[record("a", 0)]);
        let stored_after_all = truthful(&[sent("a", 503, None)], &[record("a", 0)]);
        let unknown_twice = truthful(&[sent("a", 504, None)], &[record("a", 0), record("a", 1)]);
        let other_status = truthful(&[sent("a", 500, None)], &[]);
        let no_answer = truthful(&[sent("a", 0, None)], &[]);
        let from_nowhere = truthful(&[], &[record("a", 0)]);
        for lie in [
            lost,
            twice,
            elsewhere,
            stored_after_all,
            unknown_twice,
            other_status,
            no_answer,
            from_nowhere,
        ] {
            assert!(lie.is_err(), "{lie:?}");
        }
    }
}

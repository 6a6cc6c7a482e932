//! What the sidecar says of itself, over its restarts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_e2e::client::Client;

/// How often its counters are read.
pub const LOOK: Duration = Duration::from_millis(50);

/// What the sidecar says became of what it had answered 2xx.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Of what was only accepted: lost for sure (`sluice_buffered_lost_total`).
    pub lost: u64,
    /// Of that, perhaps lost: the same with the outcome `outcome_unknown`.
    pub perhaps_lost: u64,
    /// Of what one broker had acknowledged: given up by its successor (`sluice_leader_lost_total`).
    pub leader_lost: u64,
    /// Spooled records that were tried again though they may be stored (`sluice_spool_perhaps_twice_total`).
    pub perhaps_twice: u64,
    /// Spooled records that became dead letters (`sluice_spool_dead_letters_total`).
    pub dead_letters: u64,
}

impl Told {
    fn of(counters: &BTreeMap<String, u64>) -> Self {
        let sum = |name: &str, only: &dyn Fn(&str) -> bool| {
            let of_name = counters.iter().filter(|(sample, _)| {
                let rest = sample.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{')) && only(sample)
            });
            of_name.map(|(_, count)| count).sum()
        };
        let unknown = |sample: &str| sample.contains("outcome_unknown");
        Self {
            lost: sum("sluice_buffered_lost_total", &|sample| !unknown(sample)),
            perhaps_lost: sum("sluice_buffered_lost_total", &unknown),
            leader_lost: sum("sluice_leader_lost_total", &|_| true),
            perhaps_twice: sum("sluice_spool_perhaps_twice_total", &|_| true),
            dead_letters: sum("sluice_spool_dead_letters_total", &|_| true),
        }
    }
}

/// The sidecar's counters, added up over its restarts.
#[derive(Debug)]
pub struct Counters {
    read: Arc<Mutex<Total>>,
    stop: Arc<AtomicBool>,
}

impl Counters {
    /// Reads them again and again until it is dropped.
    pub fn watch(admin: Client) -> Self {
        let read = Arc::new(Mutex::new(Total::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (total, stopped) = (Arc::clone(&read), Arc::clone(&stop));
        let admin = admin.within(Duration::from_secs(1));
        tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(reply) = admin.get("/metrics").await {
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(counters(&reply.text()));
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { read, stop }
    }

    /// What it told until about now.
    pub fn told(&self) -> Told {
        let total = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        Told::of(&total.sum())
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Every counter by its sample's name and labels.
fn counters(metrics: &str) -> BTreeMap<String, u64> {
    let sample = |line: &str| {
        let (sample, count) = line.rsplit_once(' ')?;
        let name = sample.split('{').next()?;
        let count = count.parse().ok().filter(|_| name.ends_with("_total"))?;
        Some((sample.to_owned(), count))
    };
    metrics.lines().filter_map(sample).collect()
}

#[derive(Debug, Default)]
struct Total {
    before: BTreeMap<String, u64>,
    now: BTreeMap<String, u64>,
}

impl Total {
    fn add(&mut self, read: BTreeMap<String, u64>) {
        // A counter that is less than it was belongs to another process.
        let less = |(sample, count): (&String, &u64)| read.get(sample).is_none_or(|now| now < count);
        if self.now.iter().any(less) {
            self.before = self.sum();
        }
        self.now = read;
    }

    fn sum(&self) -> BTreeMap<String, u64> {
        let mut sum = self.before.clone();
        for (sample, count) in &self.now {
            *sum.entry(sample.clone()).or_default() += count;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_adds_up_over_restarts() {
        let of = |surely, perhaps, dead| {
            counters(&format!(
                "sluice_buffered_lost_total{{topic=\"t\",outcome=\"cluster_unavailable\"}} {surely}\n\
                 sluice_buffered_lost_total{{topic=\"t\",outcome=\"outcome_unknown\"}} {perhaps}\n\
                 sluice_spool_dead_letters_total{{code=\"expired\"}} {dead}\n\
                 sluice_spool_perhaps_twice_total 1\nother_total 7\nsluice_spool_dead_letters 5\n"
            ))
        };
        let mut total = Total::default();
        for read in [of(1, 0, 0), of(2, 3, 1), of(0, 0, 2), of(4, 1, 2)] {
            total.add(read);
        }
        let told = Told {
            lost: 6,
            perhaps_lost: 4,
            leader_lost: 0,
            perhaps_twice: 2,
            dead_letters: 3,
        };
        assert_eq!(Told::of(&total.sum()), told);
    }

    #[test]
    fn a_process_that_counts_less_than_another_did_is_another_one() {
        let mut total = Total::default();
        for text in ["a_total 3", "", "a_total 1\nb_total 1", "a_total 2\nb_total 1"] {
            total.add(counters(text));
        }
        assert_eq!(total.sum().into_values().collect::<Vec<_>>(), [5, 1]);
    }
}

//! What must hold while more comes than fits: about what fits is served, in time, and the rest is refused at once.

use std::time::Duration;

use crate::ledger::{Answer, Entry};

/// What a fault that sends more than fits must keep.
#[derive(Debug, Clone, Copy)]
pub struct Sheds {
    /// At least so many requests a second are answered 2xx while it lasts.
    pub served: f64,
    /// The middle one of these takes at most so long, and of twenty only one takes longer than twice that.
    pub within: Duration,
    /// At most so many in a thousand are answered that nobody knows.
    pub unknown: usize,
    /// The sidecar's memory never passes so many MB.
    pub memory: u64,
}

/// A refusal that takes longer than this was not made at once. Far longer than one takes, since the machine may be busy.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Of twenty refusals, nineteen take at most this part of what the middle one of those takes that are served.
const SOONER: u32 = 4;

/// How many refusals took too long beside what was served, to be at once: the time that nineteen of twenty of them took, and
/// what it may be. `None` if that was kept. Whatever the machine's pace, it is that of both.
pub fn slow_to_refuse(served: &mut [Duration], refused: &mut [Duration]) -> Option<(Duration, Duration)> {
    served.sort_unstable();
    refused.sort_unstable();
    let took = *refused.get(refused.len() * 95 / 100)?;
    let most = *served.get(served.len() / 2)? / SOONER;
    (took > most).then_some((took, most))
}

/// What was promised and not kept by the requests that were due between `begun` and `healed`.
pub fn judge(
    sheds: &Sheds,
    ledger: &[Entry],
    (begun, healed): (Duration, Duration),
    memory: Option<u64>,
) -> Vec<String> {
    let during: Vec<&Entry> = ledger
        .iter()
        .filter(|entry| entry.due > begun && entry.due <= healed)
        .collect();
    let mut broken = Vec::new();
    let mut took: Vec<Duration> = during
        .iter()
        .filter(|entry| entry.is_success())
        .map(|entry| entry.took())
        .collect();
    took.sort_unstable();
    let seconds = healed.saturating_sub(begun).as_secs_f64();
    let least = sheds.served * seconds;
    if (took.len() as f64) < least {
        broken.push(format!("{} served, not {least:.0}", took.len()));
    }
    let quicker_than = |part: usize, bound: Duration| {
        let at = took.get(took.len() * part / 100).copied().unwrap_or_default();
        (at > bound).then(|| format!("of those served {part} % took up to {at:?}, not {bound:?}"))
    };
    broken.extend(quicker_than(50, sheds.within));
    broken.extend(quicker_than(95, sheds.within * 2));
    let of_status = |status| during.iter().filter(move |entry| entry.status() == Some(status));
    let unknown = of_status(504).count();
    if unknown * 1000 > during.len() * sheds.unknown {
        broken.push(format!("{unknown} of {} answered 504", during.len()));
    }
    let mut refusals: Vec<Duration> = of_status(503).map(|entry| entry.took()).collect();
    if let Some((took, most)) = slow_to_refuse(&mut took, &mut refusals) {
        broken.push(format!(
            "of the refusals 95 % took up to {took:?}, not {most:?}, beside what was served"
        ));
    }
    let refused = refusals.len();
    let late = of_status(503).filter(|entry| entry.took() > AT_ONCE).count();
    if late * 100 > refused {
        broken.push(format!(
            "{late} of {refused} refusals took longer than {AT_ONCE:?}"
        ));
    }
    let full = of_status(503)
        .filter(|entry| matches!(&entry.answer, Answer::Status { code, .. } if code == "buffer_full"));
    let otherwise = refused - full.count();
    if otherwise * 100 > refused {
        broken.push(format!(
            "{otherwise} of {refused} refusals were not for want of room"
        ));
    }
    if let Some(memory) = memory.filter(|memory| *memory > sheds.memory) {
        broken.push(format!("the sidecar had {memory} MB, not {}", sheds.memory));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);
    const SHEDS: Sheds = Sheds {
        served: 50.0,
        within: S,
        unknown: 10,
        memory: 100,
    };

    /// Ten seconds of 600 requests, of which one in ten is served.
    fn well() -> Vec<Entry> {
        let entry = |id: u32| {
            let served = id.is_multiple_of(10);
            let (status, code) = if served { (200, "") } else { (503, "buffer_full") };
            let due = S + S * id / 600;
            Entry {
                id: id.into(),
                key: String::new(),
                due,
                sent: due,
                answered: due + if served { S / 2 } else { MS },
                answer: Answer::Status {
                    status,
                    code: code.to_owned(),
                    place: None,
                },
                poison: false,
            }
        };
        (1..6000).map(entry).collect()
    }

    fn broken(change: impl Fn(&mut Entry)) -> usize {
        let mut ledger = well();
        ledger.iter_mut().for_each(change);
        judge(&SHEDS, &ledger, (S, S * 11), Some(50)).len()
    }

    #[test]
    fn each_promise_is_looked_at() {
        assert_eq!(broken(|_| {}), 0);
        assert_eq!(judge(&SHEDS, &well(), (S, S * 11), Some(101)).len(), 1);
        let answers = |status, code: &str| Answer::Status {
            status,
            code: code.to_owned(),
            place: None,
        };
        // Too little is served.
        assert_eq!(
            broken(|entry| if entry.id.is_multiple_of(20) {
                entry.answer = answers(503, "buffer_full");
                entry.answered = entry.due + MS;
            }),
            1
        );
        // Half of what is served, and a tenth of it, takes too long.
        for (part, late) in [(20, S * 3 / 2), (100, S * 3)] {
            let late = |entry: &mut Entry| {
                if entry.is_success() && (entry.id.is_multiple_of(part) || part == 20) {
                    entry.answered = entry.due + late;
                }
            };
            assert_eq!(broken(late), 1, "{part}");
        }
        assert_eq!(
            broken(|entry| if entry.id % 50 == 1 {
                entry.answer = answers(504, "outcome_unknown");
            }),
            1
        );
        assert_eq!(
            broken(|entry| if entry.id % 50 == 1 {
                entry.answered = entry.due + S;
            }),
            1
        );
        // Not late for the machine, and as late as what is served.
        assert_eq!(
            broken(|entry| if !entry.is_success() {
                entry.answered = entry.due + S / 5;
            }),
            1
        );
        assert_eq!(
            broken(|entry| if entry.id % 50 == 1 {
                entry.answer = answers(503, "cluster_unavailable");
            }),
            1
        );
    }
}

//! One fault in one mode: load, the fault, the read-back and the judgement.

use std::time::Duration;

use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::{Context, Result};
use tokio::time::sleep;

use crate::compare::{Counts, PROMPT, Seen, compare, seen};
use crate::faults::{Fault, Keeps};
use crate::load::Plan;
use crate::mode::{Mode, Promise};
use crate::shed;
use crate::world::{Ground, Lost, World, settled};

/// How long all modes of a fault may take together.
const LIMIT: Duration = Duration::from_secs(600);

/// How long the load goes on.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Before the fault.
    pub before: Duration,
    /// After it is over.
    pub after: Duration,
}

/// What `make faults` takes.
pub const FULL: Pace = Pace {
    before: Duration::from_secs(3),
    after: Duration::from_secs(5),
};
/// What `make test` does.
pub const SHORT: Pace = Pace {
    before: Duration::from_secs(1),
    after: Duration::from_secs(2),
};

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The fault's name.
    pub fault: &'static str,
    /// The mode's.
    pub mode: &'static str,
    /// What became of the records.
    pub counts: Counts,
    /// What the clients saw.
    pub seen: Seen,
    /// What the sidecar says it lost.
    pub lost: Lost,
    /// The sidecar's largest memory, in MB.
    pub peak: Option<u64>,
    /// What was promised and not kept.
    pub broken: Vec<String>,
}

/// Runs a fault in each of the modes.
///
/// # Errors
/// When it could not be run. A promise that was not kept is in [`Outcome::broken`].
pub fn run(fault: &Fault, modes: &[Mode], pace: Pace) -> Result<Vec<Outcome>> {
    scenario_within(LIMIT, &format!("faults-{}", fault.name), async |s| {
        let mut ground = Ground::start(s, fault.shape).await?;
        let mut outcomes = Vec::new();
        for mode in modes {
            let outcome = one(s, &mut ground, fault, mode, pace);
            outcomes.push(
                outcome
                    .await
                    .with_context(|| format!("{} {}", fault.name, mode.name))?,
            );
        }
        Ok(outcomes)
    })
}

async fn one(s: &Scenario, ground: &mut Ground, fault: &Fault, mode: &Mode, pace: Pace) -> Result<Outcome> {
    let mut world = World::start(s, ground, mode, fault.settings, Plan::default()).await?;
    world.flowing(Duration::from_secs(20)).await?;
    sleep(pace.before).await;
    let begun = world.load.now();
    (fault.inflict)(&mut world).await.context("the fault")?;
    let healed = world.load.now();
    let keeps = fault.keeps;
    if !keeps.ends {
        // Longer than is allowed, so that it can be told how long it takes.
        world
            .flowing(keeps.recovers_within + Duration::from_secs(30))
            .await?;
        sleep(pace.after).await;
    }
    let peak = world.sidecar_peak();
    let lasted = world.load.now();
    let ledger = world.load.finish().await?;
    if !keeps.ends {
        settled(&world.rig).await?;
        world.rig.envoy.healthy()?;
    }
    // Two looks of it.
    sleep(Duration::from_millis(150)).await;
    let lost = world.counters.lost();
    let records = world.kafka.records(&world.topic).await?;
    let counts = compare(&ledger, &records, world.deleted);
    let seen = seen(&ledger, healed, lasted);
    let mut broken = judge(&counts, &seen, lost, mode, &keeps);
    if let Some(sheds) = keeps.sheds.filter(|_| mode.promise == Promise::Stored) {
        broken.extend(shed::judge(&sheds, &ledger, (begun, healed), peak));
    }
    Ok(Outcome {
        fault: fault.name,
        mode: mode.name,
        counts,
        seen,
        lost,
        peak,
        broken,
    })
}

/// What was promised and not kept.
pub fn judge(counts: &Counts, seen: &Seen, lost: Lost, mode: &Mode, keeps: &Keeps) -> Vec<String> {
    let mut broken = Vec::new();
    let mut none = |count: usize, what: &str| {
        if count > 0 {
            broken.push(format!("{count} {what}"));
        }
    };
    none(counts.unanswered, "without an answer");
    none(counts.duplicates, "duplicates");
    none(
        counts.stored_though_failed,
        "stored though it was said that they are not",
    );
    none(counts.misplaced, "not where the answer said");
    none(counts.order_broken, "out of their key's order");
    none(counts.foreign, "records that nobody sent");
    for (status, count) in &counts.others {
        if !keeps.answers.contains(status) {
            none(*count, &format!("answered {status}"));
        }
    }
    match mode.promise {
        Promise::Stored => none(counts.lost, "acknowledged and missing"),
        Promise::Held => {
            let (least, most) = (lost.surely, lost.surely + lost.perhaps);
            let missing = counts.lost as u64;
            // What went with its topic may be either.
            if missing + (counts.gone as u64) < least || missing > most + keeps.untold as u64 {
                broken.push(format!(
                    "{missing} accepted and missing, of which the sidecar tells {least} to {most}"
                ));
            }
        }
    }
    if counts.success == 0 {
        broken.push("no success at all".to_owned());
    }
    let noticed = counts.success < counts.sent || seen.longest > PROMPT;
    if keeps.felt && mode.promise == Promise::Stored && !noticed {
        broken.push("nobody noticed: nothing was shown".to_owned());
    }
    if !keeps.ends && seen.recovered_after > keeps.recovers_within {
        broken.push(format!(
            "as before only {:.1} s after it was over, not {:.1}",
            seen.recovered_after.as_secs_f64(),
            keeps.recovers_within.as_secs_f64()
        ));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPS: Keeps = Keeps {
        recovers_within: Duration::from_secs(2),
        answers: &[404],
        untold: 0,
        ends: false,
        felt: false,
        sheds: None,
    };

    fn mode(promise: Promise) -> Mode {
        Mode {
            name: "m",
            promise,
            settings: &[],
        }
    }

    fn well() -> Counts {
        Counts {
            success: 10,
            ..Counts::default()
        }
    }

    fn judged(counts: &Counts, promise: Promise) -> usize {
        judge(counts, &Seen::default(), Lost::default(), &mode(promise), &KEEPS).len()
    }

    #[test]
    fn each_promise_is_looked_at() {
        assert_eq!(judged(&well(), Promise::Stored), 0);
        assert_eq!(judged(&Counts::default(), Promise::Stored), 1);
        let breaks: [fn(&mut Counts) -> &mut usize; 7] = [
            |c| &mut c.unanswered,
            |c| &mut c.duplicates,
            |c| &mut c.stored_though_failed,
            |c| &mut c.misplaced,
            |c| &mut c.order_broken,
            |c| &mut c.foreign,
            |c| &mut c.lost,
        ];
        for field in breaks {
            let mut counts = well();
            *field(&mut counts) = 1;
            assert_eq!(judged(&counts, Promise::Stored), 1);
            assert_eq!(judged(&counts, Promise::Held), 1);
        }
        let mut counts = well();
        counts.others = [(404, 1), (500, 2)].into();
        assert_eq!(judged(&counts, Promise::Stored), 1);
        let late = Seen {
            recovered_after: Duration::from_secs(3),
            ..Seen::default()
        };
        let felt = Keeps { felt: true, ..KEEPS };
        let stored = mode(Promise::Stored);
        let broken = |sent| {
            let counts = Counts { sent, ..well() };
            judge(&counts, &Seen::default(), Lost::default(), &stored, &felt).len()
        };
        assert_eq!((broken(10), broken(11)), (1, 0));
        assert_eq!(
            judge(&well(), &late, Lost::default(), &mode(Promise::Stored), &KEEPS).len(),
            1
        );
    }

    #[test]
    fn what_was_held_and_lost_is_what_the_sidecar_tells() {
        let told = Lost {
            surely: 3,
            perhaps: 2,
        };
        let with = |lost| {
            let counts = Counts { lost, ..well() };
            judge(&counts, &Seen::default(), told, &mode(Promise::Held), &KEEPS).is_empty()
        };
        assert_eq!([2, 3, 5, 6].map(with), [false, true, true, false]);
    }
}

//! One fault in one mode: load, the fault, the read-back and the judgement.

use std::time::Duration;

use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::{Context, Result};
use tokio::time::sleep;

use crate::compare::{Counts, Meanwhile, PROMPT, Seen, compare, seen};
use crate::evidence;
use crate::faults::{Fault, Keeps};
use crate::load::Plan;
use crate::mode::{Mode, Promise};
use crate::shed;
use crate::told::{LOOK, Told};
use crate::world::{Ground, World, settled};

/// How long a fault may take in one mode.
const LIMIT: Duration = Duration::from_secs(300);
/// How long before something is broken an answer may have been given that turns out wrong by it, and how long after it
/// works again.
const AROUND: Duration = Duration::from_secs(1);

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
    /// What the sidecar says.
    pub told: Told,
    /// The sidecar's largest memory, in MB.
    pub peak: Option<u64>,
    /// What was promised and not kept.
    pub broken: Vec<String>,
}

/// Runs a fault in each of the modes that it is run in, and gives each outcome to `each`, at once.
///
/// # Errors
/// When it could not be run. A promise that was not kept is in [`Outcome::broken`].
pub fn run(
    fault: &Fault,
    modes: &[Mode],
    pace: Pace,
    mut each: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    let modes: Vec<&Mode> = modes.iter().filter(|mode| fault.meets(mode)).collect();
    let limit = LIMIT * u32::try_from(modes.len())?;
    scenario_within(limit, &format!("faults-{}", fault.name), async |s| {
        let mut ground = Ground::start(s, fault.shape).await?;
        for mode in modes {
            let outcome = one(s, &mut ground, fault, mode, pace).await;
            each(outcome.with_context(|| format!("{} {}", fault.name, mode.name))?)?;
        }
        Ok(())
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
    let over = world.load.now();
    let peak = world.sidecar_peak();
    let lasted = world.load.now();
    let ledger = world.load.finish().await?;
    if !keeps.ends {
        settled(&world.rig).await?;
        world.rig.envoy.healthy()?;
    } else {
        world.deliver_the_rest(mode).await?;
    }
    sleep(LOOK * 3).await;
    let told = world.counters.told();
    let records = world.kafka.records(&world.topic).await?;
    let meanwhile = Meanwhile {
        deleted: world.deleted,
        fault: Some((begun.saturating_sub(AROUND), over + AROUND)),
    };
    let counts = compare(&ledger, &records, &meanwhile);
    let seen = seen(&ledger, healed, lasted);
    let mut broken = judge(&counts, &seen, told, mode, &keeps);
    if let Some(sheds) = keeps.sheds.filter(|_| mode.promise == Promise::Stored) {
        broken.extend(shed::judge(&sheds, &ledger, (begun, healed), peak));
    }
    if !broken.is_empty() {
        let began = world.load.began();
        let run = evidence::Run {
            began,
            ledger: &ledger,
            records: &records,
            batches: &world.kafka.batches(&world.topic)?,
            counts: &counts,
            events: &[
                (began + begun, format!("{} begins", fault.name)),
                (began + healed, format!("{} is over", fault.name)),
            ],
        };
        run.keep(s, mode.name)?;
    }
    Ok(Outcome {
        fault: fault.name,
        mode: mode.name,
        counts,
        seen,
        told,
        peak,
        broken,
    })
}

/// What was promised and not kept.
pub fn judge(counts: &Counts, seen: &Seen, told: Told, mode: &Mode, keeps: &Keeps) -> Vec<String> {
    let mut broken = Vec::new();
    let mut none = |count: usize, what: &str| {
        if count > 0 {
            broken.push(format!("{count} {what}"));
        }
    };
    none(counts.unanswered, "without an answer");
    none(
        counts.stored_though_failed,
        "stored though it was said that they are not",
    );
    none(counts.misplaced, "not where the answer said");
    none(counts.foreign, "records that nobody sent");
    for (status, count) in &counts.others {
        if !keeps.answers.contains(status) {
            none(*count, &format!("answered {status}"));
        }
    }
    // Who does not wait for every replica, or is not idempotent, gives up both.
    let strict = !matches!(mode.promise, Promise::Led | Promise::Sent);
    if strict {
        none(counts.order_broken, "out of their key's order");
    }
    let (missing, gone) = (counts.lost as u64, counts.gone as u64);
    match mode.promise {
        Promise::Stored => {
            none(counts.duplicates, "duplicates");
            none(counts.lost, "acknowledged and missing");
        }
        Promise::Spooled => {
            let placed = counts.duplicates - counts.unplaced_duplicates;
            none(placed, "duplicates of records that were answered where they are");
            let twice = counts.unplaced_duplicates as u64;
            let may = told.perhaps_twice + keeps.untold_twice as u64;
            if twice > may {
                broken.push(format!(
                    "{twice} duplicates, of which the sidecar tells {}",
                    told.perhaps_twice
                ));
            }
            if missing > told.dead_letters || missing + gone < told.dead_letters {
                broken.push(format!(
                    "{missing} accepted and missing, and {} dead letters",
                    told.dead_letters
                ));
            }
        }
        Promise::Held => {
            none(counts.duplicates, "duplicates");
            let (least, most) = (told.lost, told.lost + told.perhaps_lost);
            // What went with its topic may be either.
            if missing + gone < least || missing > most + keeps.untold as u64 {
                broken.push(format!(
                    "{missing} accepted and missing, of which the sidecar tells {least} to {most}"
                ));
            }
        }
        Promise::Led => {
            none(counts.duplicates_elsewhen, "duplicates while nothing was broken");
            none(
                counts.lost_elsewhen,
                "acknowledged and missing while nothing was broken",
            );
            if missing != told.leader_lost {
                broken.push(format!(
                    "{missing} acknowledged and missing, of which the sidecar tells {}",
                    told.leader_lost
                ));
            }
        }
        Promise::Sent => {
            none(counts.duplicates_elsewhen, "duplicates while nothing was broken");
            none(counts.lost_elsewhen, "sent and missing while nothing was broken");
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
        untold_twice: 0,
        ends: false,
        felt: false,
        modes: &[],
        sheds: None,
    };

    fn mode(promise: Promise) -> Mode {
        Mode {
            name: "m",
            promise,
            route: "{}",
            settings: &[],
            faults: &[],
        }
    }

    fn well() -> Counts {
        Counts {
            success: 10,
            ..Counts::default()
        }
    }

    fn judged(counts: &Counts, promise: Promise) -> usize {
        judge(counts, &Seen::default(), Told::default(), &mode(promise), &KEEPS).len()
    }

    #[test]
    fn each_promise_is_looked_at() {
        use Promise::{Held, Led, Sent, Spooled, Stored};
        type Field = fn(&mut Counts) -> &mut usize;
        const ALL: &[Promise] = &[Stored, Spooled, Held, Led, Sent];
        assert_eq!(judged(&Counts::default(), Stored), 1);
        let breaks: [(Field, &[Promise]); 10] = [
            (|c| &mut c.unanswered, ALL),
            (|c| &mut c.stored_though_failed, ALL),
            (|c| &mut c.misplaced, ALL),
            (|c| &mut c.foreign, ALL),
            (|c| &mut c.duplicates, &[Stored, Spooled, Held]),
            (|c| &mut c.order_broken, &[Stored, Spooled, Held]),
            (|c| &mut c.lost, &[Stored, Spooled, Held, Led]),
            (|c| &mut c.lost_elsewhen, &[Led, Sent]),
            (|c| &mut c.duplicates_elsewhen, &[Led, Sent]),
            (|c| &mut c.gone, &[]),
        ];
        for promise in ALL {
            assert_eq!(judged(&well(), *promise), 0);
            for (at, (field, by)) in breaks.iter().enumerate() {
                let mut counts = well();
                *field(&mut counts) = 1;
                let found = judged(&counts, *promise);
                assert_eq!(found, usize::from(by.contains(promise)), "{at} {promise:?}");
            }
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
            judge(&counts, &Seen::default(), Told::default(), &stored, &felt).len()
        };
        assert_eq!((broken(10), broken(11)), (1, 0));
        assert_eq!(
            judge(&well(), &late, Told::default(), &mode(Promise::Stored), &KEEPS).len(),
            1
        );
    }

    #[test]
    fn what_is_missing_or_twice_is_what_the_sidecar_tells() {
        let told = Told {
            lost: 3,
            perhaps_lost: 2,
            leader_lost: 4,
            perhaps_twice: 3,
            dead_letters: 5,
        };
        let kept = |promise, counts: Counts, keeps: &Keeps| {
            judge(&counts, &Seen::default(), told, &mode(promise), keeps).is_empty()
        };
        let lost = |promise, lost| kept(promise, Counts { lost, ..well() }, &KEEPS);
        assert_eq!(
            [2, 3, 5, 6].map(|n| lost(Promise::Held, n)),
            [false, true, true, false]
        );
        assert_eq!([4, 5, 6].map(|n| lost(Promise::Spooled, n)), [false, true, false]);
        assert_eq!([3, 4, 5].map(|n| lost(Promise::Led, n)), [false, true, false]);
        let twice = |duplicates, untold_twice| {
            let counts = Counts {
                duplicates,
                unplaced_duplicates: duplicates,
                lost: 5,
                ..well()
            };
            let keeps = Keeps {
                untold_twice,
                ..KEEPS
            };
            kept(Promise::Spooled, counts, &keeps)
        };
        assert_eq!([twice(3, 0), twice(4, 0), twice(4, 1)], [true, false, true]);
    }
}

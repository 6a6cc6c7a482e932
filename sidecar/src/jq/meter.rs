//! What one evaluation may take, counted while it runs.
//!
//! jaq has no bounds of its own. It is generic over its values and over the data that it passes along, though, and both are ours:
//! every term that it evaluates asks our data for the program ([`Held::lut`]), and every value is built, copied, compared and
//! calculated with by [`super::value`]. Both count here. Whoever has taken all that may be taken unwinds from there to
//! [`run`], past everything that a program could catch.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use jaq_core::data::{DataT, HasLut};
use jaq_core::{Lut, ValT};

use super::value::Value;

/// The most steps that an evaluation may be given: what its thread has of stack is enough for what so many can nest.
const MAX_STEPS: u64 = 1_000_000;

/// What one evaluation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Terms evaluated and values handled; a million at most.
    pub steps: u64,
    /// Bytes of all values that are made, those that are gone included.
    pub bytes: u64,
    /// Bytes of all that is put out, as JSON.
    pub output: usize,
    /// Time. Steps end nearly everything long before: it is for what they count badly.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: MAX_STEPS,
            bytes: 64 * 1024 * 1024,
            output: 4 * 1024 * 1024,
            time: Duration::from_secs(1),
        }
    }
}

/// How deep a value may be nested. JSON that is read is at most 127 deep (serde_json).
pub(super) const MAX_DEPTH: u16 = 256;
/// How much of its thread's stack an evaluation may take, in bytes.
const STACK: usize = 16 * 1024 * 1024;
/// The stack that a thread needs which evaluates: what an evaluation may take, and what it takes to let go of what it has
/// made. The most that is nested is a list with some entries per step, which is let go of by a call for each.
pub(super) const THREAD_STACK: usize = STACK + 496 * 1024 * 1024;
/// The most places that an evaluation comes back to at once: some hundred bytes of heap each.
const MAX_PLACES: u32 = 200_000;
/// The clock is read once in so many steps.
const CLOCK: u64 = 64;

/// A bound, reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bound {
    /// [`Limits::steps`].
    #[error("takes more than {0} steps: have it do less, or less at once")]
    Steps(u64),
    /// [`Limits::bytes`].
    #[error("makes more than {0} bytes of values: have it do less, or less at once")]
    Bytes(u64),
    /// [`Limits::output`].
    #[error("gives more than {0} bytes: have it select what is needed")]
    Output(usize),
    /// [`Limits::time`].
    #[error("takes longer than {} ms: have it do less, or less at once", .0.as_millis())]
    Time(Duration),
    /// The nesting of a value.
    #[error("makes a value that is nested more than {MAX_DEPTH} deep")]
    Depth,
    /// The nesting of calls.
    #[error("calls itself too deep: end its recursion, or have it call itself last")]
    Recursion,
    /// The places to come back to.
    #[error("keeps more than {MAX_PLACES} ways to go on: have it give less at once")]
    Places,
}

/// What unwinds: a marker, the reason is in the meter.
struct Over;

struct Meter {
    /// Whether anything is bounded: an evaluation runs.
    on: Cell<bool>,
    steps: Cell<u64>,
    bytes: Cell<u64>,
    places: Cell<u32>,
    /// The lowest address that the stack may reach.
    floor: Cell<usize>,
    until: Cell<Option<Instant>>,
    limits: Cell<Option<Limits>>,
    reached: Cell<Option<Bound>>,
}

thread_local! {
    static METER: Meter = const {
        Meter {
            on: Cell::new(false),
            steps: Cell::new(0),
            bytes: Cell::new(0),
            places: Cell::new(0),
            floor: Cell::new(0),
            until: Cell::new(None),
            limits: Cell::new(None),
            reached: Cell::new(None),
        }
    };
}

/// Why an evaluation did not end by itself.
pub(super) enum Ended {
    /// It reached a bound.
    Bound(Bound),
    /// A panic, by a fault of jaq or of ours.
    Panic,
}

/// Runs `evaluate` within `limits`. Its thread has [`THREAD_STACK`], next to nothing of which is in use.
///
/// Where a bound is reached it is unwound, and the bound is given.
pub(super) fn run<T>(limits: Limits, evaluate: impl FnOnce() -> T) -> Result<T, Ended> {
    let limits = Limits {
        steps: limits.steps.min(MAX_STEPS),
        ..limits
    };
    METER.with(|meter| {
        meter.steps.set(limits.steps);
        meter.bytes.set(limits.bytes);
        meter.places.set(0);
        meter.floor.set(here().saturating_sub(STACK));
        meter.until.set(Instant::now().checked_add(limits.time));
        meter.limits.set(Some(limits));
        meter.reached.set(None);
        meter.on.set(true);
    });
    let ended = catch_unwind(AssertUnwindSafe(evaluate));
    METER.with(|meter| {
        meter.on.set(false);
        ended.map_err(|why: Box<dyn Any + Send>| match meter.reached.get() {
            Some(bound) if why.is::<Over>() => Ended::Bound(bound),
            _ => Ended::Panic,
        })
    })
}

/// Where the stack is now: an address, and nothing that is read.
fn here() -> usize {
    let mark = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&mark)).addr()
}

#[cold]
fn over(meter: &Meter, bound: Bound) {
    // What is let go of while it unwinds must not unwind again: that would end the process.
    if !std::thread::panicking() {
        meter.reached.set(Some(bound));
        resume_unwind(Box::new(Over));
    }
}

fn limits(meter: &Meter) -> Limits {
    meter.limits.get().unwrap_or_default()
}

/// Counts `n` steps.
pub(super) fn steps(n: usize) {
    METER.with(|meter| count_steps(meter, n as u64));
}

fn count_steps(meter: &Meter, n: u64) {
    if !meter.on.get() {
        return;
    }
    let left = meter.steps.get();
    let Some(next) = left.checked_sub(n) else {
        return over(meter, Bound::Steps(limits(meter).steps));
    };
    meter.steps.set(next);
    if left / CLOCK != next / CLOCK
        && let Some(until) = meter.until.get()
        && Instant::now() > until
    {
        over(meter, Bound::Time(limits(meter).time));
    }
}

/// Counts `n` bytes of a value that is made. Called before it is.
pub(super) fn bytes(n: usize) {
    METER.with(|meter| {
        if !meter.on.get() {
            return;
        }
        match meter.bytes.get().checked_sub(n as u64) {
            Some(left) => meter.bytes.set(left),
            None => return over(meter, Bound::Bytes(limits(meter).bytes)),
        }
        // To copy is work.
        count_steps(meter, n as u64 / 256);
    });
}

/// Checks how deep a value is nested that is made.
pub(super) fn depth(depth: u16) {
    if depth > MAX_DEPTH {
        METER.with(|meter| {
            if meter.on.get() {
                over(meter, Bound::Depth);
            }
        });
    }
}

/// Ends an evaluation whose output is too large.
pub(super) fn too_much_output(most: usize) {
    METER.with(|meter| {
        if meter.on.get() {
            over(meter, Bound::Output(most));
        }
    });
}

/// What an evaluation passes along: the program. Each copy is a place where it goes on later.
pub(super) struct Held<'a> {
    lut: &'a Lut<Data>,
}

impl<'a> Held<'a> {
    /// Of a program.
    pub(super) fn new(lut: &'a Lut<Data>) -> Self {
        METER.with(|meter| meter.places.set(meter.places.get() + 1));
        Self { lut }
    }
}

impl Clone for Held<'_> {
    fn clone(&self) -> Self {
        METER.with(|meter| {
            let places = meter.places.get() + 1;
            meter.places.set(places);
            if places > MAX_PLACES && meter.on.get() {
                // It is not made, so that nothing takes it off again.
                meter.places.set(places - 1);
                over(meter, Bound::Places);
                meter.places.set(places);
            }
        });
        Self { lut: self.lut }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        METER.with(|meter| meter.places.set(meter.places.get().saturating_sub(1)));
    }
}

/// What jaq works with here.
pub(super) struct Data;

impl DataT for Data {
    type V<'a> = Value;
    type Data<'a> = Held<'a>;
}

impl<'a> HasLut<'a, Data> for Held<'a> {
    fn lut(&self) -> &'a Lut<Data> {
        METER.with(|meter| {
            count_steps(meter, 1);
            if meter.on.get() && here() < meter.floor.get() {
                over(meter, Bound::Recursion);
            }
        });
        self.lut
    }
}

const _: fn() = || {
    fn is<T: ValT>() {}
    is::<Value>();
};

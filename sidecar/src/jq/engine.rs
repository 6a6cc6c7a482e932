//! Where programs run: threads of their own, since what a program may take of a stack is more than a task has.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jaq_core::{Ctx, Vars, unwrap_valr};
use tokio::sync::oneshot;

use super::meter::{self, Bound, Data, Ended, Held, Limits};
use super::program::Program;
use super::value::{Value, utf8};

/// How many evaluate at once, at most: what all of them may hold is so many times [`Limits::bytes`].
const MAX_THREADS: usize = 4;
/// How many wait for a thread, at most.
const MAX_WAITING: usize = 1024;
/// How long one waits that finds that full before it looks again.
const PAUSE: Duration = Duration::from_millis(5);

type Job = Box<dyn FnOnce(&mut Turn) + Send>;

/// Why a program gave nothing, or not all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It failed by itself: `error`, or an operation that its values do not have. The text is bounded.
    #[error("{0}")]
    Error(String),
    /// It reached a bound.
    #[error("{0}")]
    Bound(#[from] Bound),
    /// The engine failed.
    #[error("cannot be evaluated: a fault of the jq engine")]
    Fault,
    /// No thread can be started.
    #[error("cannot be evaluated, since no thread can be started")]
    NoThread,
}

/// What an evaluation is within: a thread that has the stack for it. There is no other way to one than [`run`].
pub struct Turn {
    /// Whether much of the stack was touched, which the thread keeps.
    deep: bool,
    _stays: PhantomData<Rc<()>>,
}

impl Turn {
    /// Has `evaluate` run programs, all of them together within `limits`. Values may be made and looked at in it.
    ///
    /// # Errors
    /// What `evaluate` gives, or which bound was reached.
    pub fn within<T>(
        &mut self,
        limits: Limits,
        evaluate: impl FnOnce(&Scope) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let scope = Scope {
            limits,
            _stays: PhantomData,
        };
        match meter::run(limits, || evaluate(&scope)) {
            Ok(ended) => ended,
            Err(ended) => {
                self.deep = true;
                Err(match ended {
                    Ended::Bound(bound) => bound.into(),
                    Ended::Panic => Failure::Fault,
                })
            }
        }
    }
}

/// One evaluation, counted.
pub struct Scope {
    limits: Limits,
    _stays: PhantomData<Rc<()>>,
}

impl Scope {
    /// Runs `program` on `input`, with the values of its variables in their order; `take` has its outputs one by one until it
    /// is false.
    ///
    /// # Errors
    /// What the program says is wrong.
    pub fn outputs(
        &self,
        program: &Program,
        input: Value,
        variables: &[Value],
        mut take: impl FnMut(Value) -> bool,
    ) -> Result<(), Failure> {
        // One that is not there would be a panic.
        let missing = program.variables().saturating_sub(variables.len());
        let variables = variables.iter().cloned();
        let variables = variables.chain(std::iter::repeat_n(Value::Null, missing));
        let lut = &program.filter.lut;
        let context = Ctx::<Data>::new(Held::new(lut), Vars::new(variables));
        for output in program.filter.id.run((context, input)) {
            // No program can halt: the function is left out.
            let output = unwrap_valr(output).map_err(|why| Failure::Error(bounded(why.to_string())))?;
            if !take(output) {
                break;
            }
        }
        Ok(())
    }

    /// As [`Self::outputs`], for a program that is to give one output at most.
    ///
    /// # Errors
    /// What the program says is wrong; and if it gives more.
    pub fn output(
        &self,
        program: &Program,
        input: Value,
        variables: &[Value],
    ) -> Result<Option<Value>, Failure> {
        let mut first = None;
        let mut more = false;
        self.outputs(program, input, variables, |output| {
            more = first.is_some();
            if !more {
                first = Some(output);
            }
            !more
        })?;
        if more {
            return Err(Failure::Error(
                "gives more than one value: put them into an array, […]".to_owned(),
            ));
        }
        Ok(first)
    }

    /// Writes a value as JSON on one line. `out` with it is bounded by [`Limits::output`].
    pub fn write(&self, value: &Value, out: &mut Vec<u8>) {
        value.write(out, self.limits.output);
    }

    /// Writes a value as text: text as it is, anything else as JSON. `out` with it is bounded by [`Limits::output`].
    pub fn write_text(&self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Text(text) => {
                if out.len().saturating_add(text.len()) > self.limits.output {
                    meter::too_much_output(self.limits.output);
                }
                out.extend_from_slice(utf8(text).as_bytes());
            }
            value => self.write(value, out),
        }
    }
}

/// An error's text quotes values, whose beginnings say what they are.
fn bounded(mut text: String) -> String {
    const MOST: usize = 500;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}

struct Engine {
    jobs: SyncSender<Job>,
    waiting: Mutex<Receiver<Job>>,
    /// How many threads there are.
    threads: AtomicUsize,
}

static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();

impl Engine {
    /// The one that there is, with as many threads as it is to have, or as there can be.
    fn get() -> Result<&'static Arc<Self>, Failure> {
        let engine = ENGINE.get_or_init(|| {
            let (jobs, waiting) = sync_channel(MAX_WAITING);
            Arc::new(Self {
                jobs,
                waiting: Mutex::new(waiting),
                threads: AtomicUsize::new(0),
            })
        });
        let wanted = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = wanted.min(MAX_THREADS);
        let one_more = |threads| (threads < wanted).then_some(threads + 1);
        let reserve = || {
            engine
                .threads
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        };
        while reserve().is_ok() && Self::start(engine) {}
        if engine.threads.load(Ordering::Relaxed) == 0 {
            return Err(Failure::NoThread);
        }
        Ok(engine)
    }

    /// Starts a thread that is counted already: whether it is there. If not, it is not counted any more.
    fn start(this: &Arc<Self>) -> bool {
        let engine = Arc::clone(this);
        let started = std::thread::Builder::new()
            .name("jq".to_owned())
            .stack_size(meter::THREAD_STACK)
            .spawn(move || engine.work());
        if let Err(error) = &started {
            this.threads.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(%error, "a thread for jq programs cannot be started");
        }
        started.is_ok()
    }

    fn work(self: Arc<Self>) {
        let mut turn = Turn {
            deep: false,
            _stays: PhantomData,
        };
        loop {
            let job = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if catch_unwind(AssertUnwindSafe(|| job(&mut turn))).is_err() {
                tracing::error!("a job of the jq engine panicked");
            }
            // The pages of the stack that were touched go with the thread; another takes its place, or this one stays.
            if std::mem::take(&mut turn.deep) {
                self.threads.fetch_add(1, Ordering::Relaxed);
                if Self::start(&self) {
                    self.threads.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

/// Runs `job` on a thread that can evaluate programs, when one is free.
///
/// # Errors
/// There is no such thread.
pub async fn run<T: Send + 'static>(job: impl FnOnce(&mut Turn) -> T + Send + 'static) -> Result<T, Failure> {
    let engine = Engine::get()?;
    let (done, result) = oneshot::channel();
    let mut job: Job = Box::new(move |turn| {
        // Who went away waits for nothing.
        if !done.is_closed() {
            done.send(job(turn)).unwrap_or_default();
        }
    });
    loop {
        match engine.jobs.try_send(job) {
            Ok(()) => break,
            Err(TrySendError::Full(back)) => {
                job = back;
                tokio::time::sleep(PAUSE).await;
            }
            Err(TrySendError::Disconnected(_)) => return Err(Failure::NoThread),
        }
    }
    result.await.map_err(|_| Failure::Fault)
}

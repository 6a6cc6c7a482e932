//! A program, compiled once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Filter, compile, load};

use super::meter::Data;
use super::natives;

/// The longest program, in bytes.
pub const MAX_PROGRAM: usize = 8 * 1024;
/// Every byte of a program may be a call of the parser within the one before: `((((`.
const STACK: usize = 512 * 1024 * 1024;
/// How many compiled programs are kept, whoever asks for them.
const KEPT: usize = 256;

/// A program and the names that it may use.
pub struct Program {
    pub(super) filter: Filter<Data>,
    variables: Vec<String>,
    text: String,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.text).finish()
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.variables == other.variables
    }
}

impl Eq for Program {}

static COMPILED: Mutex<VecDeque<Arc<Program>>> = Mutex::new(VecDeque::new());
/// One is compiled at a time: what that takes is that of one stack.
static COMPILING: Mutex<()> = Mutex::new(());

impl Program {
    /// Compiles `text`, which may use `variables` (`$key`, say, each with its dollar). What was compiled a moment ago is not
    /// compiled again. It takes about a millisecond; from a task call it by `spawn_blocking`.
    ///
    /// # Errors
    /// What is wrong, and at which line and column.
    pub fn compile(text: &str, variables: &[&str]) -> Result<Arc<Self>, String> {
        if text.len() > MAX_PROGRAM {
            return Err(format!(
                "has {} bytes, and may have {MAX_PROGRAM}: have it do less",
                text.len()
            ));
        }
        let lock = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |program: &&Arc<Self>| program.text == text && program.variables == variables;
        if let Some(kept) = lock().iter().find(same) {
            return Ok(Arc::clone(kept));
        }
        let compiling = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = std::thread::scope(|scope| {
            let build = || build(text, variables);
            let thread = std::thread::Builder::new()
                .name("jq-compile".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, build)
                .map_err(|why| format!("cannot be compiled, since no thread can be started: {why}"))?;
            thread
                .join()
                .unwrap_or_else(|_| Err("is nothing that the compiler takes".to_owned()))
        });
        drop(compiling);
        let filter = filter?;
        let program = Arc::new(Self {
            filter,
            variables: variables.iter().map(|name| (*name).to_owned()).collect(),
            text: text.to_owned(),
        });
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&program));
        Ok(program)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many values it is given beside its input.
    pub(super) fn variables(&self) -> usize {
        self.variables.len()
    }
}

fn build(text: &str, variables: &[&str]) -> Result<Filter<Data>, String> {
    let arena = Arena::default();
    let file = File { code: text, path: () };
    let modules = Loader::new(natives::definitions())
        .load(&arena, file)
        .map_err(|errors| first(errors.iter().flat_map(|(_, error)| loading(text, error))))?;
    Compiler::default()
        .with_funs(natives::functions())
        .with_global_vars(variables.iter().copied())
        .compile(modules)
        .map_err(|errors| {
            let all = errors.iter().flat_map(|(_, errors)| errors);
            first(all.map(|(found, what)| (at(text, found), undefined(found, what))))
        })
}

fn first(mut errors: impl Iterator<Item = (String, String)>) -> String {
    errors.next().map_or_else(
        || "is no jq program".to_owned(),
        |(place, what)| format!("{what}, {place}"),
    )
}

fn loading(text: &str, error: &load::Error<&str>) -> Vec<(String, String)> {
    match error {
        load::Error::Io(errors) => errors
            .iter()
            .map(|(path, _)| {
                (
                    at(text, path),
                    "reads a file, which no program may (import, include)".to_owned(),
                )
            })
            .collect(),
        load::Error::Lex(errors) => errors
            .iter()
            .map(|(expected, found)| (at(text, found), format!("lacks a {}", expected.as_str())))
            .collect(),
        load::Error::Parse(errors) => errors
            .iter()
            .map(|(expected, found)| (at(text, found), format!("lacks a {}", expected.as_str())))
            .collect(),
    }
}

fn undefined(found: &str, what: &compile::Undefined) -> String {
    match what {
        compile::Undefined::Filter(0) => format!("calls {found}, which is not there"),
        compile::Undefined::Filter(arity) => {
            format!("calls {found} with {arity} arguments, which is not there")
        }
        what => format!("uses the {} {found}, which is not there", what.as_str()),
    }
}

/// Where a part of the program is, for a person. What is not a part of it is at its end.
fn at(text: &str, part: &str) -> String {
    let start = text.as_ptr().addr();
    let byte = part
        .as_ptr()
        .addr()
        .checked_sub(start)
        .filter(|at| *at <= text.len())
        .unwrap_or(text.len());
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("at line {line}, column {column}")
}

//! jq programs that anybody may write, and templates that have such programs in them.
//!
//! jaq evaluates them; it has no bounds. Here nothing that a program does takes a thread for ever, memory beyond a bound, or
//! the process: ARCHITECTURE.md says how.

mod engine;
mod json;
mod meter;
mod natives;
mod program;
pub mod template;
#[cfg(test)]
mod tests;
mod value;

pub use self::engine::{Failure, Scope, Turn, run};
pub use self::meter::{Bound, Limits};
pub use self::program::{MAX_PROGRAM, Program};
pub use self::template::Template;
pub use self::value::Value;

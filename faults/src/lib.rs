//! Faults, counted: load through Envoy at a steady rate, something that breaks, and the comparison of every answer
//! with what the topic holds in the end.
//!
//! [`faults::FAULTS`] is what breaks, [`mode::MODES`] what a success promises, [`run::run`] one against the other.
//! `docs/faults.md` has the table.

pub mod compare;
pub mod evidence;
pub mod faults;
pub mod ledger;
pub mod link;
pub mod load;
pub mod mode;
pub mod run;
pub mod shed;
pub mod soak;
pub mod table;
pub mod told;
pub mod world;

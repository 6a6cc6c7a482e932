//! The filter's configuration: what was written, and what it means once merged and checked.

mod route;

pub use route::{
    CloudEvents, Delivery, Forward, HeaderRules, OnError, PartitionSource, Repeated, Route, Source, Then,
    Transport, Value,
};

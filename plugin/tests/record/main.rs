//! A request and a configuration go in, a record comes out: every decision on what it holds, case by case.

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod choice;
#[cfg(test)]
mod cloudevents;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod envelope;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod topics;
#[cfg(test)]
mod values;

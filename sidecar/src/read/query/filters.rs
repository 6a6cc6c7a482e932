//! What is left out of what is read.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::access::Granted;
use super::super::failure::{Failure, Kind};
use super::super::filter::{Filter, Filters};
use super::Asked;
use crate::config::Read;

/// The query's arguments that may be there several times: `key`, `header`, `where` and `jq`.
#[derive(Debug, Default, Clone)]
pub(super) struct Repeated {
    pub(super) keys: Vec<String>,
    headers: Vec<String>,
    places: Vec<String>,
    programs: Vec<String>,
}

impl Repeated {
    pub(super) fn is_empty(&self) -> bool {
        [&self.keys, &self.headers, &self.places, &self.programs]
            .iter()
            .all(|list| list.is_empty())
    }

    /// Takes an argument that is one of them; false if it is none.
    pub(super) fn take(&mut self, name: &str, value: &str) -> bool {
        let list = match name {
            "key" => &mut self.keys,
            "header" => &mut self.headers,
            "where" => &mut self.places,
            "jq" => &mut self.programs,
            _ => return false,
        };
        list.push(value.to_owned());
        true
    }
}

impl Asked {
    /// What the entries and the request leave of the topics' records.
    pub(super) async fn filters(
        &self,
        topics: &[Arc<str>],
        entry: &Read,
        granted: &Granted<'_>,
    ) -> Result<Filters, Failure> {
        let mut forced = HashMap::new();
        for topic in topics {
            let filters = granted.forced(granted.check(topic)?, topic)?;
            if !filters.is_empty() {
                forced.insert(Arc::clone(topic), filters);
            }
        }
        let Repeated {
            keys,
            headers,
            places,
            programs,
        } = self.filters.clone();
        let parse = move || Filter::parse(&keys, &headers, &places, &programs);
        let own = if self.filters.programs.is_empty() {
            parse()
        } else {
            // To compile a program takes some milliseconds.
            tokio::task::spawn_blocking(parse)
                .await
                .map_err(|why| Failure::new(Kind::Overloaded, format!("jq cannot be compiled: {why}")))?
        };
        let own = own.map_err(|(name, why)| Failure::invalid(format!("{name} {why}")))?;
        Ok(Filters {
            own: Arc::new(own),
            forced,
            unframed: entry.remove_confluent_header,
        })
    }
}

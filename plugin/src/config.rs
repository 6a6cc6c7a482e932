//! The filter's configuration: what was written, and what it means once merged and checked.
//!
//! Settings come in layers: the top level of the filter's configuration, the first of its `routes:` that is
//! for the request, and the metadata of the route that Envoy chose; each overrides the one before, field by
//! field. `docs/filter.md` documents every field.

mod cache;
mod check;
mod entry;
#[cfg(not(target_arch = "wasm32"))]
pub mod envoy;
mod fields;
mod layer;
pub mod metadata;
mod payload;
mod refused;
mod reply;
mod route;
mod source;
mod stream;
mod template;

use serde_json::Value as Json;
use sluice_settings::{Problem, Problems, Section};

use check::Contradiction;
use entry::Entry;
use layer::Layer;

pub use cache::{MAX_ENTRIES, MAX_KEY_BYTES, Resolved, RouteCache};
pub use check::DEFAULT_SIDECAR_CLUSTER;
pub use entry::EntryQuery;
pub use fields::CREDENTIAL_HEADERS;
pub use route::{
    Choice, CloudEvents, Delivery, Forward, HeaderRules, Idempotency, Key, Named, OnError, Outstanding,
    PartitionSource, Repeated, Reply, Route, Source, Template, Then, Transport, Value,
};
pub use stream::StreamSettings;
pub use template::PathTemplate;

/// Where the problems of route metadata are, as [`Problem::path`].
const METADATA_PATH: &str = "metadata.filter_metadata.sluice";

/// The configuration of the filter, as one PluginConfig gives it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilterConfig {
    base: Layer,
    entries: Vec<Entry>,
    stream: StreamSettings,
}

impl FilterConfig {
    /// Reads the configuration as Envoy hands it to the filter: a `Struct` as the serialised message (Envoy 1.40;
    /// others make JSON of it), the text of a `StringValue` or `BytesValue` as it is, which is JSON.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path; never an empty list.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        // No JSON has the bytes 0x10 or 0x12 between its tokens, and no `Struct` with a field is without.
        match metadata::decode_struct(bytes) {
            Ok(Some(tree)) if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() => {
                Self::from_tree(&tree)
            }
            _ => Self::from_json(bytes),
        }
    }

    /// Reads JSON. No bytes are an empty configuration, with which the filter acts on routes whose metadata says
    /// so.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path; never an empty list.
    pub fn from_json(json: &[u8]) -> Result<Self, Vec<Problem>> {
        if json.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(json) {
            Ok(tree) => Self::from_tree(&tree),
            Err(error) => Err(vec![Problem {
                path: String::new(),
                message: format!("the configuration is not JSON: {error}"),
            }]),
        }
    }

    /// The same from a tree.
    ///
    /// # Errors
    /// As [`FilterConfig::from_json`].
    pub fn from_tree(tree: &Json) -> Result<Self, Vec<Problem>> {
        let problems = Problems::default();
        let root = Section::root(tree, &problems);
        let base = Layer::read(&root);
        let stream = StreamSettings::read(&root);
        let written = root.raw("routes").and_then(Json::as_array).into_iter().flatten();
        let sections = root.sections("routes").unwrap_or_default();
        let mut entries = Vec::with_capacity(sections.len());
        for (section, tree) in sections.into_iter().zip(written) {
            // What is no mapping was reported as such.
            if !tree.is_object() {
                entries.push(Entry::default());
                continue;
            }
            entries.push(Entry::read(&section));
            refused::report_filter_level(&section);
            section.finish();
        }
        let config = Self {
            base,
            entries,
            stream,
        };
        root.finish();
        let mut problems = problems.into_vec();
        config.check_merged(&mut problems);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }

    /// Adds the contradictions of base and of each entry over it, so that they surface before a request comes.
    /// One that follows from a field that could not be read, or that base has by itself, is left out.
    fn check_merged(&self, problems: &mut Vec<Problem>) {
        let misread = |path: &str| problems.iter().any(|problem| problem.path.starts_with(path));
        let stands = |found: &Contradiction, prefix: &str| {
            let involves = found.involves.iter();
            !involves.clone().any(|field| misread(field))
                && !involves.clone().any(|f| misread(&join(prefix, f)))
        };
        let of_base = check::check(&self.base).err().unwrap_or_default();
        let mut found: Vec<Problem> = of_base
            .iter()
            .filter(|found| stands(found, ""))
            .map(|found| found.at(""))
            .collect();
        for (index, entry) in self.entries.iter().enumerate() {
            let path = format!("routes[{index}]");
            let of_entry = check_over(&entry.layer, &self.base).err().unwrap_or_default();
            let own = of_entry.iter().filter(|found| !of_base.contains(found));
            found.extend(
                own.filter(|found| stands(found, &path))
                    .map(|found| found.at(&path)),
            );
        }
        problems.extend(found);
    }

    /// How the worker's stream to the sidecar is bounded.
    pub fn stream(&self) -> &StreamSettings {
        &self.stream
    }

    /// Whether there are `routes:` entries, so that [`FilterConfig::entry_for`] can find one.
    pub fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether an entry matches by the name of the Envoy route, so that it is worth asking the host for.
    pub fn needs_route_name(&self) -> bool {
        self.entries.iter().any(|entry| entry.route_name.is_some())
    }

    /// The Envoy cluster of the sidecar where no entry and no metadata says otherwise.
    pub fn sidecar_cluster(&self) -> &str {
        let written = self.base.sidecar_cluster.as_deref();
        written.unwrap_or(DEFAULT_SIDECAR_CLUSTER)
    }

    /// The index of the first entry that is for the request.
    pub fn entry_for(&self, query: &EntryQuery<'_>) -> Option<usize> {
        self.entries.iter().position(|entry| entry.matches(query))
    }

    /// The merged configuration of base, `entry` and the bytes of the property `xds.route_metadata` (empty:
    /// none); `None` where it names no topic. [`RouteCache::resolve`] is the cheap form.
    ///
    /// # Errors
    /// What is wrong with it, each with its path.
    pub fn resolve(&self, entry: Option<usize>, metadata: &[u8]) -> Result<Option<Route>, Vec<Problem>> {
        let json = metadata::decode(metadata).map_err(|message| {
            let path = METADATA_PATH.to_owned();
            vec![Problem { path, message }]
        })?;
        self.resolve_json(entry, json.as_ref())
    }

    /// The same with the metadata's `sluice` namespace as a tree.
    ///
    /// # Errors
    /// As [`FilterConfig::resolve`].
    pub fn resolve_json(
        &self,
        entry: Option<usize>,
        metadata: Option<&Json>,
    ) -> Result<Option<Route>, Vec<Problem>> {
        let entry = entry.and_then(|index| Some((index, self.entries.get(index)?)));
        let below = match entry {
            Some((_, entry)) => entry.layer.over(&self.base),
            None => self.base.clone(),
        };
        let (path, checked) = match metadata {
            Some(tree) => (
                METADATA_PATH.to_owned(),
                check_over(&read_metadata(tree)?, &below),
            ),
            None => {
                let path = entry.map(|(index, _)| format!("routes[{index}]"));
                (path.unwrap_or_default(), check::check(&below))
            }
        };
        checked.map_err(|found| found.iter().map(|found| found.at(&path)).collect())
    }
}

/// The layer that route metadata is.
fn read_metadata(tree: &Json) -> Result<Layer, Vec<Problem>> {
    let problems = Problems::default();
    let section = Section::at(tree, METADATA_PATH.to_owned(), &problems);
    let layer = Layer::read(&section);
    refused::report_filter_level(&section);
    section.finish();
    let problems = problems.into_vec();
    if problems.is_empty() {
        Ok(layer)
    } else {
        Err(problems)
    }
}

/// Checks `upper` over `lower`.
fn check_over(upper: &Layer, lower: &Layer) -> Result<Option<Route>, Vec<Contradiction>> {
    let merged = upper.over(lower);
    if upper.topics_query_arg.is_some() && !merged.names_a_topic() {
        return Err(vec![check::NO_TOPIC]);
    }
    if upper.topic_template().is_some() && !merged.names_a_topic() {
        return Err(vec![check::NO_MADE_TOPIC]);
    }
    check::check(&merged)
}

fn join(prefix: &str, field: &str) -> String {
    if prefix.is_empty() {
        field.to_owned()
    } else {
        format!("{prefix}.{field}")
    }
}

#[cfg(test)]
mod tests;

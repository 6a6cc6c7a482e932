//! `templates:`, `writes:` and `secrets:`: payload templates, where they are applied, and what they may take and name.

mod named;

use std::collections::BTreeMap;

use sluice_settings::Section;

use super::Cluster;
use super::clusters::allowlist;
use super::read::{Context, check_name, named_cluster};
use super::secret::{self, Inline};
use crate::templates::{NamedSecret, Settings, Write};

/// The longest that a template's expressions may run, in milliseconds.
const MAX_TIMEOUT_MS: i64 = 10_000;

/// Reads the three sections of the root. Blocks while expressions are compiled.
pub(super) fn read(
    root: &Section<'_>,
    clusters: (&BTreeMap<String, Cluster>, Option<&str>),
    context: &Context<'_>,
) -> Settings {
    let mut settings = Settings {
        secrets: secrets(root, context),
        ..Settings::default()
    };
    if let Some(section) = root.section("templates") {
        let bytes = |key: &str, most: i64| {
            let written = section.integer(key, 1024..=most)?;
            usize::try_from(written).ok()
        };
        if let Some(timeout) = section.millis("timeout", 1..=MAX_TIMEOUT_MS) {
            settings.timeout = timeout;
        }
        if let Some(bytes) = bytes("max_output_bytes", 64 * 1024 * 1024) {
            settings.max_output_bytes = bytes;
        }
        if let Some(bytes) = bytes("max_waiting_bytes", 64 * 1024 * 1024 * 1024) {
            settings.max_waiting_bytes = bytes;
        }
        settings.named = named::read(&section, &settings.secrets, root, context);
        section.finish();
    }
    let is_set = |name: &str| {
        let named = root.raw("templates").and_then(|templates| templates.get("named"));
        named.is_some_and(|named| named.get(name).is_some())
    };
    settings.writes = writes(root, clusters, is_set);
    settings
}

/// `secrets:`, of the root.
pub(super) fn secrets(root: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, NamedSecret> {
    let mut secrets = BTreeMap::new();
    for (name, section) in root.named_sections("secrets").unwrap_or_default() {
        check_name(&section, &name, context);
        let value = secret::field(&section, "value", Inline::Warned, context);
        if section.raw("value").is_none() {
            section.problem("value", "is required, as {env: ORG_SECRET}");
        }
        if section.raw("topics").is_none() {
            section.problem(
                "topics",
                "is required: the topics whose records may use it, as [orders, \"audit.*\"]",
            );
        }
        let topics = allowlist(&section, "topics");
        section.finish();
        if let Some(value) = value {
            secrets.insert(name, NamedSecret { value, topics });
        }
    }
    secrets
}

/// `writes:`. `is_set` says whether there is a template of that name, be it wrong.
fn writes(
    root: &Section<'_>,
    known: (&BTreeMap<String, Cluster>, Option<&str>),
    is_set: impl Fn(&str) -> bool,
) -> Vec<Write> {
    let one = |section: Section<'_>| {
        let cluster = named_cluster(&section, known);
        if let Some((name, Some(cluster))) = &cluster
            && !cluster.produces
        {
            section.problem(
                "cluster",
                format!("takes no records: clusters.{name}.producer.enabled is false"),
            );
        }
        let topics = allowlist(&section, "topics");
        if topics.0.is_empty() {
            section.problem(
                "topics",
                "is required, and not empty: the topics whose records the template makes, as [orders, \"audit.*\"]",
            );
        }
        let template = section.name("template");
        if section.raw("template").is_none() {
            section.problem("template", "is required: a name of `templates.named`");
        }
        if let Some(name) = template.as_ref().filter(|name| !is_set(name)) {
            section.problem(
                "template",
                format!("no template of templates.named is named {name:?}"),
            );
        }
        section.finish();
        Some(Write {
            cluster: cluster?.0,
            topics,
            template: template?,
        })
    };
    let sections = root.sections("writes").unwrap_or_default();
    sections.into_iter().filter_map(one).collect()
}

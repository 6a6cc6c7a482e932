//! `templates:` and `secrets:`, what payload templates may take and name.

use std::collections::BTreeMap;

use sluice_settings::Section;

use super::clusters;
use super::read::{Context, check_name};
use super::secret::{self, Inline};
use crate::templates::{NamedSecret, Settings};

/// The longest that a template's expressions may run, in milliseconds.
const MAX_TIMEOUT_MS: i64 = 10_000;

/// Reads both sections of the root.
pub(super) fn read(root: &Section<'_>, context: &Context<'_>) -> Settings {
    let mut settings = Settings {
        secrets: secrets(root, context),
        ..Settings::default()
    };
    let Some(section) = root.section("templates") else {
        return settings;
    };
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
    section.finish();
    settings
}

fn secrets(root: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, NamedSecret> {
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
        let topics = clusters::allowlist(&section, "topics");
        section.finish();
        if let Some(value) = value {
            secrets.insert(name, NamedSecret { value, topics });
        }
    }
    secrets
}

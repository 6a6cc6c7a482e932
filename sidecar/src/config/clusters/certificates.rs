//! `certificates:`, Kong's: certificates with their keys, for clusters to name by `certificate_id`.

use std::collections::BTreeMap;

use sluice_settings::Section;

use super::stores;
use crate::config::read::Context;
use crate::keystore::Identity;

/// Each by its id; `None` where it could not be read, which is then reported.
pub(super) type Certificates = BTreeMap<String, Option<Identity>>;

pub(super) fn read(root: &Section<'_>, context: &Context<'_>) -> Certificates {
    let mut certificates = Certificates::new();
    // By id, or as a list as Kong's declarative configuration has it.
    let listed = root.raw("certificates").is_some_and(serde_json::Value::is_array);
    let sections = if listed {
        let items = root.sections("certificates").unwrap_or_default();
        items.into_iter().map(with_id).collect()
    } else {
        root.named_sections("certificates").unwrap_or_default()
    };
    for (id, section) in sections {
        let identity = stores::pair(&section, "cert", "key", "key_password", context);
        let path = section.path().to_owned();
        section.finish();
        if certificates.insert(id.clone(), identity).is_some() {
            context.problems.report(path, format!("{id:?} is here twice"));
        }
    }
    certificates
}

fn with_id(item: Section<'_>) -> (String, Section<'_>) {
    let id = item.name("id");
    if item.raw("id").is_none() {
        item.problem("id", "is required");
    }
    (id.unwrap_or_default(), item)
}

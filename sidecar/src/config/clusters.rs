//! `clusters:`.

mod aws;
mod brokers;
mod certificates;
mod cluster;
mod given;
mod gssapi;
mod jaas;
mod oidc;
mod protocol;
mod sasl;
mod stores;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;

use sluice_settings::Section;

use self::certificates::Certificates;
pub use self::cluster::{
    AwsIam, AwsKeys, AwsRole, BearerToken, Callers, Cluster, DelegationToken, Expiry, Kerberos, ScramHash,
    TokenSource,
};
pub use self::given::cluster_of;
use self::sasl::Sasl;
use super::properties::{Owner, Properties};
use super::read::{Context, check_name, check_topic};
use super::reads::check_ids;
use super::{TopicAllowlist, source};

/// All clusters, and which of them a record can be for that names none: those of `clusters`.
pub(super) fn read(root: &Section<'_>, context: &Context<'_>) -> (BTreeMap<String, Cluster>, Vec<String>) {
    let certificates = certificates::read(root, context);
    let mut clusters = BTreeMap::new();
    for (name, section) in root.named_sections("clusters").unwrap_or_default() {
        check_name(&section, &name, context);
        clusters.insert(name, read_one(section, &certificates, context));
    }
    let own = clusters.keys().cloned().collect();
    given::ingress(root, &certificates, &mut clusters, context);
    gssapi::one_for_all(&clusters, context);
    let mistyped = root.raw("clusters").is_some_and(|value| !value.is_object());
    if clusters.is_empty() && !mistyped {
        root.problem(
            "clusters",
            "at least one is required, as {main: {bootstrap_servers: \"kafka:9092\"}}",
        );
    }
    (clusters, own)
}

/// The authorities of a `truststore:` as PEM, or what keeps them from being written so; `None` if there are none that can be
/// read, which is then reported.
pub(super) fn trust(store: Section<'_>, context: &Context<'_>) -> Option<Result<String, String>> {
    let trust = stores::trust(&store, context);
    store.finish();
    Some(trust?.to_pem())
}

fn read_one(section: Section<'_>, certificates: &Certificates, context: &Context<'_>) -> Cluster {
    let brokers = brokers::read(&section, context);
    let mut properties = Properties::new(Owner::Cluster);
    if let Some(id) = section.name("client_id") {
        properties.set(&section, "client_id", "client.id", id);
    }
    let tls = tls::read(&section, certificates, &mut properties, context);
    let sasl = sasl::read(&section, &brokers.servers, &mut properties, context);
    let protocol = section.choice("protocol", protocol::NAMES);
    properties.read(&section, context);
    tls.check_against(&section, &properties);
    if let Some(sasl) = &sasl {
        sasl.check_against(&properties, context);
    }
    protocol::settle(
        &section,
        protocol::Said {
            protocol,
            schemes: &brokers.schemes,
            tls: &tls,
            sasl: sasl.is_some(),
        },
        &mut properties,
        context,
    );
    if let Some(sasl) = &sasl {
        sasl.check_protocol(&section, &properties);
    }
    tls::warn_unverified(&properties, context);
    let (produces, _) = direction(&section, "producer");
    let (consumes, groups) = direction(&section, "consumer");
    let allowed_topics = allowed_topics(&section, produces, context);
    let properties = properties.into_map(&section, context);
    let materials = source::materials(&properties);
    materials.keys().for_each(|file| context.depends_on(file));
    let Sasl {
        token,
        callers,
        delegation,
        kerberos,
    } = sasl.unwrap_or_default();
    section.finish();
    Cluster {
        bootstrap_servers: brokers.servers,
        properties,
        token,
        callers,
        delegation,
        kerberos,
        produces,
        consumes,
        groups,
        allowed_topics,
        expiry: tls.expiry,
        materials,
    }
}

/// `producer: {enabled: …}`, or `consumer:`, which may have `groups` too.
fn direction(section: &Section<'_>, key: &str) -> (bool, Option<TopicAllowlist>) {
    let Some(direction) = section.section(key) else {
        return (true, None);
    };
    let enabled = direction.bool("enabled").unwrap_or(true);
    let groups = match key {
        "consumer" => direction.strings("groups"),
        _ => None,
    };
    if let Some(groups) = &groups {
        check_ids(&direction, "groups", groups);
        if groups.is_empty() {
            direction.problem("groups", "must not be empty; leave it out to allow any group");
        }
    }
    direction.finish();
    (enabled, groups.map(TopicAllowlist))
}

fn allowed_topics(section: &Section<'_>, produces: bool, context: &Context<'_>) -> TopicAllowlist {
    if produces && section.raw("allowed_topics").is_none() {
        context.warnings.report(
            section.path_of("allowed_topics"),
            "is not set: no topic of this cluster may be written",
        );
    }
    allowlist(section, "allowed_topics")
}

/// A list of topics, and of starts of topics with a `*` at their ends.
pub(crate) fn allowlist(section: &Section<'_>, key: &str) -> TopicAllowlist {
    let entries = section.strings(key).unwrap_or_default();
    for (i, entry) in entries.iter().enumerate() {
        let name = entry.strip_suffix('*').unwrap_or(entry);
        if entry == "*" {
            continue;
        }
        if check_topic(name).is_err() {
            section.problem(
                &format!("{key}[{i}]"),
                format!("{entry:?} is neither a topic's name nor the start of one with a `*` at its end"),
            );
        }
    }
    TopicAllowlist(entries)
}

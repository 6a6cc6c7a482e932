//! `orgs:` and `actions:`, the organisations, and where what they have is kept.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_settings::Section;

use super::read::{Context, check_name, check_topic, named_cluster};
use super::secret::{self, Inline};
use super::{Cluster, Secret, State, TopicAllowlist, clusters, jwt, state};
use crate::actions::org::{Access, Client, Credentials, Grant, Grants, Org, Settings, Topics, User, Who};
use crate::actions::read_action;
use crate::auth::jwt::Provider;

/// The topic that organisations' things are kept in where none is configured.
pub(super) const ACTIONS_TOPIC: &str = "__sluice_actions";
const PARTITIONS: i32 = 6;
const RUN_TIMEOUT: Duration = Duration::from_secs(3600);
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3 * 3600);
/// In milliseconds.
const YEAR_MS: i64 = 366 * 24 * 3_600_000;
/// The least bytes of a client's secret: tokens are signed with it.
const MIN_SECRET: usize = 16;

pub(super) fn read(
    root: &Section<'_>,
    (all, default_cluster): (&BTreeMap<String, Cluster>, Option<&str>),
    providers: &BTreeMap<String, Arc<Provider>>,
    templates: &crate::templates::Settings,
    context: &Context<'_>,
) -> Option<Settings> {
    let sections = root.named_sections("orgs").unwrap_or_default();
    if sections.is_empty() {
        if root.raw("actions").is_some() {
            root.problem("actions", "means nothing without `orgs`");
            if let Some(section) = root.section("actions") {
                section.finish();
            }
        }
        return None;
    }
    let kept = match root.section("actions") {
        Some(section) => state::read(section, ACTIONS_TOPIC, all, default_cluster),
        None => state::read(
            Section::at(&serde_json::json!({}), "actions".to_owned(), context.problems),
            ACTIONS_TOPIC,
            all,
            default_cluster,
        ),
    };
    let is_set = |name: &str| root.raw("jwt").is_some_and(|jwt| jwt.get(name).is_some());
    let mut orgs = BTreeMap::new();
    for (id, section) in sections {
        check_name(&section, &id, context);
        let of = Of {
            clusters: all,
            default_cluster,
            providers,
            is_set: &is_set,
            context,
        };
        if let Some(org) = of.org(id.clone(), section) {
            orgs.insert(id, Arc::new(org));
        }
    }
    unique(root, &orgs);
    let State { cluster, log } = kept?;
    Some(Settings {
        cluster,
        log,
        orgs,
        timeout: templates.timeout,
        max_output_bytes: templates.max_output_bytes,
    })
}

/// What belongs to one organisation is no other's.
fn unique(root: &Section<'_>, orgs: &BTreeMap<String, Arc<Org>>) {
    let mut topics: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut clients: BTreeMap<&str, &str> = BTreeMap::new();
    let mut tokens: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, org) in orgs {
        let path = format!("orgs.{id}");
        for topic in [&org.runs_topic, &org.change_log_topic] {
            if let Some(other) = topics.insert((&org.cluster, topic), id) {
                root.problem(
                    &path,
                    format!("topic {topic:?} is {other}'s too, or twice its own"),
                );
            }
        }
        for client in org.clients.keys() {
            if let Some(other) = clients.insert(client, id) {
                root.problem(
                    &path,
                    format!("client {client:?} is {other}'s too: which organisation is a token for?"),
                );
            }
        }
        for access in &org.access {
            let Who::Tokens(all, _) = &access.who else {
                continue;
            };
            for token in all {
                if let Some(other) = tokens.insert(token.expose(), id).filter(|other| other != id) {
                    root.problem(
                        &path,
                        format!("one of its tokens is {other}'s too: which organisation is it for?"),
                    );
                }
            }
        }
    }
}

/// What payloads of an organisation see as `.secrets`.
fn secrets(section: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, Secret> {
    let Some(section) = section.section("secrets") else {
        return BTreeMap::new();
    };
    let names: Vec<String> = section.keys().map(str::to_owned).collect();
    let one = |name: String| {
        let secret = secret::field(&section, &name, Inline::Warned, context)?;
        Some((name, secret))
    };
    let secrets = names.into_iter().filter_map(one).collect();
    section.finish();
    secrets
}

/// The same, by organisation.
pub(super) fn all_secrets(
    root: &Section<'_>,
    context: &Context<'_>,
) -> BTreeMap<String, BTreeMap<String, Secret>> {
    let sections = root.named_sections("orgs").unwrap_or_default();
    let of = |(id, section): (String, Section<'_>)| (id, secrets(&section, context));
    sections.into_iter().map(of).collect()
}

/// What an organisation is read with.
struct Of<'a> {
    clusters: &'a BTreeMap<String, Cluster>,
    default_cluster: Option<&'a str>,
    providers: &'a BTreeMap<String, Arc<Provider>>,
    is_set: &'a dyn Fn(&str) -> bool,
    context: &'a Context<'a>,
}

impl Of<'_> {
    fn org(&self, id: String, section: Section<'_>) -> Option<Org> {
        let context = self.context;
        let cluster = self.cluster(&section);
        let topic = |key: &str, usual: &str| {
            let topic = section.name(key).unwrap_or_else(|| format!("{id}.{usual}"));
            if let Err(why) = check_topic(&topic) {
                section.problem(key, why);
            }
            topic
        };
        let (runs_topic, change_log_topic) = (
            topic("runs_topic", "runs"),
            topic("change_log_topic", "change.log"),
        );
        let partitions = section
            .integer("partitions", 1..=10_000)
            .and_then(|count| i32::try_from(count).ok());
        let replicas = section.integer("replication_factor", 1..=100);
        let secret = secret::field(&section, "secret", Inline::Warned, context);
        let secrets = secrets(&section, context);
        let access: Vec<Access> = section
            .sections("access")
            .unwrap_or_default()
            .into_iter()
            .filter_map(|section| self.access(section))
            .collect();
        let clients: BTreeMap<String, Client> = section
            .named_sections("clients")
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, section)| self.client(name, section))
            .collect();
        if section.raw("access").is_none() && section.raw("clients").is_none() {
            section.problem("access", "is required, or `clients`: nobody could do anything");
        }
        let token_lifetime = section
            .millis("token_lifetime", 1_000..=YEAR_MS)
            .unwrap_or(TOKEN_LIFETIME);
        let credentials = section
            .section("kafka_credentials")
            .and_then(|section| self.credentials(section));
        let run_timeout = section.millis("run_timeout", 1..=YEAR_MS).unwrap_or(RUN_TIMEOUT);
        let retention = section
            .millis("retention", 1_000..=10 * YEAR_MS)
            .unwrap_or(RETENTION);
        let declared = section.list("actions").unwrap_or_default();
        let path = section.path_of("actions");
        section.finish();
        let mut org = Org {
            id,
            cluster: cluster?,
            runs_topic,
            change_log_topic,
            topics: Topics {
                partitions: partitions.unwrap_or(PARTITIONS),
                replication_factor: replicas.and_then(|count| i32::try_from(count).ok()),
            },
            secret,
            secrets,
            access,
            clients,
            token_lifetime,
            credentials,
            run_timeout,
            retention,
            actions: BTreeMap::new(),
        };
        for (i, tree) in declared.iter().enumerate() {
            match read_action(&org, tree) {
                Ok(action) => {
                    let identifier = action.identifier.clone();
                    if org.actions.insert(identifier.clone(), Arc::new(action)).is_some() {
                        context.problems.report(
                            format!("{path}[{i}].identifier"),
                            format!("{identifier:?} is there twice"),
                        );
                    }
                }
                Err(problems) => {
                    for problem in problems {
                        let at = match problem.path.as_str() {
                            "" => format!("{path}[{i}]"),
                            at => format!("{path}[{i}].{at}"),
                        };
                        context.problems.report(at, problem.message);
                    }
                }
            }
        }
        Some(org)
    }

    fn cluster(&self, section: &Section<'_>) -> Option<String> {
        let (name, found) = named_cluster(section, (self.clusters, self.default_cluster))?;
        match found {
            Some(cluster) if cluster.callers.is_some() => section.problem(
                "cluster",
                format!("{name:?} is used with its callers' own tokens, and the sidecar itself has none"),
            ),
            Some(cluster) if !cluster.produces => section.problem(
                "cluster",
                format!("{name:?} takes no records: its producer.enabled is false"),
            ),
            _ => {}
        }
        Some(name)
    }

    fn grants(&self, section: &Section<'_>) -> Grants {
        let names = section.strings("may").unwrap_or_default();
        let mut grants = Grants::default();
        for (i, name) in names.iter().enumerate() {
            match Grant::ALL.iter().find(|(known, _)| known == name) {
                Some((_, grant)) => grants = grants.with(*grant),
                None => {
                    let all: Vec<&str> = Grant::ALL.iter().map(|(name, _)| *name).collect();
                    section.problem(
                        &format!("may[{i}]"),
                        format!("{name:?} is none of {}", all.join(", ")),
                    );
                }
            }
        }
        if names.is_empty() {
            section.problem("may", "is required, as [invoke, see]");
        }
        grants
    }

    /// The actions that an access is about: all of them where it does not say.
    fn actions(&self, section: &Section<'_>) -> TopicAllowlist {
        match section.raw("actions") {
            None => TopicAllowlist(vec!["*".to_owned()]),
            Some(_) => clusters::allowlist(section, "actions"),
        }
    }

    fn access(&self, section: Section<'_>) -> Option<Access> {
        let may = self.grants(&section);
        let actions = self.actions(&section);
        let tokens = secret::tokens(&section, self.context);
        let bearers = section.section("jwt");
        let bearers = bearers.and_then(|section| jwt::bearers(section, self.providers, self.is_set));
        let text = |key: &str| section.name(key);
        let (name, email) = (text("name"), text("email"));
        let (first_name, last_name) = (text("first_name"), text("last_name"));
        let who = match (section.raw("tokens").is_some(), section.raw("jwt").is_some()) {
            (true, false) => {
                if section.raw("name").is_none() {
                    section.problem("name", "is required: whose the tokens are");
                }
                name.map(|id| {
                    let user = User {
                        id,
                        email,
                        first_name,
                        last_name,
                    };
                    Who::Tokens(tokens, user)
                })
            }
            (false, true) => {
                for key in ["name", "email", "first_name", "last_name"] {
                    section.refuse(key, "means nothing with `jwt`: its claims say it");
                }
                bearers.map(Who::Bearers)
            }
            (true, true) => {
                section.problem("jwt", "is set beside `tokens`: make two entries of it");
                None
            }
            (false, false) => {
                section.problem("tokens", "are required, or `jwt`");
                None
            }
        };
        section.finish();
        Some(Access {
            who: who?,
            may,
            actions,
        })
    }

    fn client(&self, name: String, section: Section<'_>) -> Option<(String, Client)> {
        let secret = secret::field(&section, "secret", Inline::Warned, self.context);
        if section.raw("secret").is_none() {
            section.problem("secret", "is required, as {env: CLIENT_SECRET}");
        }
        if secret
            .as_ref()
            .is_some_and(|secret| secret.expose().len() < MIN_SECRET)
        {
            section.problem(
                "secret",
                format!("must have {MIN_SECRET} bytes or more: tokens are signed with it"),
            );
        }
        let may = self.grants(&section);
        let actions = self.actions(&section);
        section.finish();
        let client = Client {
            secret: secret?,
            may,
            actions,
        };
        Some((name, client))
    }

    fn credentials(&self, section: Section<'_>) -> Option<Credentials> {
        let brokers = section.strings("brokers").unwrap_or_default();
        if brokers.is_empty() {
            section.problem("brokers", "are required, as [\"kafka:9092\"]");
        }
        let username = section.name("username");
        if section.raw("username").is_none() {
            section.problem("username", "is required");
        }
        let password = secret::field(&section, "password", Inline::Warned, self.context);
        if section.raw("password").is_none() {
            section.problem("password", "is required, as {env: KAFKA_PASSWORD}");
        }
        section.finish();
        Some(Credentials {
            brokers,
            username: username?,
            password: password?,
        })
    }
}

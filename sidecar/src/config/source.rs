//! Reading the clusters again, when a file that they name has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::sha::sha256;
use sluice_settings::{Problem, Problems, Section};

use super::{Cluster, Laid, Secret, clusters, lay, producers, read, rendering};
use crate::kafka::properties::{self, try_producer};
use crate::templates::NamedSecret;

/// What a configuration was read from. The text and the environment are those of the start: only files change.
#[derive(Clone, Default)]
pub struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    yaml: String,
    env: BTreeMap<String, String>,
    files: BTreeSet<PathBuf>,
}

/// Neither the text, which may hold secrets, nor the environment.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.0.files).finish()
    }
}

/// The digests of files, by their paths; none of one that cannot be read.
pub(crate) type Digests = BTreeMap<PathBuf, Option<[u8; 32]>>;

impl Source {
    pub(super) fn new(yaml: &str, env: BTreeMap<String, String>, files: BTreeSet<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            yaml: yaml.to_owned(),
            env,
            files,
        }))
    }

    /// What the files hold that the configuration depends on; empty if it depends on none. Blocks.
    pub(crate) fn digests(&self) -> Digests {
        digests(self.0.files.iter())
    }

    /// Reads the clusters again. Blocks for their files.
    ///
    /// Each cluster has its own result: what is wrong with the files of one is none of another's business. The problems
    /// quote no secret.
    pub fn clusters(&self) -> BTreeMap<String, Result<Cluster, Vec<Problem>>> {
        let Inner { yaml, env, .. } = &*self.0;
        let (problems, warnings) = (Problems::default(), Problems::default());
        // It was read before, and only the files can have changed.
        let Ok(Laid { tree, overrides, .. }) = lay(yaml, env, &problems, &warnings) else {
            return BTreeMap::new();
        };
        let context = read::Context::new((&problems, &warnings), env, &overrides);
        let (read, named) = clusters::read(&Section::root(&tree, &problems), &context);
        let found = read::name_variables(problems.into_vec(), &overrides);
        let default = producers::default_profile();
        let one = |(name, cluster): (String, Cluster)| {
            let own = if named.contains(&name) {
                format!("clusters.{name}")
            } else {
                "ingress".to_owned()
            };
            // Certificates are shared: what is wrong with one concerns those that name it, by an id that may be anywhere in
            // a list.
            let uses = tree.pointer(&format!("/clusters/{name}/security/certificate_id"));
            let concerns = |problem: &&Problem| {
                let below = |path: &str| {
                    problem.path == path
                        || problem
                            .path
                            .strip_prefix(path)
                            .is_some_and(|rest| rest.starts_with(['.', '[']))
                };
                below(&own) || (uses.is_some() && below("certificates"))
            };
            let mut wrong: Vec<Problem> = found.iter().filter(concerns).cloned().collect();
            if wrong.is_empty()
                && let Err(why) = try_producer(&cluster, &default)
            {
                wrong.push(Problem {
                    path: own,
                    message: format!("librdkafka refuses it: {why}"),
                });
            }
            let read = if wrong.is_empty() { Ok(cluster) } else { Err(wrong) };
            (name, read)
        };
        read.into_iter().map(one).collect()
    }
}

impl Source {
    /// Reads the secrets of templates again. Blocks for their files.
    ///
    /// Each has its own result, as clusters have. The problems quote none.
    pub fn secrets(&self) -> BTreeMap<String, Result<NamedSecret, Vec<Problem>>> {
        let Inner { yaml, env, .. } = &*self.0;
        let (problems, warnings) = (Problems::default(), Problems::default());
        let Ok(Laid { tree, overrides, .. }) = lay(yaml, env, &problems, &warnings) else {
            return BTreeMap::new();
        };
        let context = read::Context::new((&problems, &warnings), env, &overrides);
        let root = Section::root(&tree, &problems);
        let mut read = rendering::secrets(&root, &context);
        let named = root.section("secrets");
        let names: Vec<String> = named.iter().flat_map(Section::keys).map(str::to_owned).collect();
        let found = read::name_variables(problems.into_vec(), &overrides);
        let one = |name: String| {
            // Only its file can have changed.
            let own = format!("secrets.{name}.value");
            let wrong: Vec<Problem> = found
                .iter()
                .filter(|problem| problem.path == own)
                .cloned()
                .collect();
            let secret = read.remove(&name).filter(|_| wrong.is_empty());
            (name, secret.ok_or(wrong))
        };
        names.into_iter().map(one).collect()
    }
}

/// The files that librdkafka reads by itself for these properties, with their digests. Blocks.
pub(super) fn materials(properties: &BTreeMap<String, Secret>) -> Digests {
    let named = properties
        .iter()
        .filter(|(name, _)| properties::names_a_file(name));
    digests(named.map(|(_, value)| Path::new(value.expose())))
}

fn digests(files: impl Iterator<Item = impl AsRef<Path>>) -> Digests {
    let digest = |file: &Path| std::fs::read(file).ok().map(|bytes| sha256(&bytes));
    let one = |file: &Path| (file.to_owned(), digest(file));
    files.map(|file| one(file.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn a_changed_file_changes_its_cluster_and_a_bad_one_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "first").unwrap();
        std::fs::write(&two, "first").unwrap();
        let cluster = |file: &Path| {
            format!(
                "{{bootstrap_servers: 'a:1', allowed_topics: [t], authentication: {{mechanism: PLAIN, user: u, \
                 password: {{file: {}}}}}}}",
                file.display()
            )
        };
        let yaml = format!("clusters: {{one: {}, two: {}}}", cluster(&one), cluster(&two));
        let config = load(&yaml, std::iter::empty()).unwrap().config;
        let before = config.source.digests();
        assert_eq!(before.keys().collect::<Vec<_>>(), [&one, &two]);
        let again = |name: &str| config.source.clusters().remove(name).unwrap();
        assert!(again("one").unwrap().connects_like(&config.clusters["one"]));
        std::fs::write(&one, "second").unwrap();
        assert_ne!(config.source.digests(), before);
        let changed = again("one").unwrap();
        assert!(!changed.connects_like(&config.clusters["one"]));
        assert_eq!(changed.properties["sasl.password"].expose(), "second");
        std::fs::remove_file(&one).unwrap();
        let wrong = again("one").unwrap_err();
        assert_eq!(wrong[0].path, "clusters.one.authentication.password");
        assert!(again("two").unwrap().connects_like(&config.clusters["two"]));
        assert!(!format!("{config:?}").contains("first"));
    }

    #[test]
    fn a_changed_file_changes_its_secret_and_a_bad_one_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "first").unwrap();
        std::fs::write(&two, "first").unwrap();
        let yaml = format!(
            "clusters: {{main: {{brokers: ['a:1'], allowed_topics: [t]}}}}\n\
             secrets: {{one: {{value: {{file: {}}}, topics: [t]}}, two.x: {{value: {{file: {}}}, topics: [t]}}}}",
            one.display(),
            two.display()
        );
        let config = load(&yaml, std::iter::empty()).unwrap().config;
        let before = config.source.digests();
        assert_eq!(before.keys().collect::<Vec<_>>(), [&one, &two]);
        std::fs::write(&one, "second\n").unwrap();
        std::fs::write(&two, "").unwrap();
        assert_ne!(config.source.digests(), before);
        let mut read = config.source.secrets();
        assert_eq!(read.remove("one").unwrap().unwrap().value.expose(), "second");
        let wrong = read.remove("two.x").unwrap().unwrap_err();
        assert_eq!(wrong[0].to_string(), "secrets.two.x.value: must not be empty");
        std::fs::remove_file(&two).unwrap();
        let wrong = config.source.secrets().remove("two.x").unwrap().unwrap_err();
        assert!(wrong[0].message.starts_with("cannot read "), "{wrong:?}");
    }

    #[test]
    fn another_delegation_token_is_another_login() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first").unwrap();
        let yaml = format!(
            "clusters: {{one: {{bootstrap_servers: 'a:1', allowed_topics: [t], authentication: {{mechanism: SCRAM-SHA-256, \
             user: u, password: {{file: {}}}, tokenauth: true}}}}}}",
            file.path().display()
        );
        let config = load(&yaml, std::iter::empty()).unwrap().config;
        let before = config.source.digests();
        std::fs::write(file.path(), "second").unwrap();
        assert_ne!(config.source.digests(), before);
        let changed = config.source.clusters().remove("one").unwrap().unwrap();
        assert!(!changed.connects_like(&config.clusters["one"]));
    }

    #[test]
    fn files_that_librdkafka_reads_are_looked_at_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let properties = BTreeMap::from([
            (
                "ssl.ca.location".to_owned(),
                Secret::new(file.path().display().to_string()),
            ),
            ("client.id".to_owned(), Secret::new("me")),
        ]);
        let before = materials(&properties);
        assert_eq!(before.len(), 1);
        std::fs::write(file.path(), "other").unwrap();
        assert_ne!(materials(&properties), before);
    }
}

//! Reading the clusters again, when a file that they name has changed, and the secrets of templates and of organisations' payloads,
//! when theirs or the configuration has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openssl::sha::sha256;
use sluice_settings::{Problem, Problems, Section};

use super::{Cluster, Laid, Secret, clusters, lay, load, orgs, producers, read, rendering};
use crate::kafka::properties::{self, try_producer};
use crate::templates::NamedSecret;

/// What a configuration was read from. The text and the environment are those of the start, but for what the text says of
/// `secrets` and `orgs.<id>.secrets`.
#[derive(Clone, Default)]
pub struct Source(Arc<Inner>);

#[derive(Default)]
struct Inner {
    yaml: String,
    env: BTreeMap<String, String>,
    files: BTreeSet<PathBuf>,
    /// Where the text is from.
    file: Option<PathBuf>,
    /// What stands there now, if that is another text and could be run.
    newer: Mutex<Option<Newer>>,
}

struct Newer {
    text: String,
    files: BTreeSet<PathBuf>,
}

/// Secrets as they are now.
#[derive(Debug)]
pub struct Secrets {
    /// Those of templates by name, or what is wrong with each.
    pub templates: BTreeMap<String, Result<NamedSecret, Vec<Problem>>>,
    /// By organisation, what its payloads see, or what is wrong with any of them.
    pub orgs: BTreeMap<String, Result<BTreeMap<String, Secret>, Vec<Problem>>>,
}

/// Whether a path, of which this is the rest, leads there or below.
fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['.', '['])
}

/// Whether a problem is one of a single secret, or of those of an organisation.
fn is_of_a_secret(problem: &Problem) -> bool {
    let of_an_org = |rest: &str| {
        rest.split_once(".secrets")
            .is_some_and(|(id, rest)| !id.contains('[') && is_below(rest))
    };
    problem.path.starts_with("secrets.") || problem.path.strip_prefix("orgs.").is_some_and(of_an_org)
}

/// What is wrong at `own` or below it.
fn below(found: &[Problem], own: &str) -> Vec<Problem> {
    let is = |problem: &&Problem| problem.path.strip_prefix(own).is_some_and(is_below);
    found.iter().filter(is).cloned().collect()
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
            ..Inner::default()
        }))
    }

    /// The same, whose text is from `file`: of what stands there later, [`Source::secrets`] are read.
    #[must_use]
    pub fn of_file(&self, file: &Path) -> Self {
        let Inner { yaml, env, files, .. } = &*self.0;
        Self(Arc::new(Inner {
            yaml: yaml.clone(),
            env: env.clone(),
            files: files.clone(),
            file: Some(file.to_owned()),
            newer: Mutex::default(),
        }))
    }

    fn newer(&self) -> MutexGuard<'_, Option<Newer>> {
        self.0.newer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files hold that the configuration depends on, its own included; empty if it depends on none. Blocks.
    pub(crate) fn digests(&self) -> Digests {
        let Inner { files, file, .. } = &*self.0;
        let newer = self.newer().as_ref().map(|newer| newer.files.clone());
        digests(files.iter().chain(newer.iter().flatten()).chain(file))
    }

    /// The text as it stands in its file. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or no sidecar could be started with it: a file that is being written says nothing of what is to go.
    /// What is wrong with single secrets is not looked at.
    fn text(&self) -> Result<String, Vec<Problem>> {
        let Inner { yaml, env, file, .. } = &*self.0;
        let Some(file) = file else {
            return Ok(yaml.clone());
        };
        let text = std::fs::read_to_string(file).map_err(|error| {
            let path = String::new();
            let message = format!("cannot read {}: {error}", file.display());
            vec![Problem { path, message }]
        })?;
        let same = self.newer().as_ref().is_some_and(|newer| newer.text == text);
        if text == *yaml || same {
            return Ok(text);
        }
        let files = match load(&text, env.clone().into_iter()) {
            Ok(loaded) => loaded.config.source.0.files.clone(),
            Err(problems) => {
                let others = problems.into_iter().filter(|one| !is_of_a_secret(one));
                let others: Vec<Problem> = others.collect();
                if !others.is_empty() {
                    return Err(others);
                }
                BTreeSet::new()
            }
        };
        *self.newer() = Some(Newer {
            text: text.clone(),
            files,
        });
        Ok(text)
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
            let mut wrong = below(&found, &own);
            if uses.is_some() {
                wrong.extend(below(&found, "certificates"));
            }
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
    /// Reads the secrets again: those that the configuration has now. Blocks for files.
    ///
    /// Each of the templates' has its own result, and so have those of each organisation together. The problems quote none.
    ///
    /// # Errors
    /// What is wrong with the rest of the configuration: nobody knows which secrets there are to be.
    pub fn secrets(&self) -> Result<Secrets, Vec<Problem>> {
        let text = self.text()?;
        let env = &self.0.env;
        let (problems, warnings) = (Problems::default(), Problems::default());
        let laid = lay(&text, env, &problems, &warnings);
        let Laid { tree, overrides, .. } = laid.map_err(|problem| vec![problem])?;
        let context = read::Context::new((&problems, &warnings), env, &overrides);
        let root = Section::root(&tree, &problems);
        let mut templates = rendering::secrets(&root, &context);
        let orgs = orgs::all_secrets(&root, &context);
        let named = root.section("secrets");
        let names: Vec<String> = named.iter().flat_map(Section::keys).map(str::to_owned).collect();
        let found = read::name_variables(problems.into_vec(), &overrides);
        let template = |name: String| {
            let wrong = below(&found, &format!("secrets.{name}"));
            let secret = templates.remove(&name).filter(|_| wrong.is_empty());
            (name, secret.ok_or(wrong))
        };
        let org = |(id, secrets): (String, BTreeMap<String, Secret>)| {
            let wrong = below(&found, &format!("orgs.{id}.secrets"));
            (id, if wrong.is_empty() { Ok(secrets) } else { Err(wrong) })
        };
        Ok(Secrets {
            templates: names.into_iter().map(template).collect(),
            orgs: orgs.into_iter().map(org).collect(),
        })
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
        let mut read = config.source.secrets().unwrap().templates;
        assert_eq!(read.remove("one").unwrap().unwrap().value.expose(), "second");
        let wrong = read.remove("two.x").unwrap().unwrap_err();
        assert_eq!(wrong[0].to_string(), "secrets.two.x.value: must not be empty");
        std::fs::remove_file(&two).unwrap();
        let wrong = config
            .source
            .secrets()
            .unwrap()
            .templates
            .remove("two.x")
            .unwrap()
            .unwrap_err();
        assert!(wrong[0].message.starts_with("cannot read "), "{wrong:?}");
    }

    #[test]
    fn secrets_are_those_of_the_configuration_as_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sluice.yaml");
        let clusters = "clusters: {main: {brokers: ['a:1'], allowed_topics: [t]}}\n";
        let first =
            format!("{clusters}secrets: {{one: {{value: a, topics: [t]}}, two: {{value: b, topics: [t]}}}}");
        std::fs::write(&file, &first).unwrap();
        let source = load(&first, std::iter::empty())
            .unwrap()
            .config
            .source
            .of_file(&file);
        let names = || {
            source
                .secrets()
                .map(|read| read.templates.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(names().unwrap(), ["one", "two"]);
        let before = source.digests();
        let own = dir.path().join("own");
        std::fs::write(&own, "c").unwrap();
        let second = format!(
            "{clusters}secrets: {{two: {{value: {{file: {}}}, topics: [u]}}}}",
            own.display()
        );
        std::fs::write(&file, second).unwrap();
        assert_ne!(source.digests(), before);
        let read = source.secrets().unwrap().templates;
        assert_eq!(read.keys().collect::<Vec<_>>(), ["two"]);
        let two = read["two"].as_ref().unwrap();
        assert!(two.value.expose() == "c" && two.topics.allows("u") && !two.topics.allows("t"));
        // What the new text names is looked at too.
        assert!(source.digests().contains_key(&own));
        // A secret that is wrong is no other's business, and a configuration that is wrong says nothing.
        std::fs::write(
            &file,
            format!("{clusters}secrets: {{two: {{value: b}}, three: {{value: d, topics: [t]}}}}"),
        )
        .unwrap();
        let read = source.secrets().unwrap().templates;
        assert_eq!(read["two"].as_ref().unwrap_err()[0].path, "secrets.two.topics");
        assert!(read["three"].is_ok());
        for wrong in [
            "",
            "clusters: [",
            "clusters: {}\nsecrets: {}",
            &format!("{clusters}secrets: 7"),
        ] {
            std::fs::write(&file, wrong).unwrap();
            assert!(source.secrets().is_err(), "{wrong}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(
            source.secrets().unwrap_err()[0]
                .message
                .starts_with("cannot read ")
        );
        std::fs::write(&file, &first).unwrap();
        assert_eq!(names().unwrap(), ["one", "two"]);
    }

    #[test]
    fn secrets_of_organisations_are_read_again_and_each_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (file, own) = (dir.path().join("sluice.yaml"), dir.path().join("own"));
        std::fs::write(&own, "first").unwrap();
        let org =
            |secrets: &str| format!("{{access: [{{tokens: [t], name: n, may: [see]}}], secrets: {secrets}}}");
        let text = |one: &str, two: &str| {
            format!(
                "clusters: {{main: {{brokers: ['a:1']}}}}\norgs: {{one: {}, two: {}}}",
                org(one),
                org(two).replace("tokens: [t]", "tokens: [u]"),
            )
        };
        let of_file = format!("{{key: {{file: {}}}}}", own.display());
        let first = text(&of_file, "{key: b}");
        std::fs::write(&file, &first).unwrap();
        let config = load(&first, std::iter::empty()).unwrap().config;
        let source = config.source.of_file(&file);
        let key = |org: &str| {
            let all = source.secrets().unwrap().orgs.remove(org).unwrap();
            all.map(|all| all["key"].expose().to_owned())
        };
        let before = source.digests();
        std::fs::write(&own, "second").unwrap();
        assert_ne!(source.digests(), before);
        assert_eq!(key("one").unwrap(), "second");
        std::fs::write(&file, text(&of_file, "{key: ''}")).unwrap();
        assert_eq!(key("one").unwrap(), "second");
        let wrong = key("two").unwrap_err();
        assert_eq!(wrong[0].to_string(), "orgs.two.secrets.key: must not be empty");
        // Anything else that is wrong with an organisation is wrong with the configuration.
        std::fs::write(&file, text(&of_file, "{key: c}, retention: x")).unwrap();
        assert_eq!(source.secrets().err().unwrap()[0].path, "orgs.two.retention");
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

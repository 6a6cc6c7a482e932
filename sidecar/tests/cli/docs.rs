//! The configurations on the pages of docs/providers, each as `sluice check-config` sees it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

/// What is at a path that a configuration names, by the end of its name; anything else is a password.
const FILES: [(&str, &str); 5] = [
    ("ca.crt", "root.pem"),
    ("client.pem", "chain.pem"),
    ("client-key.pem", "key.pem"),
    ("user.crt", "chain.pem"),
    ("user.key", "key.pem"),
];

const JAAS: &str =
    "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"u\" password=\"sentinel\";";

/// A block of a page.
struct Block {
    page: String,
    yaml: String,
    /// The variables that the page says are set.
    environment: BTreeMap<String, String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of code in a page that are of a language, without their fences.
fn code<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    let rests = page.split(&*start).skip(1);
    rests.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Every configuration of every page; there is no other YAML.
fn blocks() -> Vec<Block> {
    let mut all = Vec::new();
    let mut pages: Vec<PathBuf> = std::fs::read_dir(root().join("docs/providers"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    for path in pages {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let page = std::fs::read_to_string(&path).unwrap();
        let environment = code(&page, "sh")
            .into_iter()
            .filter_map(|block| block.strip_prefix("# environment\n"))
            .flat_map(str::lines)
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>();
        let found = code(&page, "yaml");
        assert!(!found.is_empty(), "{name} has no configuration");
        for block in found {
            let (first, yaml) = block.split_once('\n').unwrap();
            assert_eq!(first, "# sluice.yaml", "{name}: the first line of a block");
            all.push(Block {
                page: name.clone(),
                yaml: yaml.to_owned(),
                environment: environment.clone(),
            });
        }
    }
    all
}

/// The values in `yaml` of fields that name a file or a variable: what follows `field: `, up to a `}` or the line's
/// end.
fn values<'a>(yaml: &'a str, field: &str) -> Vec<&'a str> {
    let field = format!("{field}: ");
    let rests = yaml.split(&*field).skip(1);
    rests
        .map(|rest| rest.split(['}', '\n', ',']).next().unwrap().trim())
        .collect()
}

/// Runs `sluice check-config` on a block, with the files and variables that it names.
fn check(block: &Block) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut yaml = block.yaml.clone();
    let mut paths = values(&block.yaml, "file");
    paths.extend(values(&block.yaml, "location"));
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        assert!(path.starts_with('/'), "{}: {path}", block.page);
        let here = dir.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(here.parent().unwrap()).unwrap();
        match FILES.iter().find(|(end, _)| path.ends_with(end)) {
            Some((_, store)) => {
                std::fs::copy(root().join("testdata/keystores").join(store), &here).unwrap();
            }
            None if path.ends_with("sasl.jaas.config") => std::fs::write(&here, JAAS).unwrap(),
            None => std::fs::write(&here, "sentinel").unwrap(),
        }
        yaml = yaml.replace(path, here.to_str().unwrap());
    }
    let file = dir.path().join("sluice.yaml");
    std::fs::write(&file, yaml).unwrap();
    let variables = values(&block.yaml, "env");
    std::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["check-config", "--show", "--config"])
        .arg(file)
        .env_clear()
        .envs(variables.into_iter().map(|name| (name, "sentinel")))
        .envs(&block.environment)
        .output()
        .unwrap()
}

#[test]
fn every_configuration_of_a_providers_page_is_accepted_without_a_warning() {
    let blocks = blocks();
    let mut pages: Vec<&str> = blocks.iter().map(|block| &*block.page).collect();
    pages.dedup();
    let expected = [
        "confluent-cloud",
        "event-hubs",
        "msk",
        "redpanda",
        "strimzi",
        "upsun",
    ];
    assert_eq!(pages, expected.map(|name| format!("{name}.md")));
    for block in &blocks {
        let done = check(block);
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "{}:\n{}\n{err}", block.page, block.yaml);
        assert_eq!(err, "", "{}:\n{}", block.page, block.yaml);
        assert!(out.contains("allowed_topics"), "{out}");
        assert!(!out.contains("sentinel"), "{out}");
    }
}

#[test]
fn what_such_a_configuration_gets_wrong_is_found() {
    for (right, wrong, told) in [
        ("mechanism: PLAIN", "mechanism: PLANE", "authentication.mechanism"),
        ("security: {ssl: true}", "security: {sssl: true}", "security.sssl"),
        (
            "socket.keepalive.enable",
            "socket.keepalive.enabled",
            "no such property",
        ),
        (
            "{env: CONFLUENT_API_SECRET}",
            "{environment: X}",
            "authentication.password",
        ),
    ] {
        let mut block = blocks().remove(0);
        assert!(block.yaml.contains(right), "{right}");
        block.yaml = block.yaml.replace(right, wrong);
        let done = check(&block);
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && err.contains(told), "{told}: {err}");
    }
}

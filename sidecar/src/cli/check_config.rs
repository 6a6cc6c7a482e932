//! `sluice check-config`

mod names;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use sluice_filter::config::envoy::{Wanted, check_envoy};
use sluice_settings::Problem;

use super::{Environment, Failure, complain, target};
use crate::config::{self, Address, Cluster, Config, Loaded};
use crate::kafka::connection::{Connection, PATIENCE};
use crate::kafka::probe::{self, Standing};
use crate::templates::Definition;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The sidecar's configuration [default: sluice.yaml, unless only --envoy is given]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An Envoy bootstrap: the filter's configuration and the metadata of its routes
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Try to reach each cluster of the sidecar's configuration
    #[arg(long)]
    connect: bool,
    /// Print the sidecar's configuration as it is in force, without secrets, and where each value is from
    #[arg(long)]
    show: bool,
}

/// Checks both files before it gives up on either.
pub(super) fn run(arguments: &Arguments, environment: Environment) -> Result<(), Failure> {
    let sidecar = match (&arguments.config, &arguments.envoy) {
        (Some(file), _) => Some(file.as_path()),
        (None, None) => Some(Path::new("sluice.yaml")),
        (None, Some(_)) => None,
    };
    if sidecar.is_none() && (arguments.connect || arguments.show) {
        return Err(Failure::Other("--connect and --show need --config".to_owned()));
    }
    let mut summaries = Vec::new();
    let mut wrong = Vec::new();
    let mut checked = None;
    let mut wanted = Vec::new();
    let checks = [
        sidecar.map(|file| {
            let loaded = check_sidecar(file, environment)?;
            let summary = format!("{}: ok: {}", file.display(), summary(&loaded.config));
            checked = Some(loaded);
            Ok(summary)
        }),
        arguments.envoy.as_deref().map(|file| {
            let (summary, names) = check_envoy_file(file)?;
            wanted = names;
            Ok(summary)
        }),
    ];
    for check in checks.into_iter().flatten() {
        match check {
            Ok(summary) => summaries.push(summary),
            Err(Failure::Config(lines)) => wrong.extend(lines),
            Err(other) => return Err(other),
        }
    }
    if let (Some(loaded), Some(envoy)) = (&checked, &arguments.envoy) {
        let problems = names::problems(&wanted, &loaded.config);
        wrong.extend(
            problems
                .iter()
                .map(|problem| format!("{}: {problem}", envoy.display())),
        );
    }
    if !wrong.is_empty() {
        return Err(Failure::Config(wrong));
    }
    let mut out = std::io::stdout().lock();
    for summary in summaries {
        writeln!(out, "{summary}")?;
    }
    let Some(Loaded { config, origins, .. }) = checked else {
        return Ok(());
    };
    if arguments.show {
        write!(out, "{}", config::show(&config, &origins))?;
    }
    if arguments.connect {
        connect(&config, &mut out)?;
    }
    Ok(())
}

/// How many topics of a cluster are asked about.
const TOPICS: usize = 100;

/// Tries each cluster, all at once, and prints a line for each that can be reached.
fn connect(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let tries: Vec<(&String, Result<String, String>)> = std::thread::scope(|scope| {
        let start = |(name, cluster)| {
            let connection = target::connection(config, cluster);
            (name, scope.spawn(move || reach(&connection, cluster)))
        };
        let running: Vec<_> = config.clusters.iter().map(start).collect();
        let end = |(name, thread): (_, std::thread::ScopedJoinHandle<'_, _>)| {
            (
                name,
                thread
                    .join()
                    .unwrap_or_else(|_| Err("the attempt failed".to_owned())),
            )
        };
        running.into_iter().map(end).collect()
    });
    let mut wrong = Vec::new();
    for (name, tried) in tries {
        match tried {
            Ok(said) => writeln!(out, "clusters.{name}: {said}")?,
            Err(why) => wrong.push(format!("clusters.{name}: {why}")),
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::Several(wrong))
    }
}

/// What there is to say of a cluster that can be reached, or why it cannot be, or not be written.
fn reach(connection: &Connection, cluster: &Cluster) -> Result<String, String> {
    if cluster.callers.is_some() {
        return Ok("not tried: it is written with its callers' own tokens".to_owned());
    }
    let reached = probe::reach(connection, PATIENCE).map_err(|error| error.to_string())?;
    let exact = cluster
        .allowed_topics
        .0
        .iter()
        .filter(|entry| !entry.ends_with('*'));
    let (mut unknown, mut denied) = (Vec::new(), Vec::new());
    for topic in exact.take(TOPICS).filter(|_| cluster.produces) {
        match reached.topic(topic, PATIENCE) {
            Standing::Unknown => unknown.push(topic.as_str()),
            Standing::NotAuthorised => denied.push(topic.as_str()),
            Standing::Exists | Standing::Unclear => {}
        }
    }
    if !denied.is_empty() {
        return Err(format!("not authorised on {}", denied.join(", ")));
    }
    if !unknown.is_empty() {
        return Ok(format!("reached; it has no topic {}", unknown.join(", ")));
    }
    Ok("reached".to_owned())
}

fn check_sidecar(file: &Path, environment: Environment) -> Result<Loaded, Failure> {
    let loaded = target::load(file, environment)?;
    for warning in &loaded.warnings {
        complain(&format!("{}: warning: {warning}", file.display()));
    }
    Ok(loaded)
}

/// What was understood of the file, and what it names of the sidecar's.
fn check_envoy_file(file: &Path) -> Result<(String, Vec<Wanted>), Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Config(vec![format!("{name}: cannot be read: {error}")]))?;
    let tree = crate::config::yaml_tree(&text).map_err(|problem| Failure::of_config(&name, &[problem]))?;
    let mut report = check_envoy(&tree);
    for (path, definition) in std::mem::take(&mut report.templates) {
        if let Err(message) = Definition::compile(&definition) {
            report.errors.push(Problem { path, message });
        }
    }
    for warning in &report.warnings {
        complain(&format!("{name}: warning: {warning}"));
    }
    if !report.errors.is_empty() {
        return Err(Failure::of_config(&name, &report.errors));
    }
    let summary = format!(
        "{name}: ok: filters: {}; routes that produce: {}",
        report.filters, report.produce_routes
    );
    Ok((summary, report.wanted))
}

/// One line of what was understood.
fn summary(config: &Config) -> String {
    let listeners = [
        ("stream", &config.listeners.stream),
        ("data", &config.listeners.data),
        ("admin", &config.listeners.admin),
    ];
    let mut parts: Vec<String> = listeners
        .iter()
        .map(|(name, listener)| match &listener.address {
            Address::Tcp(address) => format!("{name} on {address}"),
            Address::Unix { path, .. } => format!("{name} on {}", path.display()),
        })
        .collect();
    let names = |names: Vec<&str>| names.join(", ");
    parts.push(format!(
        "clusters: {}",
        names(config.clusters.keys().map(String::as_str).collect())
    ));
    parts.push(format!(
        "producers: {}",
        names(config.producers.keys().map(String::as_str).collect())
    ));
    if let Some(dev) = &config.dev_broker {
        parts.push(format!("dev broker on {}", dev.address));
    }
    parts.join("; ")
}

//! `sluice check-config`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use sluice_filter::config::envoy::check_envoy;

use super::{Environment, Failure, complain, target};
use crate::config::{Address, Config};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The sidecar's configuration [default: sluice.yaml, unless only --envoy is given]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// An Envoy bootstrap: the filter's configuration and the metadata of its routes
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

/// Checks both files before it gives up on either.
pub(super) fn run(arguments: &Arguments, environment: Environment) -> Result<(), Failure> {
    let sidecar = match (&arguments.config, &arguments.envoy) {
        (Some(file), _) => Some(file.as_path()),
        (None, None) => Some(Path::new("sluice.yaml")),
        (None, Some(_)) => None,
    };
    let mut summaries = Vec::new();
    let mut wrong = Vec::new();
    let checks = [
        sidecar.map(|file| check_sidecar(file, environment)),
        arguments.envoy.as_deref().map(check_envoy_file),
    ];
    for check in checks.into_iter().flatten() {
        match check {
            Ok(summary) => summaries.push(summary),
            Err(Failure::Config(lines)) => wrong.extend(lines),
            Err(other) => return Err(other),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::Config(wrong));
    }
    let mut out = std::io::stdout().lock();
    for summary in summaries {
        writeln!(out, "{summary}")?;
    }
    Ok(())
}

fn check_sidecar(file: &Path, environment: Environment) -> Result<String, Failure> {
    let loaded = target::load(file, environment)?;
    for warning in &loaded.warnings {
        complain(&format!("{}: warning: {warning}", file.display()));
    }
    Ok(format!("{}: ok: {}", file.display(), summary(&loaded.config)))
}

fn check_envoy_file(file: &Path) -> Result<String, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Config(vec![format!("{name}: cannot be read: {error}")]))?;
    let tree = crate::config::yaml_tree(&text).map_err(|problem| Failure::of_config(&name, &[problem]))?;
    let report = check_envoy(&tree);
    for warning in &report.warnings {
        complain(&format!("{name}: warning: {warning}"));
    }
    if !report.errors.is_empty() {
        return Err(Failure::of_config(&name, &report.errors));
    }
    Ok(format!(
        "{name}: ok: filters: {}; routes that produce: {}",
        report.filters, report.produce_routes
    ))
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

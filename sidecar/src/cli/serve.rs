//! `sluice serve`

use std::io::IsTerminal;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Environment, Failure, target};
use crate::{app, shutdown};

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// What the AWS SDK logs of its requests, below `info`, has their signatures and tokens in it, whatever `RUST_LOG` says.
fn tells_no_secret(target: &str, level: Level) -> bool {
    level <= Level::INFO || !target.starts_with("aws_")
}

/// Runs the sidecar until it is told to stop.
pub(super) fn run(file: &Path, environment: Environment) -> Result<(), Failure> {
    let filter = environment.get("RUST_LOG").cloned();
    let loaded = target::load(file, environment)?;
    let filter = filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Failure::Config(vec![format!("RUST_LOG: {error}")]))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // By itself it complains about what it cannot write, to where that cannot be written either, and panics.
        .log_internal_errors(false)
        .finish()
        .with(filter_fn(|about| tells_no_secret(about.target(), *about.level())))
        .try_init()
        .map_err(|error| Failure::Other(format!("cannot log: {error}")))?;
    for warning in &loaded.warnings {
        tracing::warn!(path = warning.path, "{}", warning.message);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signals()
            .map_err(|error| Failure::Other(format!("cannot listen for signals: {error}")))?;
        // A limit on the size of files would end the process, instead of failing the write like a full disk: taking the
        // signal is enough for that, and nobody need look at it.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ)));
        app::run(loaded.config, shutdown)
            .await
            .map_err(|error| Failure::Other(error.to_string()))
    })
}

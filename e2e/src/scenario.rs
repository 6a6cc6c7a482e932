//! One test: a directory of its own, a bound on its time, and evidence when it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::{parts, process};

/// Whether a scenario of this process has failed; what is shared then keeps its logs.
static FAILED: AtomicBool = AtomicBool::new(false);

/// What a scenario's body is given.
#[derive(Debug)]
pub struct Scenario {
    name: String,
    dir: PathBuf,
}

impl Scenario {
    /// The scenario's name: unique in its test program, and usable in topic names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A topic name of this scenario's own.
    pub fn topic(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// The scenario's directory: gone once it has succeeded.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same scenario with a directory within its own, for another of the parts that it has one of.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn within(&self, name: &str) -> Result<Self> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self {
            name: self.name.clone(),
            dir,
        })
    }
}

/// Runs `body` as [`scenario_within`] does, for 180 seconds at most.
///
/// # Errors
/// What `body` gives, or that it took too long.
pub fn scenario(name: &str, body: impl AsyncFnOnce(&Scenario) -> Result<()>) -> Result<()> {
    scenario_within(Duration::from_secs(180), name, body)
}

/// Runs `body`, for `limit` at most, with a directory `target/e2e/<name>` which is removed if it succeeds,
/// and kept, its logs' ends printed, if it does not.
///
/// # Errors
/// What `body` gives, or that it took too long.
pub fn scenario_within<T>(
    limit: Duration,
    name: &str,
    body: impl AsyncFnOnce(&Scenario) -> Result<T>,
) -> Result<T> {
    let dir = parts::root().join("target/e2e").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let evidence = Evidence {
        dir: Some(dir.clone()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let given = Scenario {
        name: name.to_owned(),
        dir,
    };
    let outcome = runtime.block_on(async { tokio::time::timeout(limit, body(&given)).await });
    runtime.shutdown_background();
    let given = outcome.unwrap_or_else(|_| Err(anyhow!("{name} took longer than {limit:?}")))?;
    evidence.remove()?;
    Ok(given)
}

/// Keeps a directory unless told that all went well.
struct Evidence {
    dir: Option<PathBuf>,
}

impl Evidence {
    fn remove(mut self) -> Result<()> {
        self.dir.take().map_or(Ok(()), |dir| {
            std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))
        })
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        FAILED.store(true, Ordering::Relaxed);
        let mut logs: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
        logs.sort_by_key(std::fs::DirEntry::path);
        for entry in logs
            .iter()
            .map(std::fs::DirEntry::path)
            .filter(|p| p.extension().is_some_and(|e| e == "log"))
        {
            eprintln!("{}", process::tail(&entry, 30));
        }
        eprintln!("kept: {}", dir.display());
    }
}

/// Whether a scenario of this process has failed so far.
pub(crate) fn any_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_stays_only_after_a_failure() {
        let dir = parts::root().join("target/e2e/unit-scenario");
        scenario("unit-scenario", async |s| {
            std::fs::write(s.dir().join("a.log"), "hello")?;
            Ok(())
        })
        .unwrap();
        assert!(!dir.exists());

        let failed = scenario("unit-scenario", async |_| Err(anyhow!("on purpose")));
        assert_eq!(failed.unwrap_err().to_string(), "on purpose");
        assert!(dir.exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}

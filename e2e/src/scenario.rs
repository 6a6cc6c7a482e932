//! One test: a directory of its own, a bound on its time, and evidence when it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use tokio::sync::Semaphore;

use crate::{parts, process};

/// Whether a scenario of this process has failed; what is shared then keeps its logs.
static FAILED: AtomicBool = AtomicBool::new(false);

/// How many of a process run at once. Each has programs of its own that take memory and time, and test programs may be given more
/// threads than the machine has processors, since most other tests wait.
static PLACES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from) + 1));

/// What a scenario's body is given.
#[derive(Debug)]
pub struct Scenario {
    name: String,
    dir: PathBuf,
    kept: Arc<AtomicBool>,
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
            kept: Arc::clone(&self.kept),
        })
    }

    /// Has all that is in its directory kept though it succeeds: it found something that is worth looking into. The
    /// directory is then moved to `target/e2e/kept`, where the next run leaves it alone.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

/// Runs `body` as [`scenario_within`] does, for 180 seconds at most.
///
/// # Errors
/// What `body` gives, or that it took too long.
pub fn scenario(name: &str, body: impl AsyncFnOnce(&Scenario) -> Result<()>) -> Result<()> {
    scenario_within(Duration::from_secs(180), name, body)
}

/// Runs `body` when it is its turn, for `limit` at most, with a directory `target/e2e/<name>` which is removed if it succeeds,
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
    let kept = Arc::new(AtomicBool::new(false));
    let given = Scenario {
        name: name.to_owned(),
        dir,
        kept: Arc::clone(&kept),
    };
    let outcome = runtime.block_on(async {
        // It is never closed.
        let _place = PLACES.acquire().await;
        tokio::time::timeout(limit, body(&given)).await
    });
    runtime.shutdown_background();
    let given = outcome.unwrap_or_else(|_| Err(anyhow!("{name} took longer than {limit:?}")))?;
    if kept.load(Ordering::Relaxed) {
        evidence.put_away(name)?;
    } else {
        evidence.remove()?;
    }
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

    /// Moves it to where no other run of the scenario removes it.
    fn put_away(mut self, name: &str) -> Result<()> {
        let Some(dir) = self.dir.take() else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let kept = parts::root().join("target/e2e/kept");
        std::fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
        let kept = kept.join(format!("{name}-{now}"));
        std::fs::rename(&dir, &kept).with_context(|| format!("move to {}", kept.display()))?;
        println!("kept: {}", kept.display());
        Ok(())
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

        let mut kept = None;
        scenario("unit-scenario-kept", async |s| {
            let found = format!("found-{}", std::process::id());
            std::fs::write(s.dir().join(&found), "something")?;
            s.within("part")?.keep();
            kept = Some(found);
            Ok(())
        })
        .unwrap();
        let kept = kept.unwrap();
        let runs = std::fs::read_dir(parts::root().join("target/e2e/kept")).unwrap();
        let mut runs = runs.map(|run| run.unwrap().path());
        let run = runs.find(|run| run.join(&kept).exists()).unwrap();
        std::fs::remove_dir_all(run).unwrap();

        let failed = scenario("unit-scenario", async |_| Err(anyhow!("on purpose")));
        assert_eq!(failed.unwrap_err().to_string(), "on purpose");
        assert!(dir.exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}

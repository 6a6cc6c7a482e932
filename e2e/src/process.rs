//! Child processes that never outlive the one that started them.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::wait;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a child is started with.
#[derive(Debug)]
pub struct Launch {
    /// What to run; its standard output and error go to the log.
    pub command: Command,
    /// The file that its output is appended to.
    pub log: PathBuf,
    /// The CPUs that it may run on; empty: all.
    pub cpus: Vec<usize>,
}

impl Process {
    /// Starts a child. It is killed when this process ends, however that happens.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, launch: Launch) -> Result<Self> {
        let Launch {
            mut command,
            log,
            cpus,
        } = launch;
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        bind_to_parent(&mut command, &cpus)?;
        let (answer, started) = mpsc::channel();
        let job = Box::new(move || answer.send(command.spawn()).unwrap_or_default());
        spawner()
            .send(job)
            .map_err(|_| anyhow!("the thread that starts children is gone"))?;
        let child = started.recv()?.with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs: `Ok` when it does, else how it ended, with the end of its log.
    ///
    /// # Errors
    /// When it has ended.
    pub fn running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}\n{}", self.name, self.log_tail(40)),
        }
    }

    /// Sends a signal. After SIGSTOP it stands still when this returns.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Until it is waited for its id cannot be another's.
        self.running()?;
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal)?;
        if signal == Signal::SIGSTOP {
            self.stopped(pid)?;
        }
        Ok(())
    }

    /// Waits until each of its threads has stopped: on another CPU one may still run when `kill` returns.
    fn stopped(&self, pid: Pid) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        while waitid(Id::Pid(pid), flags)? == WaitStatus::StillAlive {
            ensure!(Instant::now() < until, "{} does not stop", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGKILL, and its end.
    ///
    /// # Errors
    /// When it had ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.running()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its end within `limit`.
    ///
    /// # Errors
    /// When it had ended before, or does not end.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.ended(limit).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When `limit` passes.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} (process {}) ends", self.name, self.pid());
        wait::until(&what, limit, async || {
            self.child.try_wait()?.ok_or_else(|| anyhow!("it still runs"))
        })
        .await
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// All that it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        if self.child.kill().is_ok() {
            self.child.wait().map_or_else(|_| (), |_| ());
        }
    }
}

/// Whether `status` is the end of a process that obeyed a signal or exited by itself with 0.
pub fn ended_well(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::SIGTERM as i32)
}

/// The last lines of a file, under its name; for messages.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let kept = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
    format!("--- {}\n{}", path.display(), kept.join("\n"))
}

/// Has every write of a process past so many bytes into a file fail, as on a disk that is full; none: no more.
///
/// # Errors
/// When `prlimit` (util-linux) fails.
pub fn limit_files(pid: u32, bytes: Option<u64>) -> Result<()> {
    let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    // The limit that it may set itself stays, so that this one can be taken back.
    let args = [format!("--pid={pid}"), format!("--fsize={limit}:unlimited")];
    let status = Command::new("prlimit")
        .args(args)
        .status()
        .context("start prlimit")?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts all children. The parent-death signal comes when the *thread* that started a child
/// ends, and a test's own thread ends before the children that it shares with others.
fn spawner() -> mpsc::Sender<Job> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let sender = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    });
    match sender.lock() {
        Ok(sender) => sender.clone(),
        Err(poisoned) => poisoned.into_inner().clone(),
    }
}

#[allow(
    unsafe_code,
    reason = "runs between fork and exec; calls async-signal-safe functions only"
)]
fn bind_to_parent(command: &mut Command, cpus: &[usize]) -> Result<()> {
    let parent = nix::unistd::getpid();
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    let pinned = !cpus.is_empty();
    // SAFETY: the closure allocates nothing and calls prctl, getppid, sigaction and sched_setaffinity only.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before the call above.
            if nix::unistd::getppid() != parent {
                return Err(nix::errno::Errno::ESRCH.into());
            }
            // A shell that starts this program in the background has it ignore SIGINT, which is inherited.
            signal(Signal::SIGINT, SigHandler::SigDfl)?;
            if pinned {
                sched_setaffinity(Pid::from_raw(0), &set)?;
            }
            Ok(())
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Process {
        let mut command = Command::new("sleep");
        command.arg("60");
        let launch = Launch {
            command,
            log: dir.join("log"),
            cpus: vec![0],
        };
        Process::start("sleep", launch).unwrap()
    }

    fn alive(pid: u32) -> bool {
        kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
    }

    #[tokio::test]
    async fn ends_when_asked_and_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = sleeper(dir.path());
        first.running().unwrap();
        let status = first.terminate(Duration::from_secs(5)).await.unwrap();
        assert!(ended_well(status));
        assert!(first.running().unwrap_err().to_string().contains("sleep ended"));
        assert!(first.signal(Signal::SIGTERM).is_err());

        let second = sleeper(dir.path());
        let pid = second.pid();
        assert!(alive(pid));
        drop(second);
        assert!(!alive(pid));
    }

    #[tokio::test]
    async fn stands_still_once_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = sleeper(dir.path());
        let stat = format!("/proc/{}/stat", child.pid());
        for _ in 0..20 {
            child.signal(Signal::SIGSTOP).unwrap();
            assert!(std::fs::read_to_string(&stat).unwrap().contains(" T "));
            child.signal(Signal::SIGCONT).unwrap();
        }
        assert!(ended_well(child.terminate(Duration::from_secs(5)).await.unwrap()));
    }

    #[test]
    fn outlives_the_thread_that_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut child = std::thread::spawn(move || sleeper(&path)).join().unwrap();
        child.running().unwrap();
    }
}

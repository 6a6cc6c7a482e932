//! A real browser without a window: Debian's `chromium`, told what to do over two pipes.
//!
//! The protocol is Chromium's own (<https://chromedevtools.github.io/devtools-protocol/>): JSON, each message ended by a
//! zero byte, on file descriptors 3 and 4. It needs no port and no driver of a matching version.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running browser with one page. Dropping it kills it, and waits until none of its processes writes to the profile.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    /// The process group of the browser and of those that it starts, but for its crash handlers, which write elsewhere.
    group: Pid,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
    /// The page, as the browser names it.
    page: String,
    asked: u64,
}

impl Browser {
    /// Starts one with a profile below `dir`, on an empty page.
    ///
    /// # Errors
    /// When there is none, or it does not answer within a minute.
    pub async fn start(dir: &Path) -> Result<Self> {
        let log = std::fs::File::create(dir.join("browser.log"))?;
        // The shell puts the pipes where the browser looks for them, and becomes the browser.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh", "chromium"])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                // It reads pages of this repository only, and does not start as root otherwise.
                "--no-sandbox",
            ])
            .arg(format!("--user-data-dir={}", dir.join("browser").display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("start sh")?;
        let orders = child.stdin.take().context("no pipe to the browser")?;
        let said = BufReader::new(child.stdout.take().context("no pipe from the browser")?);
        let group = child.id().context("sh has ended")?;
        let mut browser = Self {
            child,
            group: Pid::from_raw(group.cast_signed()),
            orders,
            said,
            page: String::new(),
            asked: 0,
        };
        let targets = browser
            .ask("Target.getTargets", json!({}))
            .await
            .with_context(|| {
                let log = std::fs::read_to_string(dir.join("browser.log")).unwrap_or_default();
                format!("Chromium does not answer: is Debian's package chromium installed? It says: {log}")
            })?;
        let mut targets = at(&targets, "/targetInfos").as_array().into_iter().flatten();
        let page = targets
            .find(|target| at(target, "/type") == "page")
            .context("the browser has no page")?;
        let attached = json!({"targetId": at(page, "/targetId"), "flatten": true});
        let session = browser.ask("Target.attachToTarget", attached).await?;
        let session = at(&session, "/sessionId").as_str();
        session.context("no session")?.clone_into(&mut browser.page);
        Ok(browser)
    }

    /// Goes to a page.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn open(&mut self, url: &str) -> Result<()> {
        let gone = self.ask("Page.navigate", json!({"url": url})).await?;
        match gone.get("errorText").and_then(Value::as_str) {
            None => Ok(()),
            Some(why) => bail!("{url}: {why}"),
        }
    }

    /// What an expression is worth on the page.
    ///
    /// # Errors
    /// What it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", asked).await?;
        match answer.get("exceptionDetails") {
            None => Ok(at(&answer, "/result/value").clone()),
            Some(why) => bail!("{expression}: {why}"),
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.asked += 1;
        let mut order = json!({"id": self.asked, "method": method, "params": params});
        if let Some(order) = order.as_object_mut().filter(|_| !self.page.is_empty()) {
            order.insert("sessionId".to_owned(), json!(self.page));
        }
        let order = order.to_string() + "\0";
        let asked = self.asked;
        let answered = async {
            self.orders.write_all(order.as_bytes()).await?;
            loop {
                let mut message = Vec::new();
                self.said.read_until(0, &mut message).await?;
                ensure!(message.pop() == Some(0), "the browser has ended");
                // Events come in between.
                let message: Value = serde_json::from_slice(&message)?;
                if *at(&message, "/id") == json!(asked) {
                    return Ok(message);
                }
            }
        };
        let answer: Result<Value> = tokio::time::timeout(PATIENCE, answered)
            .await
            .map_err(|_| anyhow!("{method}: no answer within {PATIENCE:?}"))?;
        let answer = answer.with_context(|| method.to_owned())?;
        match answer.get("error") {
            None => Ok(at(&answer, "/result").clone()),
            Some(error) => bail!("{method}: {error}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its id is nobody else's before it is waited for.
        if !matches!(self.child.try_wait(), Ok(None)) || killpg(self.group, Signal::SIGKILL).is_err() {
            return;
        }
        let until = Instant::now() + Duration::from_secs(10);
        while (matches!(self.child.try_wait(), Ok(None)) || lives(self.group)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process of the group still runs: one that has ended may stay a zombie for as long as its new parent likes.
fn lives(group: Pid) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    // After the name, which is in brackets and may hold anything: state, parent, group (proc_pid_stat(5)).
    let mut fields = stats.filter_map(|stat| {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<i32>().ok()?))
    });
    fields.any(|(state, of)| of == group.as_raw() && state != "Z" && state != "X")
}

/// What is at a path; null if nothing is.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

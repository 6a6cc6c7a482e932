//! `make run`.

use std::fmt::Write;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sluice_e2e::client::{Client, Reply, full};
use sluice_e2e::process::{Launch, Process};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Context, Result, bail, ensure, kafka, parts, ports, wait};

/// A checkout runs one at a time.
static TURN: Mutex<()> = Mutex::new(());

const OTHER_PORTS: [&str; 4] = ["ADMIN_PORT", "DATA_PORT", "DEV_BROKER_PORT", "ENVOY_ADMIN_PORT"];

/// It runs, and has said what to try.
struct Run {
    process: Process,
    http: Client,
    port: u16,
    /// What it calls the command.
    sluice: String,
    /// Whether it has a terminal of its own.
    terminal: bool,
}

impl Run {
    /// `scripts/run` alone, without the building.
    async fn script(s: &Scenario, kafka: &str) -> Result<Self> {
        let port = ports::pick()?;
        let sluice = parts::sidecar()?;
        let mut command = Command::new(parts::root().join("scripts/run"));
        command
            .env("HTTP_PORT", port.to_string())
            .env("KAFKA", kafka)
            .env("SLUICE", &sluice)
            .env("ENVOY", parts::envoy()?);
        for name in OTHER_PORTS {
            command.env(name, ports::pick()?.to_string());
        }
        let process = launch(s, command, port)?;
        let sluice = sluice.display().to_string();
        Self::ready(process, port, sluice, false).await
    }

    /// `make run` at a terminal, which ends what runs there when it goes away. There has to be nothing to build: other
    /// tests use what is built.
    async fn make(s: &Scenario) -> Result<Self> {
        parts::filter()?;
        parts::sidecar()?;
        parts::envoy()?;
        let port = ports::pick()?;
        let mut line = format!("make --assume-old=target/envoy/envoy run HTTP_PORT={port}");
        for name in OTHER_PORTS {
            write!(line, " {name}={}", ports::pick()?)?;
        }
        let mut command = Command::new("script");
        command.current_dir(parts::root()).args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ]);
        // Of a `make test` around it.
        for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROFILE", "KAFKA"] {
            command.env_remove(name);
        }
        let process = launch(s, command, port)?;
        Self::ready(process, port, "target/debug/sluice".to_owned(), true).await
    }

    async fn ready(mut process: Process, port: u16, sluice: String, terminal: bool) -> Result<Self> {
        let limit = Duration::from_secs(if terminal { 120 } else { 60 });
        wait::until("it says what to try", limit, async || {
            if let Err(ended) = process.running() {
                return Ok(Err(ended));
            }
            ensure!(process.log()?.contains("Ctrl-C stops it."), "not yet");
            Ok(Ok(()))
        })
        .await??;
        Ok(Self {
            process,
            http: Client::h1(port),
            port,
            sluice,
            terminal,
        })
    }

    /// What the printed curl sends.
    async fn curl(&self) -> Result<Reply> {
        let printed = format!(
            "curl -X POST http://localhost:{}/ -H 'Host: kafka-upstream.dev' -d foo=bar",
            self.port
        );
        ensure!(
            self.process.log()?.contains(&printed),
            "it does not say: {printed}"
        );
        let request = self
            .http
            .request(Method::POST, "/")
            .header("host", "kafka-upstream.dev")
            .header("content-type", "application/x-www-form-urlencoded");
        self.http.send(request.body(full("foo=bar"))?).await
    }

    /// Runs the command that was printed and contains `part`, word by word; gives what it prints.
    async fn command(&self, part: &str, more: &[&str]) -> Result<String> {
        let log = self.process.log()?;
        let line = log
            .lines()
            .find(|line| line.contains(part))
            .context("no such command was printed")?;
        let start = line.find(&self.sluice).context("not of this sluice")?;
        let mut words = line.get(start..).unwrap_or_default().split(' ');
        let output = tokio::process::Command::new(words.next().unwrap_or_default())
            .args(words)
            .args(more)
            .current_dir(parts::root())
            .kill_on_drop(true)
            .output()
            .await?;
        if !output.status.success() {
            bail!("{line}: {output:?}");
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Ctrl-C: at a terminal the signal goes to everything that runs there.
    async fn stop(mut self) -> Result<()> {
        if self.terminal {
            let pid = self.process.pid();
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            let leader = children.trim().parse().context(children)?;
            killpg(Pid::from_raw(leader), Signal::SIGINT)?;
        } else {
            self.process.signal(Signal::SIGINT)?;
        }
        let status = self.process.ended(Duration::from_secs(40)).await?;
        // Make's own status tells of the interruption.
        ensure!(
            self.terminal || status.success(),
            "{status}\n{}",
            self.process.log_tail(20)
        );
        let left = left_behind()?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        for name in ["target/run", "target/run.lock"] {
            ensure!(!parts::root().join(name).exists(), "{name} is left behind");
        }
        Ok(())
    }
}

fn launch(s: &Scenario, command: Command, port: u16) -> Result<Process> {
    let log = s.dir().join(format!("run-{port}.log"));
    let launch = Launch {
        command,
        log,
        cpus: Vec::new(),
    };
    Process::start("run", launch)
}

/// The processes of this checkout that use `target/run`.
fn left_behind() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let here = std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == parts::root());
        let Ok(line) = std::fs::read(path.join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if here && line.contains("target/run/") {
            found.push(line);
        }
    }
    Ok(found)
}

/// The printed curl and the printed tail; and a creation, as Kong's quick start begins with one.
async fn try_out(run: &Run) -> Result<()> {
    let config = "target/run/sluice.yaml";
    let create = [
        "topics",
        "create",
        "kong-upstream",
        "--partitions",
        "1",
        "--config",
        config,
    ];
    let created = tokio::process::Command::new(parts::sidecar()?)
        .args(create)
        .current_dir(parts::root())
        .output()
        .await?;
    ensure!(
        created.status.success() && created.stdout == b"kong-upstream exists with 1 partition\n",
        "{created:?}"
    );
    let reply = run.curl().await?;
    ensure!(reply.expect(200)?.json()? == json!({"message": "message sent"}));
    let printed = run.command(" tail ", &["--timeout-ms", "3000"]).await?;
    ensure!(
        printed.contains(r#"{"body":"foo=bar","body_args":{"foo":"bar"}}"#),
        "{printed}"
    );
    let path = "/topics/kong-upstream/records?from=earliest";
    let read = format!("curl \"http://localhost:{}{path}\"", run.port);
    ensure!(run.process.log()?.contains(&read), "it does not say: {read}");
    let page = run.http.get(path).await?.expect(200)?.json()?;
    let body = page.pointer("/items/0/value/body");
    ensure!(body == Some(&json!("foo=bar")), "{page}");
    try_an_action(run).await
}

/// The action that is printed, and the tail that shows its run; then what the documentation goes on with.
async fn try_an_action(run: &Run) -> Result<()> {
    let path = "/v1/actions/deploy/runs";
    let body = json!({"properties": {"service": "shop"}});
    let printed = format!(
        r#"curl http://localhost:{}{path} -H 'authorization: Bearer demo' --json '{{"properties": {{"service": "shop"}}}}'"#,
        run.port
    );
    ensure!(
        run.process.log()?.contains(&printed),
        "it does not say: {printed}"
    );
    let call = async |method: Method, path: &str, body: &Value| {
        let request = run.http.request(method, path);
        let request = request
            .header("authorization", "Bearer demo")
            .header("content-type", "application/json");
        run.http.send(request.body(full(body.to_string()))?).await
    };
    // The dev broker does not say how a topic is configured, which is waited for.
    let started = wait::until("the state is known", Duration::from_secs(30), async || {
        call(Method::POST, path, &body).await?.expect(202)?.json()
    })
    .await?;
    let id = started.pointer("/run/id").and_then(Value::as_str);
    let id = id.with_context(|| started.to_string())?;
    let printed = run.command(" tail demo.runs", &["--timeout-ms", "3000"]).await?;
    ensure!(
        printed.contains(id) && printed.contains(r#""payload":{"service":"shop","by":"demo"}"#),
        "{printed}"
    );
    let path = format!("/v1/actions/runs/{id}");
    let end = json!({"status": "SUCCESS", "summary": "shop is there"});
    let ended = call(Method::PATCH, &path, &end).await?.expect(200)?.json()?;
    ensure!(ended.pointer("/run/status") == Some(&json!("SUCCESS")), "{ended}");
    Ok(())
}

#[test]
fn make_run_does_what_it_prints_and_ctrl_c_ends_it() -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    scenario("run-make", async |s| {
        let run = Run::make(s).await?;
        ensure!(!left_behind()?.is_empty());
        try_out(&run).await?;
        run.stop().await
    })
}

#[test]
fn it_does_what_it_prints_and_leaves_nothing_behind() -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    scenario("run", async |s| {
        let run = Run::script(s, "").await?;
        ensure!(!left_behind()?.is_empty());
        try_out(&run).await?;
        run.stop().await?;

        // The same with a Kafka of the user's own, which has no topic yet.
        let mut kafka = kafka::Kafka::start(s.dir(), &kafka::Setup::default()).await?;
        let run = Run::script(s, &kafka.bootstrap()).await?;
        ensure!(
            !run.process.log()?.contains("/v1/actions"),
            "{}",
            run.process.log()?
        );
        run.curl().await?.expect_error(404, "unknown_topic")?;
        run.command(" topics create ", &[]).await?;
        wait::until("the new topic is known", Duration::from_secs(20), async || {
            run.curl().await?.expect(200).map(|_| ())
        })
        .await?;
        let printed = run.command(" tail ", &["--timeout-ms", "3000"]).await?;
        ensure!(printed.contains(r#"{"body":"foo=bar""#), "{printed}");
        ensure!(kafka.only_record("kong-upstream").await?.json()?["body"] == "foo=bar");
        run.stop().await?;
        kafka.node(1)?.kill()
    })
}

#[test]
fn make_help_lists_every_target() -> Result<()> {
    let makefile = std::fs::read_to_string(parts::root().join("Makefile"))?;
    let help = Command::new("make")
        .arg("help")
        .current_dir(parts::root())
        .output()?;
    ensure!(help.status.success(), "{help:?}");
    let help = String::from_utf8(help.stdout)?;
    let targets: Vec<_> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY: "))
        .collect();
    ensure!(targets.len() > 10, "{targets:?}");
    for target in targets {
        let described = help.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(target) && words.next().is_some()
        });
        ensure!(described, "{target} is not in\n{help}");
    }
    for variable in ["KAFKA=", "HTTP_PORT=", "ADMIN_PORT="] {
        ensure!(help.contains(variable), "{variable} is not in\n{help}");
    }
    Ok(())
}

//! `make run`, without the building.

use std::process::Command;
use std::time::Duration;

use hyper::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use sluice_e2e::client::{Client, full};
use sluice_e2e::process::{Launch, Process};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, parts, ports, wait};

/// The processes whose command line names `part`.
fn processes_with(part: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path().join("cmdline");
        let Ok(line) = std::fs::read(path) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(part) {
            found.push(line);
        }
    }
    Ok(found)
}

#[test]
fn starts_serves_and_leaves_nothing_behind() -> Result<()> {
    scenario("run", async |s| {
        let (http, admin) = (ports::pick()?, ports::pick()?);
        let mut command = Command::new(parts::root().join("scripts/run"));
        command
            .env("HTTP_PORT", http.to_string())
            .env("ADMIN_PORT", admin.to_string())
            .env("DATA_PORT", ports::pick()?.to_string())
            .env("DEV_BROKER_PORT", ports::pick()?.to_string())
            .env("ENVOY_ADMIN_PORT", ports::pick()?.to_string())
            .env("SLUICE", parts::sidecar()?)
            .env("ENVOY", parts::envoy()?);
        let mut run = Process::start(
            "run",
            Launch {
                command,
                log: s.dir().join("run.log"),
                cpus: Vec::new(),
            },
        )?;
        wait::until("it says what to try", Duration::from_secs(60), async || {
            if let Err(ended) = run.running() {
                return Ok(Err(ended));
            }
            ensure!(run.log()?.contains("Ctrl-C stops it."), "not yet");
            Ok(Ok(()))
        })
        .await??;
        ensure!(run.log()?.contains(&format!(
            "curl -X POST http://localhost:{http}/ -H 'Host: kafka-upstream.dev'"
        )));

        let client = Client::h1(http);
        let request = client
            .request(Method::POST, "/")
            .header("host", "kafka-upstream.dev")
            .header("content-type", "application/x-www-form-urlencoded");
        let reply = client.send(request.body(full("foo=bar"))?).await?;
        ensure!(reply.expect(200)?.json()? == json!({"message": "message sent"}));
        // The command that it printed, word by word, with an end to its patience.
        let log = run.log()?;
        let tail = log
            .lines()
            .map(str::trim)
            .find(|line| line.contains(" tail kong-upstream"));
        let words: Vec<_> = tail.unwrap_or_default().split(' ').collect();
        let output = tokio::process::Command::new(words.first().copied().unwrap_or_default())
            .args(words.get(1..).unwrap_or_default())
            .args(["--timeout-ms", "3000"])
            .current_dir(parts::root())
            .kill_on_drop(true)
            .output()
            .await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && printed.contains("foo=bar"),
            "{words:?}: {output:?}"
        );

        run.signal(Signal::SIGINT)?;
        let status = run.ended(Duration::from_secs(40)).await?;
        ensure!(status.success(), "{status}\n{}", run.log_tail(20));
        let left = processes_with("target/run/")?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        ensure!(
            !parts::root().join("target/run").exists(),
            "target/run is left behind"
        );
        Ok(())
    })
}

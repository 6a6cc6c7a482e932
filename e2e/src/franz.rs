//! Writing and responding with franz-go, a client of Kafka's that is neither Java's nor librdkafka: `e2e/franz`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::parts;

/// Writes records, one a line as `e2e/franz/main.go` says, compressed with `codec`, and waits until all are stored.
///
/// # Errors
/// When the writer is missing or fails; what it says is in the error.
pub async fn produce(bootstrap: &str, topic: &str, codec: &str, lines: &str) -> Result<()> {
    let mut child = Command::new(parts::franz()?)
        .args([bootstrap, topic, codec])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the writer")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(lines.as_bytes()).await?;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(90), child.wait_with_output())
        .await
        .context("franz-go took too long")??;
    ensure!(
        output.status.success(),
        "franz-go: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Answers the requests of a topic, as `e2e/franz/respond.go` says, until it is dropped.
///
/// # Errors
/// When the program is missing or cannot be started.
pub fn respond(bootstrap: &str, topic: &str) -> Result<Child> {
    Command::new(parts::franz()?)
        .args(["respond", bootstrap, topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start the responder")
}

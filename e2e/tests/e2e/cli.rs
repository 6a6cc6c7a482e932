//! `sluice topics`, `send` and `tail` on a real Kafka, as a user goes through them.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, ensure, parts, wait};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Output {
    /// What it printed; it went well.
    pub(crate) fn succeeded(self) -> Result<String> {
        ensure!(self.code == Some(0), "{self:?}");
        Ok(self.out)
    }

    /// It went well and printed exactly this.
    fn is(self, out: &str) -> Result<()> {
        ensure!(self.code == Some(0) && self.out == out, "not {out:?}: {self:?}");
        Ok(())
    }

    /// It failed, printed nothing, and its complaint begins so.
    fn failed(self, complaint: &str) -> Result<()> {
        ensure!(
            self.code == Some(1) && self.out.is_empty() && self.err.starts_with(complaint),
            "not {complaint:?}: {self:?}"
        );
        Ok(())
    }
}

fn command(brokers: &str, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(parts::sidecar()?);
    command
        .args(args)
        .args(["--brokers", brokers])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs a `sluice` command on these brokers to its end.
pub(crate) async fn sluice(brokers: &str, args: &[&str]) -> Result<Output> {
    sluice_reads(brokers, args, "").await
}

async fn sluice_reads(brokers: &str, args: &[&str], input: &str) -> Result<Output> {
    let mut child = command(brokers, args)?.spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A command that does not read has closed its end.
    stdin.write_all(input.as_bytes()).await.unwrap_or_default();
    drop(stdin);
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
    let output = ended.await.with_context(|| format!("{args:?} does not end"))??;
    Ok(Output {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Printed lines without the times, which are the second words.
fn without_times(printed: &str) -> Result<Vec<String>> {
    let lines = printed.lines().map(|line| {
        let mut words: Vec<&str> = line.split(' ').collect();
        ensure!(words.len() > 2, "{line:?}");
        let time = words.remove(1);
        ensure!(time.len() == 24 && time.ends_with('Z'), "{line:?}");
        Ok(words.join(" "))
    });
    lines.collect()
}

#[test]
fn topics_are_created_written_and_tailed() -> Result<()> {
    scenario("cli", async |s| {
        let mut setup = Setup {
            nodes: 2,
            ..Setup::default()
        }
        .property("num.partitions", "5")
        .property("default.replication.factor", "2");
        setup.users.push(("alice".to_owned(), "alice-secret".to_owned()));
        let mut kafka = Kafka::start(s.dir(), &setup).await?;
        let brokers = kafka.bootstrap();
        let run = async |args: &[&str]| sluice(&brokers, args).await;
        let topic = s.topic("orders");

        let create = ["topics", "create", &topic, "--partitions", "3"];
        let replicated = [&create[..], &["--replication-factor", "2"]].concat();
        run(&replicated).await?.is(&format!("created {topic}\n"))?;
        run(&["topics", "create", &s.topic("unsaid")])
            .await?
            .is(&format!("created {}\n", s.topic("unsaid")))?;
        let list = run(&["topics", "list"]).await?;
        list.is(&format!("{topic} 3\n{} 5\nharness-ready 1\n", s.topic("unsaid")))?;
        let described = run(&["topics", "describe", &s.topic("unsaid")])
            .await?
            .succeeded()?;
        let both = |line: &str| line.contains("replicas=1,2 ") || line.contains("replicas=2,1 ");
        ensure!(
            described.lines().count() == 6 && described.lines().skip(1).all(both),
            "{described}"
        );
        run(&replicated)
            .await?
            .is(&format!("{topic} exists with 3 partitions\n"))?;
        let others = [
            (
                "--partitions",
                "4",
                format!("{topic} exists with 3 partitions, not 4"),
            ),
            (
                "--replication-factor",
                "1",
                format!("{topic} exists with replication factor 2, not 1"),
            ),
        ];
        for (option, number, complaint) in others {
            let other = ["topics", "create", &topic, option, number];
            run(&other)
                .await?
                .failed(&format!("sluice: topic {complaint}\n"))?;
        }
        let too_many = ["topics", "create", &s.topic("x"), "--replication-factor", "3"];
        let complaint = format!("sluice: Kafka does not create topic {}: ", s.topic("x"));
        run(&too_many).await?.failed(&complaint)?;
        let nowhere = s.topic("nowhere");
        for args in [
            &["topics", "describe", &nowhere][..],
            &["tail", &nowhere],
            &["send", &nowhere, "x"],
        ] {
            let complaint = format!("sluice: no topic is named {nowhere}\n");
            run(args).await?.failed(&complaint)?;
        }

        let send = ["send", &topic, "--partition", "2"];
        let with = ["--key", "k", "--header", "a=1", "--header", "a=2", "hello"];
        run(&[&send[..], &with].concat())
            .await?
            .is(&format!("{topic} 2@0\n"))?;
        sluice_reads(&brokers, &send, "two\nlines")
            .await?
            .is(&format!("{topic} 2@1\n"))?;
        let tombstone = [&send[..], &["--tombstone", "--key", ""]].concat();
        run(&tombstone).await?.is(&format!("{topic} 2@2\n"))?;
        let written: Vec<_> = kafka.records(&topic).await?;
        let written: Vec<_> = written
            .iter()
            .map(|record| (record.partition, record.key.as_deref(), record.value.as_deref()))
            .collect();
        ensure!(
            written
                == [
                    (2, Some(&b"k"[..]), Some(&b"hello"[..])),
                    (2, None, Some(&b"two\nlines"[..])),
                    (2, Some(&b""[..]), None),
                ],
            "{written:?}"
        );
        let missing = ["send", &topic, "--partition", "3", "x"];
        let complaint = format!("sluice: topic {topic} has the partitions 0 to 2, and no 3\n");
        run(&missing).await?.failed(&complaint)?;

        let tail = ["tail", &topic, "--from-beginning", "--timeout-ms", "3000"];
        let printed = run(&[&tail[..], &["--partition", "2"]].concat()).await?;
        let lines = without_times(&printed.succeeded()?)?;
        ensure!(
            lines
                == [
                    "2@0 key=k [a=1, a=2] hello",
                    "2@1 two\\nlines",
                    "2@2 key= (tombstone)"
                ],
            "{lines:?}"
        );
        run(&[&tail[..], &["--partition", "0"]].concat()).await?.is("")?;
        let described = run(&["topics", "describe", &topic]).await?.succeeded()?;
        let ends: Vec<_> = described
            .lines()
            .skip(1)
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(_, offsets)| offsets)
            .collect();
        ensure!(
            ends == ["offsets=0..0", "offsets=0..0", "offsets=0..3"],
            "{described}"
        );

        // Without `--from-beginning` what comes from now on, from whomever. Java's producer is one of them.
        let mut waiting = command(&brokers, &["tail", &topic, "--max", "4", "--json"])?.spawn()?;
        let mut said = BufReader::new(waiting.stderr.take().context("no standard error")?).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), said.next_line()).await??;
        ensure!(
            line == Some(format!("sluice: waiting for records in 3 partitions of {topic}")),
            "{line:?}"
        );
        let keys = [("a", "java"), ("b", "java"), ("c", "java"), ("d", "java")];
        kafka.console_produce(&topic, &keys).await?;
        let output = tokio::time::timeout(Duration::from_secs(30), waiting.wait_with_output()).await??;
        let mut partitions = Vec::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let object: Value = serde_json::from_str(line)?;
            ensure!(
                object["topic"] == topic.as_str()
                    && object["value"] == "java"
                    && object["headers"] == json!([])
                    && object["timestamp"].is_i64()
                    && object["offset"].is_i64(),
                "{line}"
            );
            let key = object["key"].as_str().unwrap_or_default().to_owned();
            partitions.push((key, object["partition"].clone()));
        }
        ensure!(output.status.success() && partitions.len() == 4, "{partitions:?}");
        // The same keys go where Java's producer put them.
        for (key, partition) in partitions {
            let sent = run(&["send", &topic, "--key", &key, "ours"]).await?.succeeded()?;
            ensure!(
                sent.starts_with(&format!("{topic} {partition}@")),
                "{key}: {sent}, not in {partition}"
            );
        }

        // Properties reach the client: nobody has told Kafka yet what alice may do.
        let alice = [
            "-X",
            "security.protocol=SASL_PLAINTEXT",
            "-X",
            "sasl.mechanism=PLAIN",
            "-X",
            "sasl.username=alice",
            "-X",
            "sasl.password=alice-secret",
        ];
        let sasl = kafka.sasl_bootstrap();
        let denied = sluice(&sasl, &[&["send", &topic, "x"][..], &alice].concat()).await?;
        denied.failed(&format!("sluice: not authorised on topic {topic}\n"))?;

        // A broker that is gone is no longer in sync.
        kafka.node(2)?.kill()?;
        wait::until(
            "its replicas are out of sync",
            Duration::from_secs(40),
            async || {
                let described = run(&["topics", "describe", &topic]).await?.succeeded()?;
                let alone = |line: &str| line.contains(" leader=1 ") && line.contains(" in-sync=1 ");
                ensure!(described.lines().skip(1).all(alone), "{described}");
                Ok(())
            },
        )
        .await?;
        let total = ["tail", &topic, "--from-beginning", "--max", "11"];
        let total = run(&total).await?.succeeded()?;
        let ours = total.lines().filter(|line| line.ends_with(" ours"));
        ensure!(total.lines().count() == 11 && ours.count() == 4, "{total}");
        Ok(())
    })
}

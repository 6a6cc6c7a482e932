//! Kafka's own command-line tools: slow (a JVM each), for what no Rust client does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Door, Kafka, Node};
use crate::parts;

/// The cluster id: 16 bytes, in base64url.
const CLUSTER_ID: &str = "c2x1aWNlLWUyZS10ZXN0cw";

/// What formatting leaves in a data directory: files, by their paths in it, and their contents. Before Kafka 4 some are in a directory
/// of their own.
type Formatted = Vec<(PathBuf, Vec<u8>)>;

/// That, by broker and further arguments.
static FORMATTED: Mutex<BTreeMap<(usize, Vec<String>), Formatted>> = Mutex::new(BTreeMap::new());

/// Adds the files below `dir`, which is `path` in the data directory.
fn gather(dir: &Path, path: &Path, files: &mut Formatted) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = path.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), &path, files)?;
        } else {
            files.push((path, std::fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// Formats the brokers' data directories. The tool is asked once for each broker's number: what it writes has nothing in it of
/// ports and paths, so that the next cluster's broker of that number is given the same.
pub(super) async fn format(dir: &Path, nodes: &[Node], more: &[String]) -> Result<()> {
    let formatted = || {
        FORMATTED
            .lock()
            .map_err(|_| anyhow!("formatting has failed elsewhere"))
    };
    for node in nodes {
        let (data, key) = (node.data(dir), (node.id, more.to_vec()));
        let known = formatted()?.get(&key).cloned();
        if let Some(files) = known {
            for (path, bytes) in files {
                let path = data.join(path);
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::write(path, bytes)?;
            }
            continue;
        }
        let properties = node.properties.display().to_string();
        let mut args = vec!["format", "--cluster-id", CLUSTER_ID, "--config", &properties];
        args.extend(more.iter().map(String::as_str));
        run("kafka.tools.StorageTool", &args, "")
            .await
            .with_context(|| format!("format below {}", dir.display()))?;
        let mut files = Vec::new();
        gather(&data, Path::new(""), &mut files)?;
        formatted()?.insert(key, files);
    }
    Ok(())
}

/// Runs a tool's main class with `input`; gives its standard output.
async fn run(class: &str, args: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("java")
        .args([
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dlog4j2.level=WARN",
        ])
        .arg("-cp")
        .arg(parts::kafka_class_path()?)
        .arg(class)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start java: is a JDK 17 or later installed?")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
        .await
        .with_context(|| format!("{class} took too long"))??;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{class} {args:?}: {}\n{out}{err}",
        output.status
    );
    Ok(out.into_owned())
}

impl Kafka {
    /// Creates a topic with its partitions on chosen brokers, `1` or `1:2,2:1` (replicas `:`, partitions `,`),
    /// and topic properties.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn create_assigned(&self, name: &str, replicas: &str, properties: &[&str]) -> Result<()> {
        let bootstrap = self.bootstrap();
        let mut args = vec![
            "--bootstrap-server",
            &bootstrap,
            "--create",
            "--topic",
            name,
            "--replica-assignment",
            replicas,
        ];
        properties
            .iter()
            .for_each(|property| args.extend(["--config", property]));
        run("org.apache.kafka.tools.TopicCommand", &args, "").await?;
        let client = self.client().await?;
        self.partitions(&client, name).await.map(|_| ())
    }

    /// Lets a user of the SASL listener do an operation (`Write`, `Describe` …) on a topic.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn allow(&self, user: &str, operation: &str, topic: &str) -> Result<()> {
        self.acl("--add", user, operation, topic).await
    }

    /// Takes back what [`Self::allow`] gave.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn revoke(&self, user: &str, operation: &str, topic: &str) -> Result<()> {
        self.acl("--remove", user, operation, topic).await
    }

    /// Lets a user of the SASL listener do an operation (`Read`, `Describe` …) on a consumer group.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn allow_group(&self, user: &str, operation: &str, group: &str) -> Result<()> {
        let (bootstrap, principal) = (self.bootstrap(), format!("User:{user}"));
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--add",
            "--force",
            "--allow-principal",
            &principal,
            "--operation",
            operation,
            "--group",
            group,
        ];
        run("org.apache.kafka.tools.AclCommand", &args, "")
            .await
            .map(|_| ())
    }

    /// What `kafka-consumer-groups --describe` says of a group: of each partition its topic and number, what is committed and
    /// the lag, in order.
    ///
    /// # Errors
    /// When the tool fails, or prints what is not expected.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<(String, i32, Option<i64>, Option<i64>)>> {
        let bootstrap = self.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "--describe", "--group", group];
        let printed = run(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &args,
            "",
        )
        .await?;
        let mut found = Vec::new();
        for line in printed.lines() {
            let cells: Vec<&str> = line.split_whitespace().collect();
            // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
            let [name, topic, partition, committed, _, lag, ..] = cells.as_slice() else {
                continue;
            };
            if *name == group {
                found.push((
                    (*topic).to_owned(),
                    partition.parse()?,
                    committed.parse().ok(),
                    lag.parse().ok(),
                ));
            }
        }
        found.sort();
        Ok(found)
    }

    /// By which protocol a group's members agree, as `kafka-groups --list` has it: `Classic` or `Consumer`; none: there is no such
    /// group.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn group_type(&self, group: &str) -> Result<Option<String>> {
        let bootstrap = self.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "--list"];
        let printed = run("org.apache.kafka.tools.GroupsCommand", &args, "").await?;
        // GROUP TYPE PROTOCOL
        let mut rows = printed.lines().map(str::split_whitespace);
        Ok(rows.find_map(|mut row| {
            let name = row.next()?;
            row.next().filter(|_| name == group).map(str::to_owned)
        }))
    }

    async fn acl(&self, action: &str, user: &str, operation: &str, topic: &str) -> Result<()> {
        let (bootstrap, principal) = (self.bootstrap(), format!("User:{user}"));
        let args = [
            "--bootstrap-server",
            &bootstrap,
            action,
            "--force",
            "--allow-principal",
            &principal,
            "--operation",
            operation,
            "--topic",
            topic,
        ];
        run("org.apache.kafka.tools.AclCommand", &args, "")
            .await
            .map(|_| ())
    }

    /// Gives a user of SCRAM-SHA-256 a password.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn set_scram(&self, user: &str, password: &str) -> Result<()> {
        let bootstrap = self.bootstrap();
        let config = format!("SCRAM-SHA-256=[password={password}]");
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            user,
            "--add-config",
            &config,
        ];
        run("kafka.admin.ConfigCommand", &args, "").await.map(|_| ())
    }

    /// Makes a delegation token of a user's, whom SCRAM-SHA-256 knows at [`Door::Sasl`]; gives its id and its HMAC.
    ///
    /// # Errors
    /// When the tool fails, or prints something else.
    pub async fn create_token(&self, user: &str, password: &str) -> Result<(String, String)> {
        let out = self
            .tokens(user, password, &["--create", "--max-life-time-period", "-1"])
            .await?;
        let line = out.lines().rev().find(|line| !line.trim().is_empty());
        let mut words = line.unwrap_or_default().split_whitespace().map(str::to_owned);
        match (words.next(), words.next()) {
            (Some(id), Some(hmac)) if hmac.len() > 40 => Ok((id, hmac)),
            _ => bail!("no token in {out}"),
        }
    }

    /// Ends a delegation token of a user's now.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn expire_token(&self, user: &str, password: &str, hmac: &str) -> Result<()> {
        self.tokens(
            user,
            password,
            &["--expire", "--expiry-time-period", "-1", "--hmac", hmac],
        )
        .await
        .map(|_| ())
    }

    async fn tokens(&self, user: &str, password: &str, action: &[&str]) -> Result<String> {
        let (door, login) = (self.door(Door::Sasl), self.dir.join("token.properties"));
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\nsasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{user}\" password=\"{password}\";\n"
        );
        std::fs::write(&login, text)?;
        let login = login.display().to_string();
        let mut args = vec!["--bootstrap-server", &door, "--command-config", &login];
        args.extend(action);
        run("org.apache.kafka.tools.DelegationTokenCommand", &args, "").await
    }

    /// Sets a property of a running broker, by its id.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn set_broker(&self, id: usize, property: &str) -> Result<()> {
        let (bootstrap, id) = (self.bootstrap(), id.to_string());
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--alter",
            "--entity-type",
            "brokers",
            "--entity-name",
            &id,
            "--add-config",
            property,
        ];
        run("kafka.admin.ConfigCommand", &args, "").await.map(|_| ())
    }

    /// Gives a topic more partitions, `count` in all.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn add_partitions(&self, topic: &str, count: i32) -> Result<()> {
        let (bootstrap, count) = (self.bootstrap(), count.to_string());
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--alter",
            "--topic",
            topic,
            "--partitions",
            &count,
        ];
        run("org.apache.kafka.tools.TopicCommand", &args, "")
            .await
            .map(|_| ())
    }

    /// Sets a property of a topic that exists.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn set_topic(&self, topic: &str, property: &str) -> Result<()> {
        let bootstrap = self.bootstrap();
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--alter",
            "--entity-type",
            "topics",
            "--entity-name",
            topic,
            "--add-config",
            property,
        ];
        run("kafka.admin.ConfigCommand", &args, "").await.map(|_| ())
    }

    /// Writes records with Kafka's own Java producer and its default partitioner: the reference for what goes
    /// into which partition.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn console_produce(&self, topic: &str, records: &[(&str, &str)]) -> Result<()> {
        self.console_produce_with(topic, &[], records).await
    }

    /// The same with further arguments of the tool's.
    ///
    /// # Errors
    /// When the tool fails.
    pub async fn console_produce_with(
        &self,
        topic: &str,
        more: &[&str],
        records: &[(&str, &str)],
    ) -> Result<()> {
        let bootstrap = self.bootstrap();
        let mut args = vec![
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            topic,
            "--reader-property",
            "parse.key=true",
            "--reader-property",
            "key.separator=\t",
        ];
        args.extend(more);
        let lines: String = records
            .iter()
            .map(|(key, value)| format!("{key}\t{value}\n"))
            .collect();
        run("org.apache.kafka.tools.ConsoleProducer", &args, &lines)
            .await
            .map(|_| ())
    }

    /// The first `count` records of a topic as Kafka's own consumer prints them, a line each:
    /// `header:value,header:value⇥key⇥value`, headers in their order, repeated ones too.
    ///
    /// # Errors
    /// When the tool fails, or there are fewer.
    pub async fn console_consume(&self, topic: &str, count: usize) -> Result<Vec<String>> {
        let (bootstrap, max) = (self.bootstrap(), count.to_string());
        // Kafka 3 has the option under its first name only, which 4 warns of on standard output.
        let option = match parts::kafka_version() {
            Some(version) if version.starts_with("3.") => "--property",
            _ => "--formatter-property",
        };
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            &max,
            "--timeout-ms",
            "30000",
            option,
            "print.headers=true",
            option,
            "print.key=true",
        ];
        let text = run("org.apache.kafka.tools.consumer.ConsoleConsumer", &args, "").await?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        ensure!(
            lines.len() == count,
            "{} records in {topic}, not {count}: {text}",
            lines.len()
        );
        Ok(lines)
    }
}

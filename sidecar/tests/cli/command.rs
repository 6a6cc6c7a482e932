//! Runs the `sluice` command in a directory of its own, with a `sluice.yaml` that has a dev broker.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::time::Duration;

use sluice::config;
use sluice::kafka::dev_broker::DevBroker;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The user that owns nothing.
const NOBODY: u32 = 65534;
/// No command here takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// A dev broker, the admin listener of the sidecar it would be in, and a configuration that names both.
pub(crate) struct Kafka {
    broker: DevBroker,
    admin: String,
    directory: TempDir,
    _server: JoinSet<()>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Kafka {
    /// `more` is added to the configuration; its `listeners` may lack `admin`.
    pub(crate) async fn start(more: &str) -> Self {
        let config = config::DevBroker {
            address: "127.0.0.1:0".parse().unwrap(),
            topics: vec![("orders".to_owned(), 3)],
            default_partitions: 4,
        };
        let broker = DevBroker::start(&config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let routes = broker.admin_routes();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let directory = TempDir::new().unwrap();
        let address = broker.address();
        let yaml = format!(
            "clusters: {{main: {{bootstrap_servers: \"{address}\", allowed_topics: [orders]}}}}\n\
             dev_broker: {{address: \"{address}\"}}\n{more}"
        );
        std::fs::write(directory.path().join("sluice.yaml"), yaml).unwrap();
        Self {
            broker,
            admin,
            directory,
            _server: server,
        }
    }

    pub(crate) fn brokers(&self) -> String {
        self.broker.address().to_string()
    }

    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// The same, where another sidecar's admin listener is meant.
    pub(crate) fn with_admin(mut self, admin: &str) -> Self {
        admin.clone_into(&mut self.admin);
        self
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.directory.path().join(file), text).unwrap();
    }

    /// The size of a file in its directory, in bytes.
    pub(crate) fn file_size(&self, file: &str) -> u64 {
        std::fs::metadata(self.directory.path().join(file)).unwrap().len()
    }

    /// What is in a file in its directory.
    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.directory.path().join(file)).unwrap()
    }

    /// Sets the permissions of a file in its directory.
    pub(crate) fn permit(&self, file: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.directory.path().join(file), mode).unwrap();
    }

    /// Runs a command to its end as somebody for whom permissions count: nobody, if this is root.
    pub(crate) async fn as_nobody(&self, arguments: &[&str]) -> Output {
        // A copy: the folders above the original may be closed to others.
        let binary = self.directory.path().join("sluice");
        // By a process of its own: what is open for writing here is open in whatever another test starts just then, and cannot be run.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_sluice"))
            .arg(&binary)
            .status();
        assert!(copied.await.unwrap().success());
        self.permit("", 0o755);
        let mut command = self.command_of(binary.as_os_str(), arguments);
        let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let ended = command.stdin(Stdio::null()).output();
        let ended = tokio::time::timeout(DEADLINE, ended).await.unwrap().unwrap();
        Output {
            code: ended.status.code(),
            out: String::from_utf8(ended.stdout).unwrap(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_sluice").as_ref(), arguments)
    }

    fn command_of(&self, binary: &OsStr, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_remove("RUST_LOG")
            .env("SLUICE__LISTENERS__ADMIN__ADDRESS", self.admin())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a command whose standard error is a file.
    pub(crate) fn spawn_logging_to(&self, file: &str, arguments: &[&str]) -> Child {
        let log = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        self.command(arguments)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts a command that is still running when this returns.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        self.spawn_with(arguments, &[])
    }

    /// The same with more variables in its environment.
    pub(crate) fn spawn_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        // Read all the time: a command whose complaints nobody takes stands still.
        let (lines, complaints) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Running {
            child,
            complaints,
            heard: String::new(),
        }
    }
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    complaints: mpsc::UnboundedReceiver<String>,
    heard: String,
}

impl Running {
    /// Waits for a line on standard error that has `part` in it.
    pub(crate) async fn wait_for(&mut self, part: &str) {
        let lines = async {
            while let Some(line) = self.complaints.recv().await {
                self.heard.push_str(&line);
                self.heard.push('\n');
                if line.contains(part) {
                    return;
                }
            }
            panic!("it ended: {}", self.heard);
        };
        tokio::time::timeout(DEADLINE, lines)
            .await
            .expect("the line never came");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it has ended")
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&self) {
        let pid = self.pid().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(killed.success());
    }

    /// SIGKILL, and its end.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// No file that it writes grows beyond `bytes` from now on, as on a full disk. The signal that comes with it is
    /// ignored where the sidecar has a spool.
    pub(crate) fn limit_files(&self, bytes: u64) {
        let pid = self.child.id().expect("it has ended").to_string();
        let limit = if bytes == u64::MAX {
            "unlimited".to_owned()
        } else {
            bytes.to_string()
        };
        let limited = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={limit}:")])
            .status()
            .unwrap();
        assert!(limited.success());
    }

    /// Nobody reads what it prints from now on.
    pub(crate) fn close_output(&mut self) {
        drop(self.child.stdout.take());
    }

    pub(crate) async fn finish(mut self) -> Output {
        let end = async {
            let mut out = Vec::new();
            if let Some(mut stdout) = self.child.stdout.take() {
                stdout.read_to_end(&mut out).await.unwrap();
            }
            while let Some(line) = self.complaints.recv().await {
                self.heard.push_str(&line);
                self.heard.push('\n');
            }
            let code = self.child.wait().await.unwrap().code();
            Output {
                code,
                out: String::from_utf8(out).unwrap(),
                err: self.heard,
            }
        };
        tokio::time::timeout(DEADLINE, end).await.expect("it never ends")
    }
}

impl Output {
    /// It went well, and printed exactly this.
    pub(crate) fn is_ok(&self, out: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(0), out), "{}", self.err);
    }

    /// It went well; what it printed.
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It failed, and complained exactly so.
    pub(crate) fn failed(&self, code: i32, err: &str) {
        assert_eq!(
            (self.code, self.err.as_str(), self.out.as_str()),
            (Some(code), err, "")
        );
    }
}

/// Runs a command to its end.
pub(crate) async fn sluice(kafka: &Kafka, arguments: &[&str]) -> Output {
    sluice_reads(kafka, arguments, b"").await
}

/// Runs a command that reads `input`.
pub(crate) async fn sluice_reads(kafka: &Kafka, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = kafka.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let run = async {
        // A command that does not read has closed its end.
        let _unread = stdin.write_all(input).await;
        drop(stdin);
        child.wait_with_output().await.unwrap()
    };
    let output = tokio::time::timeout(DEADLINE, run).await.expect("it never ends");
    Output {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

//! MIT's KDC, on loopback, with a realm of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_e2e::process::{Launch, Process};
use sluice_e2e::{Context, Result, ensure, ports, wait};
use tokio::net::TcpStream;
use tokio::process::Command;

pub(super) const REALM: &str = "SLUICE.TEST";

pub(super) struct Kdc {
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// A variable that `make test-gssapi` sets: the name of a file that is written here.
fn file(variable: &str) -> Result<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "tests have no main that could pass it on"
    )]
    let name = std::env::var(variable);
    Ok(name
        .with_context(|| format!("{variable} is not set: run `make test-gssapi`"))?
        .into())
}

impl Kdc {
    /// Makes a realm below `dir`.
    pub(super) async fn new(dir: &Path) -> Result<Self> {
        let dir = dir.join("kdc");
        std::fs::create_dir_all(&dir)?;
        let port = ports::pick()?;
        let (client, server) = (file("KRB5_CONFIG")?, file("KRB5_KDC_PROFILE")?);
        std::fs::create_dir_all(client.parent().context("a file without a folder")?)?;
        std::fs::write(
            client,
            format!(
                "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\nrdns = false\n\
                 dns_canonicalize_hostname = false\nudp_preference_limit = 1\n\
                 [realms]\n{REALM} = {{\nkdc = 127.0.0.1:{port}\n}}\n"
            ),
        )?;
        let below = dir.display();
        std::fs::write(
            server,
            format!(
                "[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n\
                 [realms]\n{REALM} = {{\ndatabase_name = {below}/principal\nkey_stash_file = {below}/stash\n\
                 acl_file = {below}/acl\n}}\n[logging]\nkdc = STDERR\n"
            ),
        )?;
        let kdc = Self {
            dir,
            port,
            process: None,
        };
        kdc.run("kdb5_util", &["-r", REALM, "-P", "of-the-test", "create", "-s"])
            .await?;
        Ok(kdc)
    }

    /// A new principal's keytab.
    pub(super) async fn keytab(&self, principal: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}.keytab", principal.replace('/', "-")));
        self.admin(&format!("addprinc -randkey {principal}")).await?;
        self.admin(&format!("ktadd -k {} {principal}", path.display()))
            .await?;
        ensure!(path.exists(), "kadmin.local writes no {}", path.display());
        Ok(path)
    }

    /// Makes a principal's keytabs useless.
    pub(super) async fn change_key(&self, principal: &str) -> Result<()> {
        self.admin(&format!("cpw -randkey {principal}")).await
    }

    /// Deletes a principal.
    pub(super) async fn delete(&self, principal: &str) -> Result<()> {
        self.admin(&format!("delprinc -force {principal}")).await
    }

    async fn admin(&self, query: &str) -> Result<()> {
        self.run("kadmin.local", &["-r", REALM, "-q", query]).await
    }

    /// Runs one of Debian's `/usr/sbin`, which is in few users' path.
    async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let output = Command::new(Path::new("/usr/sbin").join(program))
            .args(arguments)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), output)
            .await?
            .with_context(|| format!("start {program}: are krb5-kdc and krb5-admin-server installed?"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {arguments:?}: {said}");
        Ok(())
    }

    /// Starts it, and waits until it is there.
    pub(super) async fn start(&mut self) -> Result<()> {
        let mut command = std::process::Command::new("/usr/sbin/krb5kdc");
        command.args(["-n", "-r", REALM]);
        let launch = Launch {
            command,
            log: self.dir.join("kdc.log"),
            cpus: Vec::new(),
        };
        self.process = Some(Process::start("krb5kdc", launch)?);
        wait::until("the KDC listens", Duration::from_secs(30), async || {
            TcpStream::connect(("127.0.0.1", self.port)).await?;
            Ok(())
        })
        .await
    }

    /// Ends it.
    pub(super) fn stop(&mut self) {
        self.process = None;
    }
}

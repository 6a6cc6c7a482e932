//! Where the built parts are, and whether they are there and current.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

/// The workspace's root directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// The filter, built for Envoy.
///
/// # Errors
/// When it is missing, or older than one of its sources.
pub fn filter() -> Result<PathBuf> {
    let wasm = root().join("target/wasm32-wasip1/wasm/sluice_filter.wasm");
    current(&wasm, "make wasm")?;
    Ok(wasm)
}

/// The sidecar: `$SLUICE_BIN`, or the one of the dev profile.
///
/// # Errors
/// When it is missing, or older than one of its sources.
pub fn sidecar() -> Result<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "tests have no main that could pass it on"
    )]
    let chosen = std::env::var("SLUICE_BIN").ok().map(|path| root().join(path));
    let binary = chosen.unwrap_or_else(|| root().join("target/debug/sluice"));
    current(&binary, "make build")?;
    Ok(binary)
}

/// The release build of the sidecar.
///
/// # Errors
/// When it is missing, or older than one of its sources.
pub fn sidecar_release() -> Result<PathBuf> {
    let binary = root().join("target/release/sluice");
    current(&binary, "make build PROFILE=release")?;
    Ok(binary)
}

/// Envoy's own binary (not the wheel's launcher, which would be another process).
///
/// # Errors
/// When it is missing.
pub fn envoy() -> Result<PathBuf> {
    let binary = root().join("target/envoy/envoy");
    ensure!(
        binary.exists(),
        "{} is missing: run `make envoy`",
        binary.display()
    );
    Ok(binary)
}

/// The program that writes and responds with franz-go.
///
/// # Errors
/// When it is missing, or older than its source.
pub fn franz() -> Result<PathBuf> {
    let binary = root().join("target/franz/writer");
    let source = |name| modified(&root().join("e2e/franz").join(name));
    let source = source("main.go")?.max(source("respond.go")?);
    let built = modified(&binary);
    ensure!(
        built.is_ok_and(|built| built >= source),
        "{} is missing, or older than e2e/franz: run `make franz`",
        binary.display()
    );
    Ok(binary)
}

/// A Python that has PyJWT.
///
/// # Errors
/// When it is missing.
pub fn pyjwt() -> Result<PathBuf> {
    python("pyjwt")
}

/// A Python that has confluent-kafka.
///
/// # Errors
/// When it is missing.
pub fn listeners() -> Result<PathBuf> {
    python("listeners")
}

/// The Python that `make {target}` makes.
fn python(target: &str) -> Result<PathBuf> {
    let directory = root().join("target").join(target);
    ensure!(
        directory.join(".complete").exists(),
        "{} is missing: run `make {target}`",
        directory.display()
    );
    Ok(directory.join("venv/bin/python"))
}

/// The version of Apache Kafka to run instead of the pinned one: `$KAFKA_VERSION`.
pub fn kafka_version() -> Option<String> {
    #[allow(
        clippy::disallowed_methods,
        reason = "tests have no main that could pass it on"
    )]
    let version = std::env::var("KAFKA_VERSION").ok();
    version.filter(|version| !version.is_empty())
}

/// The class path of Apache Kafka: of [`kafka_version`], or of the pinned one.
///
/// # Errors
/// When it is missing, or is not of that version.
pub fn kafka_class_path() -> Result<String> {
    let (lib, cure) = match kafka_version() {
        Some(version) => {
            let lib = root().join(format!("target/kafka-{version}/lib"));
            let jar = lib.join(format!("kafka_2.13-{version}.jar"));
            ensure!(jar.exists(), "{} is missing: run `make versions`", jar.display());
            (lib, "make versions")
        }
        None => (root().join("target/kafka/lib"), "make kafka"),
    };
    ensure!(
        lib.join(".complete").exists(),
        "{} is missing: run `{cure}`",
        lib.display()
    );
    Ok(format!("{}/*", lib.display()))
}

/// Refuses `artefact` when it is missing or older than a source that Cargo says it was made of.
fn current(artefact: &Path, cure: &str) -> Result<()> {
    let built = match modified(artefact) {
        Ok(time) => time,
        Err(_) => bail!("{} is missing: run `{cure}`", artefact.display()),
    };
    let dep_info = artefact.with_extension("d");
    let text = std::fs::read_to_string(&dep_info).with_context(|| format!("read {}", dep_info.display()))?;
    for source in sources(&text) {
        let newer = modified(&source).map(|time| time > built);
        // A source that is gone: the artefact was built from something else.
        if newer.unwrap_or(true) {
            bail!(
                "{} is older than {}: run `{cure}`",
                artefact.display(),
                source.display()
            );
        }
    }
    Ok(())
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    std::fs::metadata(path)?.modified()
}

/// The prerequisites in Cargo's dep-info: `artefact: source source …`, a space in a name as `\ `.
fn sources(dep_info: &str) -> Vec<PathBuf> {
    let Some((_, list)) = dep_info.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    list.replace("\\ ", "\0")
        .split_whitespace()
        .map(|source| PathBuf::from(source.replace('\0', " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_older_than_a_source_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, source) = (dir.path().join("tool"), dir.path().join("a b.rs"));
        assert!(
            current(&binary, "make it")
                .unwrap_err()
                .to_string()
                .ends_with("is missing: run `make it`")
        );

        std::fs::write(&binary, "").unwrap();
        std::fs::write(&source, "").unwrap();
        let escaped = source.display().to_string().replace(' ', "\\ ");
        std::fs::write(
            dir.path().join("tool.d"),
            format!("{}: {escaped}\n", binary.display()),
        )
        .unwrap();
        let age = |path: &Path, seconds: u64| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        age(&source, 100);
        age(&binary, 200);
        current(&binary, "make it").unwrap();

        age(&source, 300);
        assert!(
            current(&binary, "make it")
                .unwrap_err()
                .to_string()
                .contains("is older than")
        );
        std::fs::remove_file(&source).unwrap();
        assert!(current(&binary, "make it").is_err());
    }
}

//! Finds the filter's `.wasm` and refuses one that is not what the sources say.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where `cargo build --profile wasm` puts the filter, below the target directory. Cargo writes beside it, with
/// the ending `.d`, the list of every file of the workspace that was compiled into it.
const ARTEFACT: &str = "wasm32-wasip1/wasm/sluice_filter.wasm";

/// The path of the filter's `.wasm`.
///
/// # Errors
/// A sentence saying that it is missing, or older than one of its sources (which one), and what to run.
pub fn find() -> Result<PathBuf, String> {
    find_in(&target())
}

/// The root of the workspace, where `envoy.yaml` and `bench/` are.
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// The target directory that this program was built in (it runs in `<target>/debug/deps`), or the default one.
fn target() -> PathBuf {
    let marked = |dir: &&Path| dir.join("CACHEDIR.TAG").is_file();
    let exe = std::env::current_exe().unwrap_or_default();
    let from_here = exe.ancestors().find(marked).map(Path::to_path_buf);
    from_here.unwrap_or_else(|| workspace().join("target"))
}

fn find_in(target: &Path) -> Result<PathBuf, String> {
    let artefact = target.join(ARTEFACT);
    let shown = artefact.display();
    let missing = |e: io::Error| format!("no filter at {shown}: {e}; run `make wasm`");
    let built = modified(&artefact).map_err(missing)?;
    let list = fs::read_to_string(artefact.with_extension("d")).map_err(missing)?;
    let sources = sources(&list);
    if sources.is_empty() {
        return Err(format!("{shown} has an empty list of sources; run `make wasm`"));
    }
    for source in sources {
        match modified(&source) {
            Ok(when) if when <= built => {}
            Ok(_) => {
                return Err(format!(
                    "{shown} is older than {}; run `make wasm`",
                    source.display()
                ));
            }
            Err(e) => {
                return Err(format!(
                    "{shown} was made from {}: {e}; run `make wasm`",
                    source.display()
                ));
            }
        }
    }
    Ok(artefact)
}

/// The dependencies of a make rule, `target: a b\ c`, as Cargo writes it.
fn sources(rule: &str) -> Vec<PathBuf> {
    let all = rule
        .split_once(": ")
        .map(|(_, all)| all.trim())
        .unwrap_or_default();
    let all = all.replace("\\ ", "\0");
    all.split_whitespace()
        .map(|one| PathBuf::from(one.replace('\0', " ")))
        .collect()
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn write(path: &Path, text: &str, age: Duration) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    /// A target directory whose artefact was made from `a.rs` and `b c.rs`.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, wasm) = (
            dir.path().join("a.rs"),
            dir.path().join("b c.rs"),
            dir.path().join(ARTEFACT),
        );
        write(&a, "", 2 * HOUR);
        write(&b, "", 2 * HOUR);
        write(&wasm, "", HOUR);
        let b = b.display().to_string().replace(' ', "\\ ");
        write(
            &wasm.with_extension("d"),
            &format!("{}: {} {b}\n", wasm.display(), a.display()),
            HOUR,
        );
        dir
    }

    #[test]
    fn an_artefact_younger_than_its_sources_is_found() {
        let dir = tree();
        write(&dir.path().join("not-listed.rs"), "", Duration::ZERO);
        assert_eq!(find_in(dir.path()), Ok(dir.path().join(ARTEFACT)));
    }

    #[test]
    fn a_stale_or_missing_one_is_refused() {
        for stale in ["a.rs", "b c.rs"] {
            let dir = tree();
            write(&dir.path().join(stale), "", Duration::ZERO);
            let error = find_in(dir.path()).unwrap_err();
            assert!(
                error.contains(stale) && error.ends_with("run `make wasm`"),
                "{error}"
            );

            fs::remove_file(dir.path().join(stale)).unwrap();
            let error = find_in(dir.path()).unwrap_err();
            assert!(
                error.contains(stale) && error.ends_with("run `make wasm`"),
                "{error}"
            );
        }
        for missing in [ARTEFACT.to_owned(), ARTEFACT.replace(".wasm", ".d")] {
            let dir = tree();
            fs::remove_file(dir.path().join(missing)).unwrap();
            let error = find_in(dir.path()).unwrap_err();
            assert!(
                error.starts_with("no filter at") && error.ends_with("run `make wasm`"),
                "{error}"
            );
        }
        let dir = tree();
        fs::write(dir.path().join(ARTEFACT.replace(".wasm", ".d")), "x:").unwrap();
        assert!(find_in(dir.path()).unwrap_err().contains("empty list"));
    }
}

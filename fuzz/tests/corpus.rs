//! What the fuzzer found worth keeping, once more.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one input may take, unoptimised and on a busy machine.
const LONG: Duration = Duration::from_secs(5);

#[test]
fn every_target_takes_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders = BTreeSet::new();
    for folder in std::fs::read_dir(&corpus).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        let target = sluice_fuzz::target(&name).unwrap_or_else(|| panic!("no target {name}"));
        let mut inputs = 0;
        for input in std::fs::read_dir(folder.path()).unwrap() {
            let input = input.unwrap().path();
            let data = std::fs::read(&input).unwrap();
            let started = Instant::now();
            if let Err(panic) = std::panic::catch_unwind(|| target(&data)) {
                eprintln!("with the input {}", input.display());
                std::panic::resume_unwind(panic);
            }
            assert!(
                started.elapsed() < LONG,
                "{} takes {:?}",
                input.display(),
                started.elapsed()
            );
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
        folders.insert(name);
    }
    let targets = sluice_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(folders, targets.collect(), "each target has a corpus");
}

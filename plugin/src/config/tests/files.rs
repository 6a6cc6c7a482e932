//! The files of testdata/config/filter: good ones are read; bad ones have exactly the problems written beside
//! them, one on each line.

use std::path::{Path, PathBuf};

use super::*;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/config/filter")
        .join(name)
}

/// The JSON files of a directory, by name; there are some.
fn files(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let all = std::fs::read_dir(directory(name))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut json: Vec<PathBuf> = all
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    json.sort();
    assert!(!json.is_empty());
    json.into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn good_files_are_read() {
    for (path, json) in files("good") {
        let config = FilterConfig::from_json(&json);
        let problems = config.as_ref().err().map(|problems| texts(problems));
        assert_eq!(problems, None, "{}", path.display());
    }
}

#[test]
fn bad_files_have_the_problems_beside_them() {
    for (path, json) in files("bad") {
        let found = texts(&FilterConfig::from_json(&json).expect_err(&path.display().to_string()));
        let expected = std::fs::read_to_string(path.with_extension("problems")).unwrap();
        assert_eq!(found, expected.lines().collect::<Vec<_>>(), "{}", path.display());
    }
}

//! What comes out of the state's topic, and what a deployment says that it has.

use serde_json::Value;
use sluice::control::manifest::Manifest;
use sluice::registry::name::Name;
use sluice::registry::table::{Applied, Table};

/// A topic of records of the input's, by line: Kafka key, space, value (none: a tombstone). Whatever is in it, a record is
/// accepted only as a higher version than there was, and reading it all again changes no row to an older one.
pub(crate) fn state_records(data: &[u8]) {
    let mut table = Table::<Value>::default();
    for _ in 0..2 {
        for line in data.split(|byte| *byte == b'\n') {
            let (key, value) = match line.iter().position(|byte| *byte == b' ') {
                Some(at) => (&line[..at], line.get(at + 1..)),
                None => (line, None),
            };
            let name = Name::parse(key);
            let before = name.as_ref().map_or(0, |name| table.version(&name.key));
            let applied = table.apply(key, value, 0, 0);
            let Some(name) = name else {
                assert_eq!(applied, Applied::Foreign);
                continue;
            };
            assert_eq!(name.to_string().as_bytes(), key);
            let after = table.version(&name.key);
            match applied {
                Applied::Accepted => assert!(after == name.version && after > before),
                Applied::Refused | Applied::Repeated => assert_eq!(after, before),
                Applied::Swept => assert!(after == before || after == 0),
                Applied::Foreign => panic!("{name} is one"),
            }
        }
    }
}

/// A manifest that is read is read again as itself.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(tree) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    match Manifest::read(&tree, "") {
        Ok(manifest) => {
            let written = serde_json::to_value(&manifest).expect("it is JSON");
            assert_eq!(Manifest::read(&written, ""), Ok(manifest));
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

//! What holds of every file that redb keeps for the sidecar: [`kept_as_it_is`] makes tests of it.

use std::path::Path;

use redb::{Database, TableDefinition};
use tempfile::TempDir;

use super::*;
use crate::disk::Disk;

/// A kind of file.
pub(crate) trait Kept {
    /// One that is open.
    type Open;
    /// Its name in its directory.
    const FILE: &str;
    /// The version of what is in it.
    const VERSION: u64;

    /// Opens the one in `directory`.
    ///
    /// # Errors
    /// What is wrong, as it is told, and what that is made of.
    fn open(directory: &Path) -> Result<Self::Open, (Trouble, String)>;

    /// Closes it.
    fn close(open: &Self::Open);
}

/// What is wrong, and how it is told.
pub(crate) fn told<K: Words>(error: super::Error<K>) -> (Trouble, String) {
    let text = error.to_string();
    (error.trouble, text)
}

/// The tests of a kind of file.
macro_rules! kept_as_it_is {
    ($kept:ty: $($test:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            crate::database::tests::$test::<$kept>();
        })*
    };
}

pub(crate) use kept_as_it_is;

fn refused<K: Kept>(directory: &Path) -> (Trouble, String) {
    K::open(directory).err().expect("it is opened")
}

pub(crate) fn a_second_one_is_told_that_the_directory_is_in_use<K: Kept>() {
    let directory = TempDir::new().unwrap();
    let open = K::open(directory.path()).ok().unwrap();
    let (trouble, text) = refused::<K>(directory.path());
    assert!(matches!(trouble, Trouble::InUse(_)), "{text}");
    assert!(text.contains("in use by another sidecar"), "{text}");
    K::close(&open);
    drop(K::open(directory.path()).ok().unwrap());
}

pub(crate) fn a_later_version_is_left_alone<K: Kept>() {
    let directory = TempDir::new().unwrap();
    drop(K::open(directory.path()).ok().unwrap());
    let database = Database::create(directory.path().join(K::FILE)).unwrap();
    let write = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let later = K::VERSION + 1;
    write.open_table(meta).unwrap().insert("version", later).unwrap();
    write.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let (trouble, text) = refused::<K>(directory.path());
        assert!(matches!(trouble, Trouble::Newer { .. }), "{text}");
        let what = format!("has version {later} and this sidecar knows {}", K::VERSION);
        assert!(text.contains(&what) && text.contains("a newer sidecar"), "{text}");
    }
}

/// A later redb's file, going by its head: its format is in the first byte of each commit slot.
pub(crate) fn a_later_format_is_no_damage<K: Kept>() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(K::FILE);
    drop(K::open(directory.path()).ok().unwrap());
    let good = std::fs::read(&file).unwrap();
    // What is here said of redb's files is so.
    assert!(good.starts_with(MAGIC), "{:?}", good.get(..16));
    assert_eq!(SLOTS.map(|at| good[at]), [FORMAT; 2]);
    let with = |slots: &[usize], format: u8| {
        let mut bytes = good.clone();
        slots.iter().for_each(|at| bytes[*at] = format);
        std::fs::write(&file, &bytes).unwrap();
        let told = refused::<K>(directory.path());
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
        told
    };
    let (trouble, text) = with(&SLOTS, FORMAT + 1);
    assert!(matches!(trouble, Trouble::Newer { .. }), "{text}");
    let what = format!(
        "is in format {} of redb's and this sidecar knows {FORMAT}",
        FORMAT + 1
    );
    assert!(text.contains(&what) && text.contains("a newer sidecar"), "{text}");
    // A byte that the disk changed is damage, whichever it is.
    for slot in SLOTS {
        let (trouble, text) = with(&[slot], FORMAT + 1);
        assert!(matches!(trouble, Trouble::Damaged { .. }), "{text}");
    }
}

/// redb panics at some damage: that is an error like others, and the process goes on.
pub(crate) fn no_damage_is_a_panic<K: Kept>() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(K::FILE);
    drop(K::open(directory.path()).ok().unwrap());
    let good = std::fs::read(&file).unwrap();
    let mut told = 0;
    // The head, and the pages of the tables, as far as they hold anything.
    let held: Vec<usize> = (0..good.len()).filter(|at| *at < 320 || good[*at] != 0).collect();
    for at in held.iter().copied().step_by(held.len() / 60 + 1) {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&file, &bytes).unwrap();
        match K::open(directory.path()) {
            Ok(open) => drop(open),
            Err((trouble, text)) => {
                assert!(!matches!(trouble, Trouble::InUse(_)), "byte {at}: {text}");
                assert!(text.contains(K::FILE), "byte {at}: {text}");
                told += 1;
            }
        }
    }
    assert!(told > 1, "only {told} were told of");
}

pub(crate) fn what_is_none_of_its_is_left_alone<K: Kept>() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(K::FILE);
    let text = "something else\n".repeat(1000);
    std::fs::write(&file, &text).unwrap();
    let (trouble, why) = refused::<K>(directory.path());
    assert!(matches!(trouble, Trouble::Damaged { .. }), "{why}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

pub(crate) fn a_directory_that_cannot_be_made_is_named<K: Kept>() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (trouble, text) = refused::<K>(&file.join("below"));
    assert!(matches!(trouble, Trouble::Io { .. }), "{text}");
    let named = file.join("below").display().to_string();
    assert!(text.contains(&named), "{text}");
}

#[test]
fn a_panic_is_damage_with_its_words() {
    let disk = Disk::default();
    let make: Make = Box::new(move || redb::Builder::new().create_with_backend(disk.clone()));
    let keeper = Keeper::new("disk".into(), make);
    for panics in [|| panic!("a {} page", "bad"), || panic!("a bad page")] {
        let panics: fn() -> Result<(), Trouble> = panics;
        let trouble = keeper.caught(panics).unwrap_err();
        let Trouble::Damaged { path, why } = trouble else {
            panic!("{trouble:?}")
        };
        assert_eq!((path.to_str(), &why[..]), (Some("disk"), "a bad page"));
    }
    // It is closed when what is done first fails: another may have it then.
    let failed = keeper.open(|_| Err::<(), _>(keeper.damaged("by a test")));
    assert!(failed.is_err());
    keeper.open(|_| Ok::<_, Trouble>(())).map(drop).unwrap();
}

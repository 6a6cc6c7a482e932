//! The keys against a model of what clients see and what Kafka holds.

mod model;

use std::path::PathBuf;

use super::store::{Error, Store};
use crate::disk::Disk;

/// The keys on a disk in memory.
pub(super) fn open(disk: &Disk) -> Result<Store, Error> {
    let disk = disk.clone();
    let make = move || redb::Builder::new().create_with_backend(disk.clone());
    Store::over(PathBuf::from("disk"), Box::new(make))
}

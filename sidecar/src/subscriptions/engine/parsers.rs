//! What reads the held topic, for the fuzz targets.

use bytes::Bytes;

use super::held::{Held, Id};

/// Reads an event's id, and gives it as it is written again.
pub fn held_id(text: &str) -> Option<String> {
    let id = Id::read(text)?;
    let (subscription, topic) = (id.subscription, id.topic);
    Some(format!("{subscription}/{topic}/{}/{}", id.partition, id.offset))
}

/// Reads what is held of an event, and gives it as it is written again.
pub fn held_value(bytes: &[u8]) -> Option<Vec<u8>> {
    let held = Held::read(&Bytes::copy_from_slice(bytes)).ok()?;
    Some(held.write().to_vec())
}

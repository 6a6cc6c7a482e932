//! What reads the held topic, and what is beside committed positions, for the fuzz targets.

use bytes::Bytes;

use super::held::{Held, Id};
use super::progress::{self, Progress};

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

/// Reads what is finished after the position `base`, as it is beside it for the subscription `id`: the first offset of each range, and
/// the one after its last. Gives it as it is written again, too.
pub fn finished_ahead(text: &str, id: &str, base: i64) -> (Vec<(i64, i64)>, String) {
    let ahead = progress::read(text, id, base);
    let ranges = ahead.iter().map(|range| (range.start, range.end)).collect();
    let progress = Progress {
        position: base,
        ahead,
    };
    (ranges, progress::write(base, [(id, &progress)].into_iter()))
}

//! Positions as text: cursors, event ids and Last-Event-ID, which are one thing.
//!
//! `topic@partition#offset,partition#offset;topic2@…`, plain or in base64. An offset is that of the last record that was
//! seen; -1 is that none was. The form is Gravitee's.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::{alphabet, engine};

use crate::config::check_topic;

/// The longest cursor that is read, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most partitions that one names.
pub const MAX_PARTITIONS: usize = 4096;

const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);

/// The last record that was seen, by topic and partition: in order, so that it is found, and in two plain lists, since
/// every open stream has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(Vec<(Box<str>, Partitions)>);

/// Partitions, and the last offset of each that was seen.
type Partitions = Vec<(i32, i64)>;

impl Cursor {
    /// Reads a cursor: plain, or in base64, with either alphabet, padded or not. What a query makes of a `+` (a space) is one.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(format!("is {} bytes long, and may be {MAX_BYTES}", text.len()));
        }
        // No topic's name has one, and neither has base64.
        if text.contains('@') || text.contains('#') {
            return plain(text);
        }
        let standard: String = text
            .chars()
            .map(|c| match c {
                '-' | ' ' => '+',
                '_' => '/',
                c => c,
            })
            .collect();
        let bytes = ANY_PADDING
            .decode(standard)
            .map_err(|_| "is neither topic@partition#offset nor that in base64".to_owned())?;
        let decoded = String::from_utf8(bytes).map_err(|_| "is base64 of what is no text".to_owned())?;
        // `echo` without -n leaves a line's end.
        plain(decoded.trim())
    }

    /// Of one record.
    pub fn of(topic: &str, partition: i32, offset: i64) -> Self {
        let mut this = Self::default();
        this.see(topic, partition, offset);
        this
    }

    /// Notes the last record that was seen of a partition.
    pub fn see(&mut self, topic: &str, partition: i32, offset: i64) {
        let partitions = match self.0.binary_search_by(|(name, _)| (**name).cmp(topic)) {
            Ok(at) => self.0.get_mut(at),
            Err(at) => {
                self.0.insert(at, (topic.into(), Vec::new()));
                self.0.get_mut(at)
            }
        };
        let Some((_, partitions)) = partitions else { return };
        match partitions.binary_search_by_key(&partition, |(partition, _)| *partition) {
            Ok(at) => {
                if let Some((_, seen)) = partitions.get_mut(at) {
                    *seen = offset;
                }
            }
            Err(at) => partitions.insert(at, (partition, offset)),
        }
    }

    /// The same records, none of which was seen: reading starts at them.
    #[must_use]
    pub fn before(&self) -> Self {
        let mut this = Self::default();
        for (topic, partition, offset) in self.iter() {
            this.see(topic, partition, offset.saturating_sub(1));
        }
        this
    }

    /// The last record of the partition that was seen, if the cursor names it.
    pub fn seen(&self, topic: &str, partition: i32) -> Option<i64> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(topic)).ok()?;
        let (_, partitions) = self.0.get(at)?;
        let at = partitions.binary_search_by_key(&partition, |(partition, _)| *partition);
        partitions.get(at.ok()?).map(|(_, offset)| *offset)
    }

    /// What it names: topic, partition and offset.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (&**topic, *partition, *offset))
        })
    }

    /// Gives back the room that nothing is in.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
        for (_, partitions) in &mut self.0 {
            partitions.shrink_to_fit();
        }
    }

    /// As it is given to clients: in base64 (URL-safe, without padding) or plain.
    pub fn text(&self, encoded: bool) -> String {
        let plain = self.to_string();
        if encoded {
            URL_SAFE_NO_PAD.encode(plain)
        } else {
            plain
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (topic, partitions)) in self.0.iter().enumerate() {
            let between = if i == 0 { "" } else { ";" };
            write!(f, "{between}{topic}@")?;
            for (i, (partition, offset)) in partitions.iter().enumerate() {
                let between = if i == 0 { "" } else { "," };
                write!(f, "{between}{partition}#{offset}")?;
            }
        }
        Ok(())
    }
}

fn plain(text: &str) -> Result<Cursor, String> {
    let mut named = Vec::new();
    for part in text.split(';') {
        let (topic, partitions) = part
            .split_once('@')
            .ok_or_else(|| format!("{} is not topic@partition#offset", shortened(part)))?;
        check_topic(topic).map_err(|_| format!("{} is no topic's name", shortened(topic)))?;
        for one in partitions.split(',') {
            let numbers = one.split_once('#').and_then(|(partition, offset)| {
                let partition: i32 = number(partition)?.try_into().ok()?;
                // One more is the position after it.
                let offset = number(offset).filter(|offset| (-1..i64::MAX).contains(offset))?;
                (partition >= 0).then_some((partition, offset))
            });
            let (partition, offset) = numbers
                .ok_or_else(|| format!("{} of topic {topic} is not partition#offset", shortened(one)))?;
            if named.len() == MAX_PARTITIONS {
                return Err(format!("names more than {MAX_PARTITIONS} partitions"));
            }
            named.push((topic, partition, offset));
        }
    }
    // In order each goes to the end: whoever sends them backwards would have them moved a million times.
    named.sort_unstable();
    let mut cursor = Cursor::default();
    for (topic, partition, offset) in named {
        if cursor.seen(topic, partition).is_some() {
            return Err(format!("names partition {partition} of topic {topic} twice"));
        }
        cursor.see(topic, partition, offset);
    }
    Ok(cursor)
}

/// A decimal number without a plus sign.
fn number(text: &str) -> Option<i64> {
    (!text.starts_with('+')).then(|| text.parse().ok())?
}

/// What is quoted of something that may be long.
fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

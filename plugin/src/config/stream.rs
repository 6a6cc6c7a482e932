//! What bounds a worker's stream to the sidecar: settings of the filter as a whole.

use sluice_settings::Section;

/// The `stream` block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// `max_outstanding_records`: how many records of one worker may be without a fate; past it requests are
    /// answered 503.
    pub max_outstanding_records: usize,
    /// `max_outstanding_bytes`: the same in bytes of keys, values and headers.
    pub max_outstanding_bytes: usize,
    /// `gather_bytes`: gathered records are sent at once when there are that many bytes of them.
    pub gather_bytes: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            max_outstanding_records: 10_000,
            max_outstanding_bytes: 64 << 20,
            gather_bytes: 64 << 10,
        }
    }
}

impl StreamSettings {
    /// Reads the `stream` block of the top level.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let mut settings = Self::default();
        let Some(section) = root.section("stream") else {
            return settings;
        };
        let set = |field: &mut usize, key: &str, max: i64| {
            let written = section
                .integer(key, 1..=max)
                .and_then(|n| usize::try_from(n).ok());
            *field = written.unwrap_or(*field);
        };
        set(
            &mut settings.max_outstanding_records,
            "max_outstanding_records",
            1_000_000,
        );
        set(
            &mut settings.max_outstanding_bytes,
            "max_outstanding_bytes",
            1 << 30,
        );
        set(&mut settings.gather_bytes, "gather_bytes", 16 << 20);
        section.finish();
        settings
    }
}

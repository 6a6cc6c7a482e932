//! Records that wait to be sent, encoded, one after the other.

use super::RecordId;

/// A buffer that grew past this is given back once it is empty.
const KEPT_BYTES: usize = 256 << 10;

/// A record in the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathered {
    pub(super) id: RecordId,
    len: usize,
    live: bool,
}

/// The next message to send.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) records: &'a [Gathered],
}

/// The buffer. A record that must not be sent any more stays in it, dead, until [`Gather::compact`].
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// The encodings. A writer may append to it, and must then [`Gather::push`] or truncate.
    pub(super) bytes: Vec<u8>,
    records: Vec<Gathered>,
    dead: usize,
    dead_bytes: usize,
    /// What was sent already, and how much of it the message under way is.
    sent_bytes: usize,
    sent_records: usize,
    message_bytes: usize,
    message_records: usize,
}

impl Gather {
    pub(super) fn is_empty(&self) -> bool {
        self.records.len() == self.dead
    }

    pub(super) fn live_bytes(&self) -> usize {
        self.bytes.len().saturating_sub(self.dead_bytes)
    }

    /// The last `len` bytes are the record `id`. Gives its position.
    pub(super) fn push(&mut self, id: RecordId, len: usize) -> usize {
        self.records.push(Gathered { id, len, live: true });
        self.records.len() - 1
    }

    /// The record at `at` will not be sent.
    pub(super) fn forget(&mut self, at: usize) {
        if let Some(record) = self.records.get_mut(at)
            && record.live
        {
            record.live = false;
            self.dead += 1;
            self.dead_bytes += record.len;
        }
        if self.is_empty() {
            self.clear();
        }
    }

    /// Whether dead records take more room than living ones.
    pub(super) fn is_mostly_dead(&self) -> bool {
        self.dead_bytes > self.live_bytes()
    }

    /// Removes what is dead, and says where the others went.
    pub(super) fn compact(&mut self, mut moved: impl FnMut(RecordId, usize)) {
        if self.dead == 0 {
            return;
        }
        let (mut from, mut to, mut at) = (0, 0, 0);
        let bytes = &mut self.bytes;
        self.records.retain(|record| {
            if record.live {
                bytes.copy_within(from..from + record.len, to);
                to += record.len;
                moved(record.id, at);
                at += 1;
            }
            from += record.len;
            record.live
        });
        self.bytes.truncate(to);
        self.dead = 0;
        self.dead_bytes = 0;
    }

    /// The next message: as many records as fit into `max_bytes`, but at least one. Nothing may be dead.
    pub(super) fn next_message(&mut self, max_bytes: usize) -> Option<Message<'_>> {
        let left = self.records.get(self.sent_records..)?;
        self.message_bytes = 0;
        self.message_records = 0;
        for record in left {
            let bytes = self.message_bytes + record.len;
            if self.message_records > 0 && bytes > max_bytes {
                break;
            }
            self.message_bytes = bytes;
            self.message_records += 1;
        }
        let bytes = self
            .bytes
            .get(self.sent_bytes..self.sent_bytes + self.message_bytes)?;
        let records = left.get(..self.message_records)?;
        (!records.is_empty()).then_some(Message { bytes, records })
    }

    /// The last message was sent.
    pub(super) fn sent(&mut self) {
        self.sent_bytes += std::mem::take(&mut self.message_bytes);
        self.sent_records += std::mem::take(&mut self.message_records);
    }

    /// Nothing is left to send.
    pub(super) fn clear(&mut self) {
        drop(self.take_ids());
    }

    /// Forgets everything; gives the living records that were not sent.
    pub(super) fn take_ids(&mut self) -> Vec<RecordId> {
        let left = self.records.get(self.sent_records..).unwrap_or_default();
        let ids = left.iter().filter(|r| r.live).map(|r| r.id).collect();
        let (mut bytes, mut records) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.records));
        bytes.clear();
        records.clear();
        *self = Self::default();
        if bytes.capacity() <= KEPT_BYTES {
            self.bytes = bytes;
            self.records = records;
        }
        ids
    }
}

//! `max_in_flight`: how many records a client may have that it has not acknowledged.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::super::cursor::Cursor;

/// The most that a client may ask for.
pub(crate) const MAX: usize = 10_000;

/// The records that were sent and not acknowledged.
#[derive(Debug)]
pub(super) struct Window {
    max: usize,
    count: usize,
    /// Offsets, in their order.
    out: HashMap<Arc<str>, HashMap<i32, VecDeque<i64>>>,
}

impl Window {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            count: 0,
            out: HashMap::new(),
        }
    }

    /// How many more may be sent.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.count)
    }

    pub(super) fn sent(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        let of_topic = self.out.entry(Arc::clone(topic)).or_default();
        of_topic.entry(partition).or_default().push_back(offset);
        self.count += 1;
    }

    /// Each partition's records up to that which the cursor names are acknowledged; how many were not before.
    pub(super) fn ack(&mut self, cursor: &Cursor) -> usize {
        let before = self.count;
        for (topic, partition, upto) in cursor.iter() {
            let Some(offsets) = self
                .out
                .get_mut(topic)
                .and_then(|topic| topic.get_mut(&partition))
            else {
                continue;
            };
            while offsets.pop_front_if(|offset| *offset <= upto).is_some() {
                self.count -= 1;
            }
        }
        before - self.count
    }

    /// Nothing of what was sent of these partitions counts any more: the client does not have them.
    pub(super) fn forget(&mut self, gone: &[(Arc<str>, i32)]) {
        for (topic, partition) in gone {
            let offsets = self.out.get_mut(topic).and_then(|topic| topic.remove(partition));
            self.count -= offsets.map_or(0, |offsets| offsets.len());
        }
    }

    /// Nothing of what was sent counts any more: the client has gone somewhere else.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a model: the records themselves.
        #[test]
        fn what_is_out_is_what_was_sent_and_not_acknowledged(
            steps in proptest::collection::vec((0..10_u8, 0..3_i32, 0..20_i64), 0..200),
            max in 1..50_usize,
        ) {
            let topic: Arc<str> = Arc::from("t");
            let (mut window, mut out, mut next) = (Window::new(max), Vec::new(), [0_i64; 3]);
            for (what, partition, back) in steps {
                let at = &mut next[usize::try_from(partition).unwrap()];
                if what == 0 {
                    window.forget(&[(Arc::clone(&topic), partition)]);
                    out.retain(|(p, _)| *p != partition);
                } else if what < 5 {
                    if window.room() > 0 {
                        window.sent(&topic, partition, *at);
                        out.push((partition, *at));
                        *at += 1 + back % 3;
                    }
                } else {
                    let upto = *at - back;
                    let acked = window.ack(&Cursor::of("t", partition, upto));
                    let before = out.len();
                    out.retain(|(p, offset)| *p != partition || *offset > upto);
                    prop_assert_eq!(acked, before - out.len());
                }
                prop_assert_eq!(window.room(), max - out.len());
            }
            window.clear();
            prop_assert_eq!(window.room(), max);
        }
    }
}

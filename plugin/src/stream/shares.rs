//! Whose records are outstanding: what clients and routes have of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A client may have so many times what is left to others: alone four fifths, and whoever comes finds room.
const SHARE: usize = 4;

/// Whose record it is.
#[derive(Debug, Clone, Default)]
pub struct Tag {
    /// What the client is known by; 0 if it is not told apart.
    pub client: u64,
    /// How many records its route has outstanding, where that is bounded.
    pub route: Option<Rc<Cell<usize>>>,
}

/// What clients have outstanding. Those that are not told apart cost nothing here.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Records and bytes by client.
    clients: BTreeMap<u64, (usize, usize)>,
}

impl Shares {
    /// Whether the client has its share, with so many records and bytes left to all.
    pub(super) fn is_spent(&self, client: u64, (records, bytes): (usize, usize)) -> bool {
        let own = self.clients.get(&client).filter(|_| client != 0);
        own.is_some_and(|own| own.0 >= records.saturating_mul(SHARE) || own.1 >= bytes.saturating_mul(SHARE))
    }

    pub(super) fn add(&mut self, tag: &Tag, bytes: usize) {
        if tag.client != 0 {
            let own = self.clients.entry(tag.client).or_default();
            own.0 += 1;
            own.1 += bytes;
        }
        if let Some(route) = &tag.route {
            route.set(route.get() + 1);
        }
    }

    pub(super) fn remove(&mut self, tag: &Tag, bytes: usize) {
        if let Some(own) = self.clients.get_mut(&tag.client).filter(|_| tag.client != 0) {
            own.0 = own.0.saturating_sub(1);
            own.1 = own.1.saturating_sub(bytes);
            if own.0 == 0 {
                self.clients.remove(&tag.client);
            }
        }
        if let Some(route) = &tag.route {
            route.set(route.get().saturating_sub(1));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

//! What each of a topic's clients has waiting.

use std::collections::HashMap;

/// Costs by client. Clients that the filter names are remembered while they have anything waiting; all that it does not
/// name are one, and cost nothing here.
#[derive(Debug, Default)]
pub(super) struct Clients {
    named: HashMap<u64, u64>,
    /// What those cost together.
    sum: u64,
}

/// The client of a record that names none.
pub(super) const UNNAMED: u64 = 0;

impl Clients {
    /// What waits of `client`, of `all` that waits.
    pub(super) fn of(&self, client: u64, all: u64) -> u64 {
        match client {
            UNNAMED => all.saturating_sub(self.sum),
            named => self.named.get(&named).copied().unwrap_or_default(),
        }
    }

    /// A record of that cost waits from now on.
    pub(super) fn add(&mut self, client: u64, cost: u64) {
        if client != UNNAMED {
            *self.named.entry(client).or_default() += cost;
            self.sum += cost;
        }
    }

    /// A record of that cost waits no more.
    pub(super) fn remove(&mut self, client: u64, cost: u64) {
        if client == UNNAMED {
            return;
        }
        self.sum = self.sum.saturating_sub(cost);
        if let Some(left) = self.named.get_mut(&client) {
            *left = left.saturating_sub(cost);
            if *left == 0 {
                self.named.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_names_is_one_client_and_nobody_is_remembered_for_nothing() {
        let mut clients = Clients::default();
        clients.add(7, 100);
        clients.add(7, 50);
        clients.add(8, 10);
        clients.add(UNNAMED, 40);
        let of = |clients: &Clients| [7, 8, 9, UNNAMED].map(|client| clients.of(client, 200));
        assert_eq!(of(&clients), [150, 10, 0, 40]);
        clients.remove(7, 100);
        clients.remove(7, 50);
        clients.remove(8, 10);
        clients.remove(UNNAMED, 40);
        assert_eq!((clients.named.len(), clients.sum), (0, 0));
    }
}

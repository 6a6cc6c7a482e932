//! What each of a topic's clients has waiting.

use std::collections::HashMap;

/// Costs by client. Clients that the filter names are remembered while they have anything waiting; all that it does not
/// name are one, and cost nothing here.
#[derive(Debug, Default)]
pub(super) struct Clients {
    named: HashMap<u64, u64>,
    /// What those cost together.
    sum: u64,
    /// How many of them have so many bits of cost waiting, by that number of bits, and what that costs together.
    sizes: Vec<Size>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Size {
    clients: u64,
    sum: u64,
}

/// The client of a record that names none.
pub(super) const UNNAMED: u64 = 0;

/// The table of clients is made smaller when so small a part of it is in use, and not below so many.
const SPARSE: usize = 8;
const SMALL: usize = 256;

impl Clients {
    /// What waits of `client`, of `all` that waits.
    pub(super) fn of(&self, client: u64, all: u64) -> u64 {
        match client {
            UNNAMED => all.saturating_sub(self.sum),
            named => self.named.get(&named).copied().unwrap_or_default(),
        }
    }

    /// What would wait, of `all` that waits, if no client had more than `level`: where that is less than there is room
    /// for, one with `level` has no more than its part (max-min fairness). Clients of about the same cost are taken
    /// together, so that it is rather too much than too little, and what it takes does not grow with the clients.
    pub(super) fn up_to(&self, level: u64, all: u64) -> u64 {
        let named: u64 = self
            .sizes
            .iter()
            .map(|size| size.sum.min(size.clients.saturating_mul(level)))
            .sum();
        named + self.of(UNNAMED, all).min(level)
    }

    /// A record of that cost waits from now on.
    pub(super) fn add(&mut self, client: u64, cost: u64) {
        if client == UNNAMED {
            return;
        }
        let had = self.of(client, 0);
        self.named.insert(client, had + cost);
        self.sum += cost;
        self.moved(had, had + cost);
    }

    /// A record of that cost waits no more.
    pub(super) fn remove(&mut self, client: u64, cost: u64) {
        let had = self.of(client, 0);
        if client == UNNAMED || had == 0 {
            return;
        }
        let left = had.saturating_sub(cost);
        self.sum -= had - left;
        self.moved(had, left);
        if left > 0 {
            self.named.insert(client, left);
            return;
        }
        self.named.remove(&client);
        if self.named.capacity() > SMALL && self.named.len() < self.named.capacity() / SPARSE {
            self.named.shrink_to(self.named.len() * 2);
        }
    }

    /// A client had `before` waiting, and has `after`.
    fn moved(&mut self, before: u64, after: u64) {
        let bits = |cost: u64| (u64::BITS - cost.leading_zeros()) as usize;
        if self.sizes.len() <= bits(after) {
            self.sizes.resize(bits(after) + 1, Size::default());
        }
        if let Some(size) = self.sizes.get_mut(bits(before)).filter(|_| before > 0) {
            size.clients -= 1;
            size.sum -= before;
        }
        if let Some(size) = self.sizes.get_mut(bits(after)).filter(|_| after > 0) {
            size.clients += 1;
            size.sum += after;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// A flood from a hundred thousand addresses leaves nothing behind.
    #[test]
    fn many_clients_cost_nothing_once_they_are_gone() {
        let mut clients = Clients::default();
        for client in 1..=100_000 {
            clients.add(client, 300);
        }
        assert_eq!(clients.up_to(100, 30_000_000), 100_000 * 100);
        for client in 1..=100_000 {
            clients.remove(client, 300);
        }
        assert_eq!(clients.up_to(100, 0), 0);
        assert!(
            clients.named.capacity() <= 2 * SMALL,
            "{}",
            clients.named.capacity()
        );
    }

    proptest! {
        /// Against the sum over every client.
        #[test]
        fn what_waits_up_to_a_level_is_about_the_sum_over_all(
            costs in prop::collection::vec((0_u64..30, 100_u64..5000), 1..200),
            gone in any::<prop::sample::Index>(),
            level in 100_u64..20_000,
        ) {
            let mut clients = Clients::default();
            let mut exact = HashMap::<u64, u64>::new();
            for (client, cost) in &costs {
                clients.add(*client, *cost);
                *exact.entry(*client).or_default() += cost;
            }
            for (client, cost) in &costs[..gone.index(costs.len())] {
                clients.remove(*client, *cost);
                *exact.entry(*client).or_default() -= cost;
            }
            let all: u64 = exact.values().sum();
            let sum: u64 = exact.values().map(|own| *own.min(&level)).sum();
            let found = clients.up_to(level, all);
            prop_assert!(found >= sum && found <= all.min(sum * 2), "{found}, {sum} of {all}");
            prop_assert_eq!(clients.up_to(u64::MAX, all), all);
        }
    }
}

//! Repeated names: an object's member stands where its name came first, and holds all that came under it.

/// For each of a list's items: is it the first of its name, and which one is the next.
#[derive(Debug)]
pub(crate) struct Grouped {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    first: bool,
    next: Option<usize>,
}

/// Up to this many items, comparing each with each is cheaper than sorting.
const FEW: usize = 24;

impl Grouped {
    /// Groups the items by their names.
    pub(crate) fn new<T>(items: &[T], name: impl Fn(&T) -> &[u8]) -> Self {
        let alone = Link {
            first: true,
            next: None,
        };
        let mut grouped = Self {
            links: vec![alone; items.len()],
        };
        if items.len() <= FEW {
            for (i, item) in items.iter().enumerate() {
                let after = items.iter().enumerate().skip(i + 1);
                if let Some((next, _)) = after.into_iter().find(|(_, later)| name(later) == name(item)) {
                    grouped.link(i, next);
                }
            }
        } else {
            let mut order = items.iter().enumerate().collect::<Vec<_>>();
            // Stable: those with the same name stay in their order.
            order.sort_by(|(_, a), (_, b)| name(a).cmp(name(b)));
            for pair in order.windows(2) {
                if let [(i, item), (next, later)] = pair
                    && name(item) == name(later)
                {
                    grouped.link(*i, *next);
                }
            }
        }
        grouped
    }

    fn link(&mut self, item: usize, next: usize) {
        if let Some(link) = self.links.get_mut(item) {
            link.next = Some(next);
        }
        if let Some(link) = self.links.get_mut(next) {
            link.first = false;
        }
    }

    /// The first item of each name, in their order.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = usize> {
        self.links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.first)
            .map(|(i, _)| i)
    }

    /// The item and those after it with the same name, in their order.
    pub(crate) fn from(&self, item: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(item), |i| self.links.get(*i).and_then(|link| link.next))
    }

    /// Whether the item is the only one of its name that is left.
    pub(crate) fn is_last(&self, item: usize) -> bool {
        self.links.get(item).is_none_or(|link| link.next.is_none())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_keep_the_order_of_first_appearance(names in proptest::collection::vec(0..12_u8, 0..60)) {
            let grouped = Grouped::new(&names, std::slice::from_ref);
            let groups = grouped.firsts().map(|i| grouped.from(i).collect::<Vec<_>>()).collect::<Vec<_>>();
            let mut expected: Vec<Vec<usize>> = Vec::new();
            for (i, name) in names.iter().enumerate() {
                match expected.iter_mut().find(|group| names[group[0]] == *name) {
                    Some(group) => group.push(i),
                    None => expected.push(vec![i]),
                }
            }
            for group in &groups {
                prop_assert_eq!(grouped.is_last(group[0]), group.len() == 1);
            }
            prop_assert_eq!(groups, expected);
        }
    }
}

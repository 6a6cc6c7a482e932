//! What is found is what is looked for in all rows.

use proptest::prelude::*;

use super::*;
use crate::actions::item::arbitrary::item;
use crate::actions::item::{Item, Trigger};

fn key(n: u8) -> Arc<str> {
    format!("{}/runs/{n}", if n < 4 { "acme" } else { "rest" }).into()
}

/// A row comes, and holds nothing some of the time.
fn content() -> impl Strategy<Value = Option<Item>> {
    prop_oneof![3 => item().prop_map(Some), 1 => Just(None)]
}

fn packed(item: Option<&Item>) -> Content<Packed> {
    match item {
        Some(item) => Content::Value(Arc::new(Packed::new(item).unwrap())),
        None => Content::Deleted,
    }
}

proptest! {
    #[test]
    fn what_is_found_row_by_row_is_what_is_found_at_once(
        steps in prop::collection::vec((0..8_u8, content()), 0..30),
        now in 0..1000_i64,
        most in 1..4_usize,
        back: bool,
    ) {
        let mut found = Found::default();
        let mut rows = BTreeMap::new();
        for (n, item) in steps {
            found.note(&key(n), &packed(item.as_ref()));
            rows.insert(key(n), item);
        }
        let mut anew = Found::default();
        for (key, item) in &rows {
            anew.note(key, &packed(item.as_ref()));
        }
        prop_assert_eq!(&found, &anew);

        let runs = || rows.iter().filter_map(|(key, item)| match item {
            Some(Item::Run(run)) if !run.status.has_ended() => Some((key, run)),
            _ => None,
        });
        let mut due: Vec<_> = runs()
            .filter_map(|(key, run)| Some((run.deadline_ms.filter(|at| *at <= now)?, Arc::clone(key))))
            .collect();
        due.sort();
        let due: Vec<_> = due.into_iter().map(|(_, key)| key).collect();
        prop_assert_eq!(found.overdue(now), due);

        let mut open: Vec<_> = runs().map(|(key, _)| Arc::clone(key)).filter(|key| key.starts_with("acme/")).collect();
        if back {
            open.reverse();
        }
        let (mut pages, mut from) = (Vec::new(), None::<Arc<str>>);
        loop {
            let (keys, next) = found.open("acme/runs/", from.as_deref(), back, most);
            prop_assert!(keys.len() <= most);
            pages.extend(keys);
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        prop_assert_eq!(pages, open);

        let unfinished: Vec<_> = rows.iter()
            .filter(|(_, item)| item.as_ref().is_some_and(Item::is_unfinished))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        prop_assert_eq!(found.unfinished(), unfinished);
        let automations: Vec<_> = rows.iter()
            .filter(|(key, _)| key.starts_with("rest/"))
            .filter_map(|(_, item)| match item {
                Some(Item::Action(action)) if matches!(action.trigger, Trigger::Automation { .. }) => Some(action.clone()),
                _ => None,
            })
            .collect();
        let told: Vec<_> = found.automations("rest/").iter().map(|action| Action::clone(action)).collect();
        prop_assert_eq!(told, automations);
    }
}

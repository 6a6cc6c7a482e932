//! Which rows are found, among many.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::actions::item::{Item, Status};
use crate::actions::tests::run;
use crate::config::Cluster;
use crate::kafka::log::Settings;

/// A store of rows, as if they had been read.
fn store(rows: &[(String, Item)]) -> Store {
    let settings = Settings {
        topic: "state".to_owned(),
        replication_factor: None,
        min_insync_replicas: None,
    };
    let store = Store::new(Log::new(&Cluster::default(), settings), StateMetrics::default());
    let packed = rows
        .iter()
        .map(|(key, item)| (key.as_str(), Packed::new(item).unwrap()));
    store.registry.hold(packed);
    store
}

/// A run that was started at a time, and has ended at another.
fn ended(
    number: usize,
    began_ms: i64,
    ended_ms: Option<i64>,
    status: Status,
    unwritten: bool,
) -> (String, Item) {
    let id = format!("{}{number:020}", id_at(began_ms));
    let mut run = run();
    (run.status, run.created_ms, run.ended_ms, run.unwritten) = (status, began_ms, ended_ms, unwritten);
    (key::run("acme", &id), Item::Run(Box::new(run)))
}

fn all_ended_before(store: &Store, until_ms: i64) -> (BTreeSet<String>, usize) {
    let (mut found, mut from, mut pages) = (BTreeSet::new(), None::<Arc<str>>, 0);
    loop {
        let (rows, next) = store.ended_before("acme", until_ms, from.as_deref());
        found.extend(rows.iter().map(|row| row.key.to_string()));
        pages += 1;
        match next {
            Some(next) => from = Some(next),
            None => return (found, pages),
        }
    }
}

proptest! {
    /// Also a run that began early and took long, and none that has anything to be told.
    #[test]
    fn all_runs_that_ended_before_are_found(
        runs in prop::collection::vec((0..100_i64, 0..100_i64, 0..4_u8), 0..40),
        until in 0..200_i64,
    ) {
        let rows: Vec<_> = runs.iter().enumerate().map(|(n, (began, took, how))| match how {
            0 => ended(n, *began, None, Status::InProgress, false),
            1 => ended(n, *began, Some(began + took), Status::Success, true),
            _ => ended(n, *began, Some(began + took), Status::Failure, false),
        }).collect();
        let due = rows.iter().zip(&runs).filter(|(_, (began, took, how))| *how > 1 && began + took < until);
        let due: BTreeSet<_> = due.map(|((key, _), _)| key.clone()).collect();
        prop_assert_eq!(all_ended_before(&store(&rows), until).0, due);
    }
}

#[test]
fn runs_that_began_later_are_not_looked_at() {
    let early = |n| ended(n, 1_000, Some(3_000), Status::Success, false);
    let late = |n| ended(n, 5_000, Some(5_001), Status::Success, false);
    let rows: Vec<_> = (0..AT_ONCE + 10)
        .map(early)
        .chain((0..3 * AT_ONCE).map(late))
        .collect();
    let store = store(&rows);
    let (found, pages) = all_ended_before(&store, 4_000);
    assert_eq!((found.len(), pages), (AT_ONCE + 10, 2));
    // None has ended yet, though all began before.
    let (found, pages) = all_ended_before(&store, 2_000);
    assert_eq!((found.len(), pages), (0, 2));
    assert_eq!(all_ended_before(&store, 500), (BTreeSet::new(), 1));
    let (found, _) = all_ended_before(&store, 6_000);
    assert_eq!(found.len(), rows.len());
}

#[tokio::test]
async fn a_page_has_what_is_kept_whatever_it_is_looked_for_among() {
    // Beyond what is looked at in one go, and with what is looked for at its edges.
    let rows: Vec<_> = (0..2 * AT_ONCE + 50)
        .map(|n| match n {
            1 | 7 | 2_000 | 2_001 | 4_000 => ended(n, 1, None, Status::InProgress, false),
            3 | 2_002 => ended(n, 1, None, Status::WaitingForApproval, false),
            _ => ended(n, 1, Some(2), Status::Success, false),
        })
        .collect();
    let store = store(&rows);
    let prefix = key::runs("acme");
    let keep =
        |_: &str, row: &Packed| matches!(row.head(), Head::Run(run) if run.status == Status::InProgress);
    for back in [false, true] {
        let mut expected = [1, 7, 2_000, 2_001, 4_000].map(|n| rows[n].0.clone());
        if back {
            expected.reverse();
        }
        for (among, most) in [
            (Among::All, 2),
            (Among::All, 5),
            (Among::Open, 1),
            (Among::Open, 2),
            (Among::Open, 9),
        ] {
            let (mut found, mut from) = (Vec::new(), None);
            loop {
                let (rows, next) = store.page(among, &prefix, from, back, most, keep).await;
                assert!(rows.len() <= most, "{among:?} {most} {back}");
                found.extend(rows.iter().map(|row| row.key.to_string()));
                match next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
            assert_eq!(found, expected, "{among:?} {most} {back}");
        }
    }
    assert_eq!(store.open("acme").len(), 7);
    assert_eq!(store.open("rest").len(), 0);
}

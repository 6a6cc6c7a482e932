//! What comes out of the topic that organisations' things are kept in.

use sluice::actions::item::{Head, Item, Packed};

/// A row. One that is taken can be read whenever it is wanted, is written as it was, and what is known of it without reading it
/// is what it says.
pub(crate) fn row(data: &[u8]) {
    let Ok(row) = serde_json::from_slice::<Packed>(data) else {
        return;
    };
    assert_eq!(
        serde_json::to_vec(&row).expect("it is JSON"),
        data.trim_ascii(),
        "it is kept as it was"
    );
    let item = row.item().expect("it was read before");
    says(&row, &item);
    // What is changed is written anew.
    let again = Packed::new(&item).expect("it is no deeper than it was");
    says(&again, &again.item().expect("it was read before"));
    assert_eq!(again.run_action(), row.run_action());
    assert_eq!(again.run_user(), row.run_user());
}

fn says(row: &Packed, item: &Item) {
    assert_eq!(row.is_unfinished(), item.is_unfinished());
    match (row.head(), item) {
        (Head::Run(head), Item::Run(run)) => {
            assert_eq!(head.status, run.status);
            assert_eq!((head.ended_ms, head.deadline_ms), (run.ended_ms, run.deadline_ms));
            assert_eq!(row.run_action().as_deref(), Some(run.action.as_str()));
            assert_eq!(row.run_user().as_deref(), Some(run.user.as_str()));
        }
        (Head::Entity { deleted, .. }, Item::Entity(entity)) => assert_eq!(*deleted, entity.deleted),
        (Head::SelfService | Head::Automation, Item::Action(_)) | (Head::Log, Item::Log(_)) => {}
        (head, item) => panic!("{head:?} is not of {item:?}"),
    }
}

//! A packed row says what the item says that it was made of.

use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::actions::item::{
    Approval, Change, Claim, Condition, Event, EventKind, Operation, Streamer, Told, UserInputs,
};
use crate::registry::table::{Applied, Content, Proposed, Table, encode};

/// As rows were read before they were packed.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Parsed {
    Action(Action),
    Run(Box<Run>),
    Entity(Entity),
    Log(LogLine),
    Settings(Settings),
}

impl From<Parsed> for Item {
    fn from(parsed: Parsed) -> Self {
        match parsed {
            Parsed::Action(action) => Self::Action(action),
            Parsed::Run(run) => Self::Run(run),
            Parsed::Entity(entity) => Self::Entity(entity),
            Parsed::Log(line) => Self::Log(line),
            Parsed::Settings(settings) => Self::Settings(settings),
        }
    }
}

/// Text with what JSON escapes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z]{0,8}", 1 => "[ -~\u{e9}\u{2028}\u{1f600}\n\u{1}\"\\\\]{0,8}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(0.5)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

/// A value that is there, and so not null.
fn some_value() -> impl Strategy<Value = Option<Value>> {
    option::of(value()).prop_map(|value| value.filter(|value| !value.is_null()))
}

fn map() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((text(), value()), 0..4).prop_map(|all| all.into_iter().collect())
}

fn change() -> impl Strategy<Value = Change> {
    (
        text(),
        value(),
        option::of(text()),
        any::<i64>(),
        0..3_u32,
        value(),
        value(),
    )
        .prop_map(|(id, trigger, run_id, at_ms, depth, before, after)| Change {
            id,
            action: "UPDATE".to_owned(),
            trigger,
            run_id,
            at_ms,
            depth,
            before,
            after,
        })
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(vec![
        Status::WaitingForApproval,
        Status::InProgress,
        Status::Success,
        Status::Failure,
        Status::Declined,
    ])
}

fn told() -> impl Strategy<Value = Told> {
    (option::of(text()), some_value(), option::of(text()), some_value()).prop_map(
        |(status_label, link, summary, response)| Told {
            status_label,
            link,
            external_run_id: summary.clone(),
            summary,
            response,
        },
    )
}

prop_compose! {
    /// Any run, also such as no sidecar would write.
    pub(crate) fn run()(
        (status, action, user, title) in (status(), text(), text(), option::of(text())),
        (trigger, event, entity_then, told) in (value(), some_value(), some_value(), told()),
        (invocation_method, properties, censored) in (map(), map(), prop::collection::vec(text(), 0..2)),
        (entity, blueprint, depth) in (option::of(text()), option::of(text()), 0..3_u32),
        (by, approved, acked) in (option::of(text()), any::<bool>(), any::<bool>()),
        (created_ms, ended_ms, deadline_ms) in (0..1000_i64, option::of(0..1000_i64), option::of(0..1000_i64)),
        (unwritten, untold) in (any::<bool>(), prop::collection::vec(change(), 0..2)),
    ) -> Run {
        Run {
            status, action, title, trigger, user, invocation_method, properties, censored, entity, blueprint, entity_then, event,
            depth, told, created_ms, ended_ms, deadline_ms, unwritten, untold,
            operation: approved.then_some(Operation::DayTwo),
            approval: by.clone().map(|by| Approval { by, approved, description: None, at_ms: created_ms }),
            claim: by.map(|by| Claim { by, until_ms: created_ms, acked }),
            updated_ms: created_ms + 1,
            timeout_ms: 1,
        }
    }
}

prop_compose! {
    fn entity()(
        (title, icon, team) in (option::of(text()), option::of(text()), prop::collection::vec(text(), 0..2)),
        (properties, relations, created_by) in (map(), map(), text()),
        (deleted, untold) in (any::<bool>(), prop::collection::vec(change(), 0..2)),
    ) -> Entity {
        Entity {
            title, icon, team, properties, relations, updated_by: created_by.clone(), created_by, deleted, untold,
            created_ms: 1,
            updated_ms: 2,
        }
    }
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        (map(), prop::collection::vec(text(), 0..2), option::of(text())).prop_map(
            |(properties, required, blueprint_identifier)| Trigger::SelfService {
                operation: Operation::Create,
                user_inputs: UserInputs {
                    properties,
                    order: required.clone(),
                    required,
                },
                blueprint_identifier,
            }
        ),
        (
            option::of(text()),
            option::of(prop::collection::vec(text(), 0..2))
        )
            .prop_map(|(every, expressions)| {
                Trigger::Automation {
                    event: Event {
                        kind: EventKind::Timer,
                        blueprint_identifier: every.clone(),
                        action_identifier: None,
                        every,
                    },
                    condition: expressions.map(|expressions| Condition {
                        kind: crate::actions::item::ConditionKind::Jq,
                        expressions,
                        combinator: crate::actions::item::Combinator::Or,
                    }),
                }
            }),
    ]
}

prop_compose! {
    fn action()(
        identifier in text(), trigger in trigger(), invocation_method in map(), title in option::of(text()), yes: bool,
    ) -> Action {
        Action {
            identifier, trigger, invocation_method,
            description: title.clone(),
            run_timeout: title.clone(),
            created_at: title.clone(),
            updated_at: None,
            title,
            required_approval: yes,
            publish: yes,
        }
    }
}

/// Any item.
pub(crate) fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        4 => run().prop_map(|run| Item::Run(Box::new(run))),
        2 => entity().prop_map(Item::Entity),
        2 => action().prop_map(Item::Action),
        1 => (text(), text(), any::<i64>())
            .prop_map(|(message, by, at_ms)| Item::Log(LogLine { message, at_ms, by })),
        1 => option::of(any::<bool>()).prop_map(|polls| {
            let name = polls.map(|polls| if polls { Streamer::Polling } else { Streamer::Kafka });
            Item::Settings(Settings { port_agent_streamer_name: name })
        }),
    ]
}

/// What is beside the text is what the item says.
fn says_the_same(row: &Packed, item: &Item) {
    assert_eq!(row.item().as_ref(), Some(item));
    assert_eq!(row.is_unfinished(), item.is_unfinished());
    let run = match (item, row.head()) {
        (Item::Run(run), Head::Run(head)) => {
            assert_eq!(
                (head.status, head.ended_ms, head.deadline_ms),
                (run.status, run.ended_ms, run.deadline_ms)
            );
            Some(run)
        }
        (Item::Entity(entity), Head::Entity { deleted, .. }) => {
            assert_eq!(*deleted, entity.deleted);
            None
        }
        (Item::Action(action), head) => {
            let automation = matches!(action.trigger, Trigger::Automation { .. });
            assert_eq!(
                *head,
                if automation {
                    Head::Automation
                } else {
                    Head::SelfService
                }
            );
            None
        }
        (Item::Log(_), Head::Log) | (Item::Settings(_), Head::Settings) => None,
        (_, head) => panic!("{head:?}: {item:?}"),
    };
    assert_eq!(row.run_action().as_deref(), run.map(|run| run.action.as_str()));
    assert_eq!(row.run_user().as_deref(), run.map(|run| run.user.as_str()));
    assert_eq!(row.run().is_some(), matches!(item, Item::Run(_)));
    assert_eq!(row.action().is_some(), matches!(item, Item::Action(_)));
    assert_eq!(row.entity().is_some(), matches!(item, Item::Entity(_)));
    assert_eq!(row.line().is_some(), matches!(item, Item::Log(_)));
    assert_eq!(row.settings().is_some(), matches!(item, Item::Settings(_)));
}

proptest! {
    #[test]
    fn a_row_says_what_the_item_says(item in item()) {
        let row = Packed::new(&item).unwrap();
        says_the_same(&row, &item);
        // What is written is the item's own JSON.
        let text = serde_json::to_string(&item).unwrap();
        prop_assert_eq!(&serde_json::to_string(&row).unwrap(), &text);
        // Whoever else wrote it may have written it otherwise.
        let value: Value = serde_json::from_str(&text).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let row: Packed = serde_json::from_str(&pretty).unwrap();
        says_the_same(&row, &item);
        prop_assert_eq!(serde_json::to_string(&row).unwrap(), pretty);
    }

    /// What could be read before can be read now, as the same, and nothing else.
    #[test]
    fn a_row_is_read_where_it_was_before(item in item(), at: prop::sample::Index, byte in "[ -~]", how in 0..3_u8) {
        let mut text = serde_json::to_string(&item).unwrap();
        let at = (0..=at.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        match how {
            0 => drop(text.remove(at)),
            1 => text.insert_str(at, &byte),
            _ => {
                text.remove(at);
                text.insert_str(at, &byte);
            }
        }
        let before = serde_json::from_str::<Parsed>(&text).ok().map(Item::from);
        let now = serde_json::from_str::<Packed>(&text).ok();
        prop_assert_eq!(now.is_some(), before.is_some(), "{}", text);
        if let (Some(now), Some(before)) = (now, before) {
            says_the_same(&now, &before);
        }
    }
}

/// Records as they are in topics since the first version that had actions: they are read, and written so again.
#[test]
fn what_is_on_the_topic_is_what_has_always_been_there() {
    let frozen = [
        concat!(
            r#"{"format":1,"value":{"kind":"run","status":"IN_PROGRESS","action":"deploy","title":"Deploy","#,
            r#""trigger":{"by":{"orgId":"acme"},"origin":"API"},"operation":"DAY-2","user":"ann \"a\"","#,
            r#""invocation_method":{"type":"KAFKA"},"properties":{"n":1},"censored":["p"],"entity":"e","blueprint":"b","#,
            r#""entity_then":{"identifier":"e"},"event":{"action":"TIMER"},"depth":1,"told":{"statusLabel":"l","link":["x"],"#,
            r#""summary":"s","externalRunId":"x","response":{"ok":true}},"approval":{"by":"bob","approved":true,"description":"d","#,
            r#""at_ms":3},"claim":{"by":"agent","until_ms":4,"acked":false},"created_ms":1,"updated_ms":2,"timeout_ms":5,"#,
            r#""deadline_ms":6,"unwritten":true,"untold":[{"id":"c_1","action":"CREATE","trigger":{},"run_id":"r_1","at_ms":1,"#,
            r#""depth":1,"before":null,"after":{"a":1}}]}}"#
        ),
        concat!(
            r#"{"format":1,"value":{"kind":"run","status":"SUCCESS","action":"deploy","trigger":{},"user":"ann","#,
            r#""invocation_method":{},"properties":{},"told":{},"created_ms":1,"updated_ms":9,"ended_ms":9,"timeout_ms":5}}"#
        ),
        concat!(
            r#"{"format":1,"value":{"kind":"entity","title":"t","icon":"i","team":["x"],"properties":{"a":[1,2.5]},"#,
            r#""relations":{"r":"y"},"created_ms":1,"created_by":"ann","updated_ms":2,"updated_by":"bob","deleted":true}}"#
        ),
        concat!(
            r#"{"format":1,"value":{"kind":"action","identifier":"deploy","title":"t","description":"d","#,
            r#""trigger":{"type":"self-service","operation":"CREATE","userInputs":{"properties":{"n":{"type":"integer"}},"#,
            r#""required":["n"],"order":["n"]},"blueprintIdentifier":"b"},"invocationMethod":{"type":"KAFKA"},"#,
            r#""requiredApproval":true,"runTimeout":"10m","publish":true,"createdAt":"c","updatedAt":"u"}}"#
        ),
        concat!(
            r#"{"format":1,"value":{"kind":"action","identifier":"auto","trigger":{"type":"automation","event":{"#,
            r#""type":"ENTITY_CREATED","blueprintIdentifier":"b","actionIdentifier":"a","every":"1m"},"condition":{"type":"JQ","#,
            r#""expressions":["true"],"combinator":"or"}},"invocationMethod":{},"requiredApproval":false,"publish":false}}"#
        ),
        r#"{"format":1,"value":{"kind":"log","message":"line\n","at_ms":1,"by":"ann"}}"#,
    ];
    let mut table = Table::<Packed>::default();
    for (n, text) in frozen.iter().enumerate() {
        let key = format!("acme/{n}");
        let name = format!("{key}@1.{n:032x}");
        let applied = table.apply(name.as_bytes(), Some(text.as_bytes()), 0, 0);
        assert_eq!(applied, Applied::Accepted);
        let Content::Value(row) = &table.get(&key).unwrap().content else {
            panic!("{:?}", table.get(&key));
        };
        let again = encode(&Proposed::Value(&**row)).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), *text, "as it is kept");
        let item = row.item().unwrap();
        says_the_same(row, &item);
        let again = encode(&Proposed::Value(&Packed::new(&item).unwrap())).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), *text, "as it is changed");
    }
}

#[test]
fn what_is_no_item_is_kept_unread_and_not_told_of() {
    let mut table = Table::<Packed>::default();
    let deep = format!(
        r#"{{"kind":"log","message":"m","at_ms":1,"by":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for (n, value) in [
        r#"{"kind":"workspace","a":"hunter2"}"#,
        r#"{"kind":"run","status":"hunter2","action":"a","user":"u"}"#,
        r#"{"kind":"run","kind":"log","message":"hunter2","at_ms":1,"by":"b"}"#,
        r#"{"message":"hunter2","at_ms":1,"by":"b"}"#,
        r#"{"kind":"log","message":"hunter2","at_ms":1.5,"by":"b"}"#,
        r#""hunter2""#,
        &deep,
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{n}@1.{n:032x}");
        let record = format!(r#"{{"format":1,"value":{value}}}"#);
        table.apply(name.as_bytes(), Some(record.as_bytes()), 0, 0);
        let Content::Unreadable(why) = &table.get(&n.to_string()).unwrap().content else {
            panic!("{value}");
        };
        assert!(!why.contains("hunter2"), "{why}");
    }
}

/// It would be a row that nobody can read, and so nobody can change.
#[test]
fn what_could_not_be_read_again_is_no_row() {
    let deep = |levels| (0..levels).fold(Value::Null, |inner, _| json!([inner]));
    let line = |levels| {
        let mut run = crate::actions::tests::run();
        run.trigger = deep(levels);
        Packed::new(&Item::Run(Box::new(run)))
    };
    assert!(line(100).is_ok());
    assert!(line(200).is_err());
}

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn any_cursor() -> impl Strategy<Value = Cursor> {
    let partitions = btree_map(0..i32::MAX, -1..i64::MAX, 1..5);
    btree_map("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", partitions, 1..4).prop_map(|topics| {
        let mut cursor = Cursor::default();
        // Backwards: the order that they are seen in is none of theirs.
        for (topic, partitions) in topics.iter().rev() {
            for (partition, offset) in partitions.iter().rev() {
                cursor.see(topic, *partition, *offset);
            }
        }
        cursor
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(cursor in any_cursor()) {
        let plain = cursor.to_string();
        let forms = [
            plain.clone(),
            STANDARD.encode(&plain),
            STANDARD_NO_PAD.encode(&plain),
            URL_SAFE.encode(&plain),
            cursor.text(true),
            cursor.text(false),
            STANDARD.encode(&plain).replace('+', " "),
            STANDARD.encode(format!("{plain}\n")),
            format!(" {plain} "),
        ];
        for form in forms {
            prop_assert_eq!(Cursor::parse(&form), Ok(cursor.clone()), "{}", form);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in ".{0,80}") {
        if let Ok(cursor) = Cursor::parse(&text) {
            prop_assert_eq!(Cursor::parse(&cursor.text(true)), Ok(cursor));
        }
    }
}

#[test]
fn gravitees_examples() {
    let cursor = Cursor::parse("topic1@0#1;anotherTopic@1#10").unwrap();
    let named: Vec<_> = cursor.iter().collect();
    assert_eq!(named, [("anotherTopic", 1, 10), ("topic1", 0, 1)]);
    // Last-Event-ID: $(echo -n "demo1@0#0" | base64)
    let cursor = Cursor::parse("ZGVtbzFAMCMw").unwrap();
    assert_eq!(cursor.seen("demo1", 0), Some(0));
    assert_eq!(cursor.seen("demo1", 1), None);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, why) in [
        ("", "is not topic@partition#offset"),
        ("t", "base64"),
        ("t@", "is not partition#offset"),
        ("t@0", "is not partition#offset"),
        ("t@0#", "is not partition#offset"),
        ("t@-1#0", "is not partition#offset"),
        ("t@0#-2", "is not partition#offset"),
        ("t@0#9223372036854775807", "is not partition#offset"),
        ("t@+0#1", "is not partition#offset"),
        ("t@0#1,", "is not partition#offset"),
        ("t@0#1;", "is not topic@partition#offset"),
        ("t u@0#1", "is no topic's name"),
        ("t@0#1;t@0#2", "twice"),
        ("t@0#1,0#2", "twice"),
        ("////", "no text"),
    ] {
        let found = Cursor::parse(text).unwrap_err();
        assert!(found.contains(why), "{text:?}: {found}");
    }
    let many: Vec<String> = (0..=MAX_PARTITIONS).map(|n| format!("{n}#0")).collect();
    assert!(
        Cursor::parse(&format!("t@{}", many.join(",")))
            .unwrap_err()
            .contains("4096")
    );
    assert!(
        Cursor::parse(&"t".repeat(MAX_BYTES + 1))
            .unwrap_err()
            .contains("65536")
    );
}

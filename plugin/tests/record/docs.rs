//! The examples in docs/message.md: settings, request and record, one after another.

use sluice_proto::v1::Record;

use crate::harness::record;

/// A record as the page shows it. `topics` are shown where the settings name some.
fn shown(record: &Record, topics: bool) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut lines = Vec::new();
    if topics {
        lines.extend(record.topics.iter().map(|topic| format!("topic: {topic}")));
    }
    lines.extend(record.key.iter().map(|key| format!("key: {}", text(key))));
    lines.extend(
        record
            .partition
            .iter()
            .map(|partition| format!("partition: {partition}")),
    );
    for header in &record.headers {
        lines.push(format!(
            "header {}: {}",
            header.name,
            text(header.value.as_deref().unwrap())
        ));
    }
    lines.push(match &record.value {
        Some(value) => format!("value: {}", text(value)),
        None => "no value".to_owned(),
    });
    lines.join("\n")
}

/// The fenced blocks of a page, with their languages.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fences = page.split("```").collect::<Vec<_>>();
    assert!(fences.len() % 2 == 1, "every fence is closed");
    fences
        .iter()
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').unwrap())
        .collect()
}

#[test]
fn the_examples_of_the_page_are_true() {
    let page = include_str!("../../../docs/message.md");
    let blocks = blocks(page);
    assert!(blocks.len() >= 30);
    for example in blocks.chunks(3) {
        let [("yaml", settings), ("http", request), ("text", expected)] = example else {
            panic!("settings, request and record, not {example:?}");
        };
        let config = serde_saphyr::from_str(settings).unwrap();
        let request = request.trim_end().replacen(" HTTP/1.1", "", 1);
        // The harness has a host of its own.
        let request = request.replacen("\nHost: shop.example.com", "", 1);
        let expected = expected.trim_end().replace("shop.example.com", "example.com");
        let record = record(&config, &request).unwrap();
        assert_eq!(shown(&record, settings.contains("topic:")), expected, "{request}");
    }
}

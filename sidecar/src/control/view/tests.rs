use proptest::prelude::*;

use super::*;

type Row = (Arc<str>, u64, Content<Item>);

/// What is done to one of three rows of a kind: it is made or changed, or deleted.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    row: u8,
    what: u8,
}

fn step() -> impl Strategy<Value = Step> {
    (0..3_u8, 0..3_u8, 0..5_u8).prop_map(|(kind, row, what)| Step { kind, row, what })
}

/// A row that says one of four things; some of them cannot be.
fn item(kind: u8, row: u8, what: u8) -> Item {
    let text = match kind {
        0 => {
            let sinks = [
                "service://S0/h",
                "service://S1/h",
                "http://127.0.0.1:1/",
                "service://S0/none",
            ];
            let source = format!("kafka://c{}/t", what % 3);
            let sink = sinks.get(usize::from(what % 4)).copied().unwrap_or_default();
            json!({"kind": "subscription", "source": source, "sink": sink, "options": {"concurrency": row + 1},
                "created_at": ""})
        }
        1 => {
            let name = ["bootstrap.servers", "no.such"]
                .get(usize::from(what / 3))
                .copied();
            json!({"kind": "kafka_cluster", "properties": {name.unwrap_or_default(): format!("b{what}:1")}, "created_at": ""})
        }
        _ => {
            json!({"kind": "deployment", "uri": format!("http://h{what}"), "revision": 1, "registered_ms": what,
            "created_at": "", "manifest": {"services": [{"name": format!("S{}", what % 2),
            "ty": if what < 2 { "SERVICE" } else { "VIRTUAL_OBJECT" }, "handlers": [{"name": "h", "ty": if what < 2 { "SHARED" } else { "EXCLUSIVE" }}]}]}})
        }
    };
    serde_json::from_value(text).unwrap()
}

/// What is seen of a view. Clusters have nothing to compare them by but what they are written as.
fn told(view: &View, desired: &Desired) -> String {
    let subscriptions: Vec<_> = view
        .subscriptions
        .iter()
        .map(|(id, made)| (id, made.version, &made.item, &made.read))
        .collect();
    let clusters: Vec<_> = view
        .made_clusters
        .iter()
        .map(|(id, made)| (id, made.version, &made.item, &made.read))
        .collect();
    let all: Vec<_> = view.clusters.keys().collect();
    format!(
        "{:?} {subscriptions:?} {clusters:?} {all:?} {:?} {:?} {:?} {:?} {:?}",
        view.known, view.deployments, view.services, view.unreadable, desired.subscriptions, desired.called,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is read anew only where something changed is what it is when all of it is read.
    #[test]
    fn a_view_that_goes_on_from_another_is_what_it_is_from_the_beginning(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..8),
    ) {
        let fixed = Fixed {
            clusters: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            held_topic: "held".to_owned(),
            egress: Arc::default(),
        };
        let mut table: BTreeMap<String, (u64, Content<Item>)> = BTreeMap::new();
        let mut view = View::default();
        for (n, steps) in steps.into_iter().enumerate() {
            for Step { kind, row, what } in steps {
                let (of, name) = match kind {
                    0 => (Kind::Subscriptions, "s"),
                    1 => (Kind::KafkaClusters, "c"),
                    _ => (Kind::Deployments, "d"),
                };
                let content = match what {
                    4 if n % 2 == 0 => Content::Unreadable(Box::new(Arc::from("later"))),
                    4 => Content::Deleted,
                    what => Content::Value(Arc::new(item(kind, row, what))),
                };
                let row = table.entry(of.key(&format!("{name}{row}"))).or_insert((0, Content::Deleted));
                *row = (row.0 + 1, content);
            }
            let list = |prefix: &str| -> Vec<Row> {
                let rows = table.iter().filter(|(key, _)| key.starts_with(prefix));
                rows.map(|(key, (version, content))| (Arc::from(key.as_str()), *version, content.clone())).collect()
            };
            let anew = fixed.view(Some(&list), &View::default());
            view = fixed.view(Some(&list), &view);
            prop_assert_eq!(told(&view, &fixed.desired(&view)), told(&anew, &fixed.desired(&anew)));
        }
    }
}

#[test]
fn nothing_is_read_again_that_is_the_same() {
    let fixed = Fixed {
        clusters: BTreeMap::new(),
        subscriptions: BTreeMap::new(),
        held_topic: "held".to_owned(),
        egress: Arc::default(),
    };
    let row = |kind: u8, of: Kind, id: &str| -> Row {
        (
            Arc::from(of.key(id)),
            1,
            Content::Value(Arc::new(item(kind, 0, 0))),
        )
    };
    let mut table: Vec<Row> = vec![
        row(1, Kind::KafkaClusters, "c0"),
        row(2, Kind::Deployments, "d0"),
        row(0, Kind::Subscriptions, "s0"),
    ];
    let view = |table: &[Row], before: &View| {
        let list = |prefix: &str| -> Vec<Row> {
            let rows = table.iter().filter(|(key, ..)| key.starts_with(prefix));
            rows.cloned().collect()
        };
        fixed.view(Some(&list), before)
    };
    let spec = |view: &View| Arc::clone(view.subscriptions["s0"].read.as_ref().unwrap());
    let first = view(&table, &View::default());
    table.push(row(0, Kind::Subscriptions, "s1"));
    let second = view(&table, &first);
    assert!(
        Arc::ptr_eq(&spec(&first), &spec(&second)),
        "another subscription came"
    );
    table.push(row(1, Kind::KafkaClusters, "c1"));
    let third = view(&table, &second);
    assert!(!Arc::ptr_eq(&spec(&second), &spec(&third)), "a cluster came");
    assert_eq!(spec(&second), spec(&third));
}

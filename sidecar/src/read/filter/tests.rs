use super::*;

fn record(offset: i64, key: Option<&str>, value: Option<&str>) -> Arc<Record> {
    Arc::new(Record {
        topic: Arc::from("t"),
        partition: 1,
        offset,
        timestamp: Some(12),
        key: key.map(|text| text.to_owned().into()),
        headers: vec![
            (b"h".to_vec(), Some(b"1".to_vec())),
            (b"h".to_vec(), Some(b"2".to_vec())),
            (b"none".to_vec(), None),
        ],
        value: value.map(|text| text.to_owned().into()),
        ..Record::default()
    })
}

fn filter(key: &[&str], header: &[&str], places: &[&str], programs: &[&str]) -> Filter {
    let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Filter::parse(&own(key), &own(header), &own(places), &own(programs)).unwrap()
}

/// What is left of a record: nothing, itself, or another value.
async fn left(filter: Filter, record: &Arc<Record>) -> Option<String> {
    let filters = Filters {
        own: Arc::new(filter),
        ..Filters::default()
    };
    let slice = filters.slice(std::slice::from_ref(record)).await.unwrap();
    assert_eq!((slice.seen, slice.failed.count), (1, 0), "{:?}", slice.failed);
    let kept = slice.kept.first()?;
    if Arc::ptr_eq(kept, record) {
        return Some("itself".to_owned());
    }
    assert_eq!(
        (kept.offset, &kept.key, &kept.headers),
        (record.offset, &record.key, &record.headers)
    );
    Some(String::from_utf8(kept.value.as_ref()?.to_vec()).unwrap())
}

#[tokio::test]
async fn keys_and_headers_are_compared_as_they_are() {
    let one = record(7, Some("k"), None);
    let none = record(7, None, None);
    let empty = record(7, Some(""), None);
    for (key, header, of, is_left) in [
        (&["k"][..], &[][..], &one, true),
        (&["a", "k"], &[], &one, true),
        (&["a"], &[], &one, false),
        (&["K"], &[], &one, false),
        (&[""], &[], &none, false),
        (&[""], &[], &empty, true),
        (&[], &["h:1"], &one, true),
        (&[], &["h:1", "h:2"], &one, true),
        (&[], &["h:1", "h:3"], &one, false),
        (&[], &["h: 1"], &one, true),
        (&[], &["none:"], &one, true),
        (&[], &["other:"], &one, false),
        (&["k"], &["h:3"], &one, false),
    ] {
        let left = left(filter(key, header, &[], &[]), of).await;
        assert_eq!(
            left,
            is_left.then(|| "itself".to_owned()),
            "{key:?} {header:?} {of:?}"
        );
    }
}

#[tokio::test]
async fn places_are_compared_with_json_or_text() {
    let value = r#"{"a":{"b":[1,"x",null]},"a b":true,"q'":1.0,"n":12345678901}"#;
    for (place, is_left) in [
        ("$.a.b[0]==1", true),
        ("$.a.b[0] == 1.0", true),
        ("$.a.b[0]!=1", false),
        ("$.a.b[0]==\"1\"", false),
        ("$.a.b[1]==x", true),
        ("$.a.b[1]==\"x\"", true),
        ("$.a.b[-1]==null", true),
        ("$.a.b[9]==null", false),
        ("$.a.b[9]!=null", true),
        ("$.none.deeper==1", false),
        ("$['a b']==true", true),
        ("$[\"a b\"]==true", true),
        (r"$['q\'']==1", true),
        ("$.a=={\"b\":[1,\"x\",null]}", true),
        (" $ != 7 ", true),
        ("$.n==12345678901", true),
        ("$.a.b==[1,\"x\"]", false),
    ] {
        let left = left(filter(&[], &[], &[place], &[]), &record(7, None, Some(value))).await;
        assert_eq!(left, is_left.then(|| "itself".to_owned()), "{place}");
    }
    let text = record(7, None, Some("plain text"));
    assert!(
        left(filter(&[], &[], &["$==plain text"], &[]), &text)
            .await
            .is_some()
    );
    assert!(left(filter(&[], &[], &["$.a==1"], &[]), &text).await.is_none());
    let tombstone = record(7, None, None);
    assert!(
        left(filter(&[], &[], &["$==null"], &[]), &tombstone)
            .await
            .is_some()
    );
}

#[test]
fn what_is_wrong_with_a_place_is_said() {
    for (place, why) in [
        ("", "begin with $"),
        ("a==1", "begin with $"),
        ("$", "neither == nor !="),
        ("$.a", "neither == nor !="),
        ("$.a=1", "\"=1\""),
        ("$..a==1", "no name"),
        ("$.==1", "no name"),
        ("$.*==1", "no name"),
        ("$[*]==1", "neither ['name'] nor [index]"),
        ("$[0==1", "no ]"),
        ("$['a==1", "without an end"),
        ("$['a'==1", "no ]"),
        ("$['\\n']==1", "before what is none of"),
        ("$.a[?@.b==1]", "neither ['name'] nor [index]"),
    ] {
        let error = Where::parse(place).unwrap_err();
        assert!(error.contains(why), "{place}: {error}");
    }
}

#[tokio::test]
async fn a_program_keeps_leaves_out_or_reshapes() {
    let one = record(7, Some("k"), Some("{\"n\": 2,\n\"big\": 18446744073709551615}"));
    for (program, is_left) in [
        (".n > 1", Some("itself")),
        (".n > 2", None),
        ("empty", None),
        ("null", None),
        (".none", None),
        ("select(.n == 2)", Some("itself")),
        (".", Some("itself")),
        (".n", Some("2")),
        ("{n, k: $key}", Some(r#"{"n":2,"k":"k"}"#)),
        (
            "[$topic, $partition, $offset, $timestamp, $headers]",
            Some(r#"["t",1,7,12,{"h":"2","none":null}]"#),
        ),
        (".big", Some("18446744073709551615")),
        ("del(.n)", Some(r#"{"big":18446744073709551615}"#)),
    ] {
        assert_eq!(
            left(filter(&[], &[], &[], &[program]), &one).await.as_deref(),
            is_left,
            "{program}"
        );
    }
    // One after the other, and places look at what was there first.
    let both = filter(&[], &[], &["$.n==2"], &["{m: .n}", ".m == 2"]);
    assert_eq!(left(both, &one).await.as_deref(), Some(r#"{"m":2}"#));
    let text = record(7, None, Some("plain"));
    assert_eq!(
        left(filter(&[], &[], &[], &["length"]), &text).await.as_deref(),
        Some("5")
    );
    let tombstone = record(7, Some("k"), None);
    assert_eq!(
        left(filter(&[], &[], &[], &["$key == \"k\""]), &tombstone)
            .await
            .as_deref(),
        Some("itself")
    );
}

#[tokio::test]
async fn what_the_configuration_leaves_out_no_caller_gets() {
    let filters = Filters {
        own: Arc::new(filter(&[], &[], &[], &["{s: .secret, n: .n}"])),
        forced: HashMap::from([(
            Arc::from("t"),
            vec![Arc::new(filter(&["k"], &[], &[], &["del(.secret)"]))],
        )]),
        unframed: false,
    };
    let shown = |record: Arc<Record>| {
        let filters = filters.clone();
        async move {
            let left = filters.one(&record).await.unwrap()?;
            Some(String::from_utf8(left.value.as_ref()?.to_vec()).unwrap())
        }
    };
    let value = Some(r#"{"secret":1,"n":2}"#);
    assert_eq!(
        shown(record(1, Some("k"), value)).await.as_deref(),
        Some(r#"{"s":null,"n":2}"#)
    );
    assert_eq!(shown(record(1, Some("other"), value)).await, None);
}

#[tokio::test]
async fn a_record_that_a_program_fails_on_is_left_out_and_told() {
    let filters = Filters {
        own: Arc::new(filter(&[], &[], &[], &[".a"])),
        ..Filters::default()
    };
    let records = [
        record(1, None, Some("{\"a\":1}")),
        record(2, None, Some("7")),
        record(3, None, Some("8")),
        record(4, None, Some("{\"a\":4}")),
    ];
    let slice = filters.slice(&records).await.unwrap();
    let kept: Vec<_> = slice.kept.iter().map(|record| record.offset).collect();
    assert_eq!((slice.seen, kept), (4, vec![1, 4]));
    let (first, why) = slice.failed.first.unwrap();
    assert_eq!((slice.failed.count, first.text(false).as_str()), (2, "t@1#2"));
    assert!(why.contains("cannot index 7"), "{why}");
    assert!(filters.one(&records[1]).await.is_err());
}

#[tokio::test]
async fn a_program_that_takes_long_gets_some_records_at_a_time() {
    let filters = Filters {
        own: Arc::new(filter(&[], &[], &[], &["def f: f; f"])),
        ..Filters::default()
    };
    let records: Vec<_> = (0..1000).map(|offset| record(offset, None, Some("1"))).collect();
    let slice = filters.slice(&records).await.unwrap();
    assert!((1..1000).contains(&slice.seen), "{}", slice.seen);
    assert_eq!(slice.failed.count, slice.seen as u64);
}

#[test]
fn what_is_wrong_is_named() {
    let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let wrong = |key: &[&str], header: &[&str], place: &[&str], jq: &[&str]| {
        Filter::parse(&own(key), &own(header), &own(place), &own(jq)).unwrap_err()
    };
    assert_eq!(wrong(&[], &["h"], &[], &[]).0, "header");
    assert_eq!(wrong(&[], &[], &["x"], &[]).0, "where");
    assert_eq!(wrong(&[], &[], &[], &["nope"]).0, "jq");
    assert_eq!(wrong(&[], &[], &[], &["."; 5]).0, "jq");
    assert_eq!(wrong(&["k"; 33], &[], &[], &[]).0, "key");
}

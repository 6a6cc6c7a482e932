//! Merged configurations are built once, and not kept without bound.

use std::rc::Rc;

use super::*;

fn numbered(n: usize) -> Vec<u8> {
    metadata::encode(&json!({"topic": format!("topic-{n}")}))
}

#[test]
fn the_same_question_gets_the_same_route() {
    let config = config(json!({"topic": "base", "routes": [{"path_prefix": "/", "topic": "entry"}]}));
    let mut cache = RouteCache::new();
    for entry in [None, Some(0)] {
        for bytes in [vec![], numbered(1), numbered(2)] {
            let first = cache.resolve(&config, entry, &bytes).unwrap().unwrap();
            let again = cache.resolve(&config, entry, &bytes).unwrap().unwrap();
            assert!(Rc::ptr_eq(&first, &again));
            assert_eq!(Some(&*first), config.resolve(entry, &bytes).unwrap().as_ref());
        }
    }
    assert_eq!(cache.len(), 6);
}

#[test]
fn pass_through_and_problems_are_remembered_too() {
    let config = FilterConfig::default();
    let mut cache = RouteCache::new();
    assert_eq!(cache.resolve(&config, None, b""), Ok(None));
    let bad = metadata::encode(&json!({"topic": "no topic"}));
    let first = cache.resolve(&config, None, &bad).unwrap_err();
    let again = cache.resolve(&config, None, &bad).unwrap_err();
    assert!(Rc::ptr_eq(&first, &again));
    assert_eq!(cache.len(), 2);
}

#[test]
fn it_holds_so_many_entries_and_no_more() {
    let config = FilterConfig::default();
    let mut cache = RouteCache::new();
    for n in 0..3 * MAX_ENTRIES {
        let route = cache.resolve(&config, None, &numbered(n)).unwrap().unwrap();
        assert_eq!(route.topics, [format!("topic-{n}")]);
        assert!(!cache.is_empty() && cache.len() <= MAX_ENTRIES);
    }
}

#[test]
fn it_holds_so_many_bytes_and_no_more() {
    let config = FilterConfig::default();
    let mut cache = RouteCache::new();
    let big = |n: usize| {
        let tree = json!({"topic": "t", "success_message": format!("{n}{}", "x".repeat(MAX_KEY_BYTES / 3))});
        metadata::encode(&tree)
    };
    for n in 0..9 {
        assert!(cache.resolve(&config, None, &big(n)).unwrap().is_some());
        assert!((1..=2).contains(&cache.len()));
    }
    let kept = cache.len();
    let huge = metadata::encode(&json!({"topic": "t", "success_message": "x".repeat(MAX_KEY_BYTES)}));
    assert!(cache.resolve(&config, None, &huge).unwrap().is_some());
    assert_eq!(cache.len(), kept);
}

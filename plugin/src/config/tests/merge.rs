//! Base, then an entry, then metadata: each overrides the one before, field by field.

use super::*;

fn merged(base: Json, metadata: Json) -> Route {
    with_metadata(&config(base), metadata).unwrap().unwrap()
}

#[test]
fn the_nearest_layer_wins_field_by_field() {
    let config = config(json!({
        "topic": "base", "forward_uri": true, "producer": "base", "cluster_name": "base",
        "routes": [{"path_prefix": "/", "producer": "entry", "cluster_name": "entry"}],
    }));
    let metadata = metadata::encode(&json!({"cluster_name": "metadata"}));
    let route = config.resolve(Some(0), &metadata).unwrap().unwrap();
    let fixed = |name: &str| Named::Fixed(name.to_owned());
    assert_eq!(route.topics, ["base"]);
    assert_eq!(
        [&route.producer, &route.cluster_name],
        [&fixed("entry"), &fixed("metadata")]
    );
    assert!(route.forward.uri);
    let route = config.resolve(None, b"").unwrap().unwrap();
    assert_eq!(
        [&route.producer, &route.cluster_name],
        [&fixed("base"), &fixed("base")]
    );
}

#[test]
fn the_headers_block_is_merged_inside() {
    let route = merged(
        json!({"topic": "t", "headers": {"include_headers": ["a"], "name_mappings": {"a": "b"}}}),
        json!({"headers": {"include_headers": ["c"]}}),
    );
    assert_eq!(route.headers.include, ["c"]);
    assert_eq!(route.headers.rename, [("a".to_owned(), "b".to_owned())]);
}

#[test]
fn a_list_replaces_a_list() {
    let route = merged(json!({"topics": ["a", "b"]}), json!({"topics": ["c"]}));
    assert_eq!(route.topics, ["c"]);
}

#[test]
fn two_spellings_of_a_field_are_one_field() {
    let route = merged(json!({"topics": ["a", "b"]}), json!({"topic": "c"}));
    assert_eq!(route.topics, ["c"]);
    let route = merged(
        json!({"topic": "t", "key": {"header": "a"}}),
        json!({"key_query_arg": "q"}),
    );
    assert_eq!(route.key, Some(Key::of(Source::Query("q".to_owned()))));
    let route = merged(
        json!({"topic": "t", "delivery": "buffered"}),
        json!({"producer_async": false}),
    );
    assert_eq!(route.delivery, Delivery::Acked);
}

#[test]
fn null_is_not_written_and_none_takes_away() {
    let base = json!({"topic": "t", "key": {"query": "q"}, "partition": {"fixed": 1}});
    let inherits = merged(
        base.clone(),
        json!({"key": null, "partition": null, "topic": null}),
    );
    assert_eq!(
        inherits,
        config(base.clone()).resolve(None, b"").unwrap().unwrap()
    );
    let without = merged(base.clone(), json!({"key": "none", "partition": "none"}));
    assert_eq!((without.key, without.partition), (None, None));
    assert_eq!(with_metadata(&config(base), json!({"topics": []})), Ok(None));
}

#[test]
fn a_choice_takes_away_what_only_made_sense_with_the_one_below() {
    let audit = json!({"topic": "t", "then": "continue", "on_error": "continue"});
    let route = merged(audit.clone(), json!({"then": "respond"}));
    assert_eq!((route.then, route.on_error), (Then::Respond, OnError::Respond));
    let route = merged(audit.clone(), json!({"then": "continue"}));
    assert_eq!(route.on_error, OnError::Continue);

    let answer = json!({"topic": "t", "success_status": 201, "success_message": "ok"});
    let route = merged(answer, json!({"then": "continue"}));
    assert_eq!((route.success_status, route.success_message), (None, None));

    let envelope = json!({"topic": "t", "value": "envelope"});
    let route = merged(envelope, json!({"cloudevents": "binary"}));
    assert_eq!(route.value, Value::Body);
    let route = merged(
        json!({"topic": "t", "value": "none"}),
        json!({"cloudevents": "binary"}),
    );
    assert_eq!(route.value, Value::None);
}

#[test]
fn what_only_contradicts_once_merged_is_found_at_the_layer_that_does_it() {
    let continues = config(json!({"topic": "t", "then": "continue"}));
    assert_eq!(
        with_metadata(&continues, json!({"success_status": 201})),
        Err(vec![
            "metadata.filter_metadata.sluice.success_status: has no effect with `then: continue`: the upstream \
             answers"
                .to_owned()
        ])
    );
    let all_false = "at least one of forward_method, forward_uri, forward_headers and forward_body must be true: \
                     the envelope would be empty";
    let base = json!({"forward_body": false, "routes": [
        {"path_prefix": "/a", "topic": "a"},
        {"path_prefix": "/b", "topic": "b", "forward_uri": true},
        {"path_prefix": "/c", "topic": "c", "value": "body"},
    ]});
    assert_eq!(problems(base), [format!("routes[0].forward_body: {all_false}")]);
}

#[test]
fn a_mistake_of_base_is_not_told_again_for_each_entry() {
    let tree = json!({
        "topic": "t", "on_error": "continue",
        "routes": [{"path_prefix": "/a"}, {"path_prefix": "/b", "then": "continue"}],
    });
    assert_eq!(
        problems(tree),
        ["on_error: has an effect only with `then: continue`"]
    );
}

#[test]
fn a_field_that_cannot_be_read_contradicts_nothing() {
    let tree = json!({"topic": "t", "forward_uri": "yes", "forward_body": false});
    assert_eq!(
        problems(tree),
        ["forward_uri: must be true or false, not the string \"yes\""]
    );
    let tree =
        json!({"topic": "t", "on_error": "continue", "routes": [{"methods": ["GET"], "then": "go on"}]});
    assert_eq!(
        problems(tree),
        [
            "routes[0].then: must be one of respond, continue, not the string \"go on\"",
            "on_error: has an effect only with `then: continue`",
        ]
    );
}

#[test]
fn topics_by_query_argument_need_topics_to_choose_from() {
    let config = config(json!({"allowed_topics": ["a"]}));
    let route = with_metadata(&config, json!({"topics_query_arg": "t"}))
        .unwrap()
        .unwrap();
    assert_eq!(route.topics_query_arg.as_deref(), Some("t"));
    let empty = FilterConfig::default();
    assert_eq!(
        with_metadata(&empty, json!({"topics_query_arg": "t"})),
        Err(vec![
            "metadata.filter_metadata.sluice.topics_query_arg: can name no topic: set allowed_topics, or a topic \
             of the route's own"
                .to_owned()
        ])
    );
}

#[test]
fn a_choice_is_one_field_with_the_name_it_may_be_instead() {
    let chosen = json!({"header": "x", "allowed": ["a", "b"]});
    let base = json!({"topic": "t", "cluster_name": "eu", "producer": chosen, "key": {"query": "q", "default": "d"}});
    let route = merged(
        base,
        json!({"topic": chosen, "cluster_name": chosen, "producer": "p", "key": {"query": "k"}}),
    );
    let choice = Choice {
        source: Source::Header("x".to_owned()),
        allowed: vec!["a".to_owned(), "b".to_owned()],
        default: None,
    };
    assert_eq!((route.topics, route.topic_choice), (vec![], Some(choice.clone())));
    assert_eq!(route.cluster_name, Named::Chosen(choice));
    assert_eq!(route.producer, Named::Fixed("p".to_owned()));
    assert_eq!(route.key, Some(Key::of(Source::Query("k".to_owned()))));

    let route = merged(json!({"topic": chosen}), json!({"topic": "t"}));
    assert_eq!((route.topics, route.topic_choice), (vec!["t".to_owned()], None));
    assert_eq!(
        with_metadata(&config(json!({"topic": chosen})), json!({"topics": []})),
        Ok(None)
    );
}

#[test]
fn a_topic_is_chosen_in_one_way() {
    let chosen = json!({"header": "x", "allowed": ["a"]});
    let both = "topics_query_arg: the request chooses by `topic` already; leave one of them out, or set `topic` to \
                a name";
    assert_eq!(
        problems(json!({"topic": chosen, "topics_query_arg": "to"})),
        [both]
    );
    let over = config(json!({"topic": chosen}));
    assert_eq!(
        with_metadata(&over, json!({"topics_query_arg": "to"})),
        Err(vec![format!("metadata.filter_metadata.sluice.{both}")])
    );
    // The other way round a choice takes the place of the one below.
    let route = merged(
        json!({"topic": "t", "topics_query_arg": "to", "allowed_topics": ["a"]}),
        json!({"topic": chosen}),
    );
    assert_eq!(route.topics_query_arg, None);
    assert!(route.topic_choice.is_some());
}

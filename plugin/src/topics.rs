//! Where a record goes.

use crate::choice;
use crate::cloudevents::Event;
use crate::config::Route;
use crate::form;
use crate::record::{Input, Reject, Topics, excerpt};
use crate::request::Head;

/// The record's topics: those that the request names, if the route lets it and allows them all, else the route's.
pub(crate) fn choose<'a>(input: &Input<'a>, event: Option<&Event<'a>>) -> Result<Topics, Reject> {
    let Input { route, head, .. } = *input;
    if let Some(choice) = &route.topic_choice {
        return choice::index(choice, "topic", input, event).map(Topics::Chosen);
    }
    match &route.topics_query_arg {
        Some(arg_name) => named(route, arg_name, &head),
        None => Ok(Topics::Configured),
    }
}

/// Those that the query argument names.
fn named(route: &Route, arg_name: &str, head: &Head<'_>) -> Result<Topics, Reject> {
    let mut said = false;
    let mut names: Vec<String> = Vec::new();
    for arg in form::args(head.query().unwrap_or_default()) {
        if *arg.name != *arg_name.as_bytes() {
            continue;
        }
        said = true;
        let list = arg.value().unwrap_or_default();
        for name in list.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if name.is_empty() || names.iter().any(|n| n.as_bytes() == name) {
                continue;
            }
            names.push(allowed(route, name)?.to_owned());
        }
    }
    if !names.is_empty() {
        return Ok(Topics::Named(names.into_boxed_slice()));
    }
    match (said, route.topics.is_empty()) {
        (false, false) => Ok(Topics::Configured),
        (true, false) => Err(Reject::invalid(format!(
            "the query argument {arg_name} names no topic; leave it out to use the default"
        ))),
        (_, true) => Err(Reject::invalid(format!(
            "the query argument {arg_name} must name a topic: this route has no default"
        ))),
    }
}

fn allowed<'a>(route: &'a Route, name: &[u8]) -> Result<&'a str, Reject> {
    route
        .topics
        .iter()
        .chain(&route.allowed_topics)
        .find(|topic| topic.as_bytes() == name)
        .map(String::as_str)
        .ok_or_else(|| {
            Reject::topic_not_allowed(format!("this route does not allow the topic {}", excerpt(name)))
        })
}

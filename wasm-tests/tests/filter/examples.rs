//! What the repository shows to its readers is what the filter takes.

use std::fs;

use serde_json::Value;
use wasm_tests::{Host, Outcome, Request, artefact};

use crate::common::{arrived, store};

/// Every mapping in the tree.
fn mappings<'a>(tree: &'a Value, all: &mut Vec<&'a serde_json::Map<String, Value>>) {
    match tree {
        Value::Object(map) => {
            all.push(map);
            map.values().for_each(|value| mappings(value, all));
        }
        Value::Array(list) => list.iter().for_each(|value| mappings(value, all)),
        _ => {}
    }
}

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(artefact::workspace().join(path)).expect(path);
    serde_saphyr::from_str(&text).expect(path)
}

/// The configuration of the filter in an Envoy configuration.
fn plugin_configuration(envoy: &Value) -> &Value {
    let mut all = Vec::new();
    mappings(envoy, &mut all);
    let mut plugins = all
        .iter()
        .filter(|map| map.contains_key("vm_config"))
        .map(|map| &map["configuration"]["value"]);
    let (Some(one), None) = (plugins.next(), plugins.next()) else {
        panic!("not one plugin");
    };
    one
}

#[test]
fn envoy_yaml_is_accepted_and_so_is_the_metadata_of_all_its_routes() {
    let envoy = yaml("envoy.yaml");
    let mut host = Host::builder(plugin_configuration(&envoy))
        .cluster("sluice_data", "127.0.0.1:9")
        .start()
        .unwrap();
    let mut all = Vec::new();
    mappings(&envoy, &mut all);
    let routes: Vec<_> = all
        .iter()
        .filter(|map| map.contains_key("match") && map.contains_key("name"))
        .collect();
    assert!(routes.len() >= 5, "{routes:?}");
    let mut produced = 0;
    for route in routes {
        let name = route["name"].as_str().unwrap();
        let settings = route.get("metadata").map(|metadata| &metadata["filter_metadata"]);
        let mut request = Request::post("/x/y").route(name).json(r#"{"user":{"id":"7"}}"#);
        if let Some(settings) = settings {
            request = request.metadata(settings);
        }
        host.hold_calls(true);
        let id = host.send(request);
        if let Some(call) = host.calls().first() {
            host.leave(id);
            let token = call.token;
            host.reset_call(token);
            produced += 1;
        } else if !matches!(host.outcome(id), Outcome::Forwarded(_)) {
            let sent = arrived(&mut host, 1).remove(0);
            store(&mut host, &sent, 0);
            assert_eq!(host.reply(id).status / 100, 2, "{name}: {}", host.reply(id));
            produced += 1;
        } else {
            assert!(settings.is_none(), "{name} has settings and is not acted upon");
        }
    }
    assert!(produced >= 4, "{produced}");
}

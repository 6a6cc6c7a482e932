//! Envoy's configuration: a listener for each row, so that no row pays for another's filters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::rows::Row;

/// The topic that every record goes to.
pub(crate) const TOPIC: &str = "bench";

/// The path of every request: what the REST faces want; the other rows take any.
pub(crate) const PATH: &str = "/topics/bench/records";

/// What Envoy has to know.
#[derive(Debug)]
pub(crate) struct Wiring<'a> {
    /// The listener of each row.
    pub(crate) listeners: &'a BTreeMap<Row, SocketAddr>,
    /// The filter.
    pub(crate) filter: &'a Path,
    /// The socket of the sidecar's stream listener.
    pub(crate) stream: &'a Path,
    /// The sidecar's data listener.
    pub(crate) data: SocketAddr,
    /// The small service.
    pub(crate) service: SocketAddr,
}

/// The bootstrap configuration.
pub(crate) fn bootstrap(wiring: &Wiring<'_>) -> Value {
    let listeners: Vec<Value> = wiring
        .listeners
        .iter()
        .map(|(row, address)| listener(*row, *address, wiring.filter))
        .collect();
    json!({
        "static_resources": {
            "listeners": listeners,
            "clusters": [
                cluster("sluice", &pipe(wiring.stream), true),
                cluster("sluice_data", &tcp(wiring.data), false),
                cluster("service", &tcp(wiring.service), false),
            ],
        },
    })
}

fn listener(row: Row, address: SocketAddr, filter: &Path) -> Value {
    let mut filters = Vec::new();
    if row == Row::Floor {
        filters.push(json!({
            "name": "buffer",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
                "max_request_bytes": 1 << 20,
            },
        }));
    }
    if row.through_filter() {
        filters.push(wasm(row, filter));
    }
    filters.push(json!({
        "name": "router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let action = match row {
        Row::Floor => ("direct_response", direct_response(200)),
        Row::Rest => ("route", json!({"cluster": "sluice_data"})),
        Row::Service => ("route", json!({"cluster": "service"})),
        // As shipped: a filter that is missing must not look like a 2xx.
        _ => ("direct_response", direct_response(503)),
    };
    let mut route = json!({"match": {"prefix": "/"}});
    if let Some(map) = route.as_object_mut() {
        map.insert(action.0.to_owned(), action.1);
    }
    json!({
        "name": format!("{row:?}"),
        "address": tcp(address),
        "filter_chains": [{"filters": [{
            "name": "hcm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": format!("{row:?}"),
                "http_filters": filters,
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            },
        }]}],
    })
}

fn direct_response(status: u16) -> Value {
    json!({"status": status, "body": {"inline_string": "{\"message\":\"message sent\"}"}})
}

/// The filter with that row's configuration. All rows share one VM.
fn wasm(row: Row, filter: &Path) -> Value {
    json!({
        "name": "sluice",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": format!("{row:?}"),
                "root_id": "",
                "failure_policy": "FAIL_RELOAD",
                "allow_on_headers_stop_iteration": true,
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.Struct",
                    "value": settings(row),
                },
                "vm_config": {
                    "vm_id": "sluice",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": filter}},
                },
            },
        },
    })
}

/// The filter's settings in that row.
fn settings(row: Row) -> Value {
    match row {
        // No record fits into that bound, so each is built, measured and refused.
        Row::Local => json!({"topic": TOPIC, "stream": {"max_outstanding_bytes": 1}}),
        Row::StreamAll => json!({
            "topic": TOPIC,
            "forward_method": true,
            "forward_uri": true,
            "forward_headers": true,
            "forward_body": true,
        }),
        Row::StreamBody => json!({"topic": TOPIC, "value": "body"}),
        Row::Http => json!({"topic": TOPIC, "transport": "http", "sidecar_cluster": "sluice_data"}),
        _ => json!({"topic": TOPIC}),
    }
}

fn cluster(name: &str, address: &Value, http2: bool) -> Value {
    let protocol = if http2 {
        "http2_protocol_options"
    } else {
        "http_protocol_options"
    };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}},
            },
        },
    })
}

fn pipe(path: &Path) -> Value {
    json!({"pipe": {"path": path}})
}

fn tcp(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_listener_and_only_the_floor_answers_by_itself() {
        let listeners: BTreeMap<Row, SocketAddr> = Row::ALL
            .into_iter()
            .filter(|row| row.through_envoy())
            .zip(10_000..)
            .map(|(row, port)| (row, ([127, 0, 0, 1], port).into()))
            .collect();
        let wiring = Wiring {
            listeners: &listeners,
            filter: Path::new("f.wasm"),
            stream: Path::new("s.sock"),
            data: ([127, 0, 0, 1], 1).into(),
            service: ([127, 0, 0, 1], 2).into(),
        };
        let config = bootstrap(&wiring);
        let built = config["static_resources"]["listeners"].as_array().unwrap();
        assert_eq!(built.len(), Row::ALL.len() - 1);
        for (listener, row) in built.iter().zip(listeners.keys()) {
            let text = listener.to_string();
            assert_eq!(text.contains("f.wasm"), row.through_filter(), "{row:?}");
            assert_eq!(text.contains("\"status\":200"), *row == Row::Floor, "{row:?}");
            assert_eq!(text.contains("v3.Buffer"), *row == Row::Floor, "{row:?}");
        }
    }
}

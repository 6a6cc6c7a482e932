//! Envoy's configuration: a listener for each row, so that no row pays for another's filters.
//!
//! The rows with the filter have the shipped `envoy.yaml`'s listener, local replies included, with a route of
//! their own: what they cost is what a user pays. So has one of the two floors; it differs from them by the
//! filter alone. The others have the least that Envoy needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use sluice_e2e::{Context, Result, parts};

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
///
/// # Errors
/// The shipped `envoy.yaml` cannot be read, or has lost something that is replaced here.
pub(crate) fn bootstrap(wiring: &Wiring<'_>) -> Result<Value> {
    let path = parts::root().join("envoy.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut config: Value = serde_saphyr::from_str(&text).context("parse envoy.yaml")?;
    let shipped = at(&mut config, "/static_resources/listeners/0")?.take();
    let listeners: Result<Vec<Value>> = wiring
        .listeners
        .iter()
        .map(|(row, address)| match settings(*row) {
            Some(settings) => with_filter(shipped.clone(), *row, *address, wiring.filter, &settings),
            None if *row == Row::FloorShipped => floor_shipped(shipped.clone(), *row, *address),
            None => Ok(without_filter(*row, *address)),
        })
        .collect();
    *at(&mut config, "/static_resources/listeners")? = Value::Array(listeners?);
    let clusters = at(&mut config, "/static_resources/clusters")?;
    let clusters = clusters
        .as_array_mut()
        .context("envoy.yaml: clusters is no list")?;
    let target = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    for cluster in clusters.iter_mut() {
        match cluster.get("name").and_then(Value::as_str) {
            Some("sluice") => *at(cluster, target)? = json!({"pipe": {"path": wiring.stream}}),
            Some("sluice_data") => *at(cluster, target)? = tcp(wiring.data),
            _ => {}
        }
    }
    clusters.push(json!({
        "name": "service",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": tcp(wiring.service)}}]}],
        },
    }));
    // Its port is fixed, and nothing here asks for it.
    if let Some(root) = config.as_object_mut() {
        root.remove("admin");
    }
    Ok(config)
}

/// What a row sets: for its route, and for the filter as a whole. `None` in a row without the filter.
struct Settings {
    route: Value,
    filter: Value,
}

fn settings(row: Row) -> Option<Settings> {
    let (route, filter) = match row {
        Row::Floor | Row::FloorShipped | Row::Rest | Row::Service | Row::Loop => return None,
        // No record fits into that bound, so each is built, measured and refused with 413.
        Row::Local => (json!({}), json!({"stream": {"max_outstanding_bytes": 1}})),
        Row::Stream => (json!({}), json!({})),
        Row::StreamAll => (
            json!({"forward_method": true, "forward_uri": true, "forward_headers": true, "forward_body": true}),
            json!({}),
        ),
        Row::StreamBody => (json!({"value": "body"}), json!({})),
        Row::Http => (
            json!({"transport": "http", "sidecar_cluster": "sluice_data"}),
            json!({}),
        ),
    };
    let mut route = route;
    if let Some(fields) = route.as_object_mut() {
        fields.insert("topic".to_owned(), json!(TOPIC));
    }
    Some(Settings { route, filter })
}

/// The shipped listener with one route.
fn with_filter(
    mut listener: Value,
    row: Row,
    address: SocketAddr,
    filter: &Path,
    settings: &Settings,
) -> Result<Value> {
    let route = json!({
        "match": {"prefix": "/"},
        "metadata": {"filter_metadata": {"sluice": settings.route}},
        "direct_response": {"status": 503},
    });
    let plugin = at(
        readdressed(&mut listener, row, address, &route)?,
        "/typed_config/config",
    )?;
    *at(plugin, "/vm_config/code/local/filename")? = json!(filter);
    *at(plugin, "/configuration/value")? = settings.filter.clone();
    Ok(listener)
}

/// The shipped listener, answering by itself.
fn floor_shipped(mut listener: Value, row: Row, address: SocketAddr) -> Result<Value> {
    let route = json!({"match": {"prefix": "/"}, "direct_response": sent()});
    *readdressed(&mut listener, row, address, &route)? = buffer();
    Ok(listener)
}

/// Gives the shipped listener another address and one route. Returns its filter named `sluice`.
fn readdressed<'a>(
    listener: &'a mut Value,
    row: Row,
    address: SocketAddr,
    route: &Value,
) -> Result<&'a mut Value> {
    *at(listener, "/name")? = json!(format!("{row:?}"));
    *at(listener, "/address")? = tcp(address);
    let manager = at(listener, "/filter_chains/0/filters/0/typed_config")?;
    *at(manager, "/route_config/virtual_hosts")? = all_hosts(route);
    at(manager, "/http_filters")?
        .as_array_mut()
        .context("envoy.yaml: no filters")?
        .iter_mut()
        .find(|filter| filter.get("name") == Some(&json!("sluice")))
        .context("envoy.yaml: no filter named sluice")
}

/// Waits for the body of a request.
fn buffer() -> Value {
    json!({
        "name": "buffer",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": 1 << 20,
        },
    })
}

/// The answer of a floor.
fn sent() -> Value {
    json!({"status": 200, "body": {"inline_string": "{\"message\":\"message sent\"}"}})
}

/// A listener without the filter.
fn without_filter(row: Row, address: SocketAddr) -> Value {
    let router = json!({
        "name": "router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let all = json!({"prefix": "/"});
    let (filters, route) = match row {
        Row::Rest => (
            vec![router],
            json!({"match": all, "route": {"cluster": "sluice_data"}}),
        ),
        Row::Service => (
            vec![router],
            json!({"match": all, "route": {"cluster": "service"}}),
        ),
        _ => (
            vec![buffer(), router],
            json!({"match": all, "direct_response": sent()}),
        ),
    };
    json!({
        "name": format!("{row:?}"),
        "address": tcp(address),
        "filter_chains": [{"filters": [{
            "name": "hcm",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": format!("{row:?}"),
                "http_filters": filters,
                "route_config": {"virtual_hosts": all_hosts(&route)},
            },
        }]}],
    })
}

fn all_hosts(route: &Value) -> Value {
    json!([{"name": "all", "domains": ["*"], "routes": [route]}])
}

fn tcp(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    value
        .pointer_mut(pointer)
        .with_context(|| format!("envoy.yaml: nothing at {pointer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_listener_and_only_the_floors_answer_by_itself() {
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
        let config = bootstrap(&wiring).unwrap();
        let built = config["static_resources"]["listeners"].as_array().unwrap();
        assert_eq!(built.len(), Row::ALL.len() - 1);
        for (listener, row) in built.iter().zip(listeners.keys()) {
            let text = listener.to_string();
            let filter = settings(*row).is_some();
            let floor = matches!(row, Row::Floor | Row::FloorShipped);
            let shipped = filter || *row == Row::FloorShipped;
            assert_eq!(text.contains("f.wasm"), filter, "{row:?}");
            assert_eq!(text.contains("local_reply_config"), shipped, "{row:?}");
            assert_eq!(text.contains("\"status\":200"), floor, "{row:?}");
            assert_eq!(text.contains("v3.Buffer"), floor, "{row:?}");
            assert_eq!(
                listener["address"]["socket_address"]["port_value"],
                listeners[row].port()
            );
        }
        let clusters = config["static_resources"]["clusters"].to_string();
        assert!(clusters.contains("s.sock"), "{clusters}");
        assert!(
            config.get("admin").is_none(),
            "a second run would find its port taken"
        );
    }
}

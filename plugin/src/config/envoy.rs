//! Checks an Envoy bootstrap before Envoy sees it: the filter's configuration, the metadata of every route,
//! and what Envoy needs to be told for the filter to work. For the `sluice` command.
//!
//! What is not in the bootstrap (routes by RDS, clusters by CDS) cannot be checked and is named as such.

mod node;
mod plugin;
mod routes;

use std::collections::BTreeSet;

use serde_json::Value as Json;
use sluice_settings::Problem;

use super::FilterConfig;
use node::Node;

/// What [`check_envoy`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvoyReport {
    /// How many of Sluice's filters the bootstrap has.
    pub filters: usize,
    /// How many of its routes produce.
    pub produce_routes: usize,
    /// What those name of the sidecar's configuration.
    pub wanted: Vec<Wanted>,
    /// What does not work: a bad configuration, bad metadata, a filter that would hang.
    pub errors: Vec<Problem>,
    /// What works, and is not safe; or could not be checked.
    pub warnings: Vec<Problem>,
    /// The definitions that the sidecar is to compile, each with the path of its route: what is wrong with an expression only
    /// jq knows.
    pub templates: Vec<(String, String)>,
}

/// What a route that produces names of the sidecar's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The route's path in the bootstrap.
    pub path: String,
    /// Whole names of topics that its records may go to. Starts of names, and what requests say besides, are not here.
    pub topics: Vec<String>,
    /// The sidecar's names of the clusters they may go to; an empty one is its default.
    pub clusters: Vec<String>,
    /// The producers that may write them; an empty one is the default.
    pub producers: Vec<String>,
    /// The template that makes them, of the sidecar's.
    pub template: Option<String>,
    /// Where replies to them come, and whether under correlation ids of the clients' own.
    pub reply: Option<(String, bool)>,
}

impl EnvoyReport {
    fn error(&mut self, problem: Problem) {
        if !self.errors.contains(&problem) {
            self.errors.push(problem);
        }
    }

    fn warning(&mut self, path: String, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(Problem { path, message });
    }
}

/// The clusters of the bootstrap.
struct Clusters<'a> {
    /// Whether there may be others, from CDS.
    elsewhere: bool,
    names: BTreeSet<&'a str>,
    /// Those of them that have no endpoint and never will: whatever is routed there is a 503.
    empty: BTreeSet<&'a str>,
}

/// Checks everything of Sluice's in `bootstrap`, an Envoy bootstrap (protobuf JSON, or the YAML of it).
///
/// A filter is Sluice's if it is a wasm filter whose plugin `name` or `root_id` is `sluice`, or whose code has
/// `sluice_filter` in its file name.
pub fn check_envoy(bootstrap: &Json) -> EnvoyReport {
    let mut report = EnvoyReport::default();
    let root = Node::root(bootstrap);
    let clusters = clusters(&root);
    root.visit(&mut |node| {
        if let Some(filters) = node
            .get("http_filters")
            .filter(|filters| filters.value().is_array())
        {
            for filter in filters.items() {
                if let Some(plugin) = plugin::find(&filter) {
                    check_filter(&node, &plugin, &clusters, &mut report);
                }
            }
        }
    });
    if report.filters == 0 {
        report.error(Problem {
            path: String::new(),
            message: "has no filter of Sluice's: no wasm HTTP filter whose plugin is named `sluice`, or whose code \
                      is sluice_filter.wasm"
                .to_owned(),
        });
    }
    report
}

/// Checks one filter and the routes of its connection manager.
fn check_filter(manager: &Node<'_>, plugin: &Node<'_>, clusters: &Clusters<'_>, report: &mut EnvoyReport) {
    report.filters += 1;
    plugin::check_flags(plugin, report);
    let config = match plugin::configuration(plugin) {
        Ok(config) => Some(config),
        Err(problems) => {
            problems.into_iter().for_each(|problem| report.error(problem));
            None
        }
    };
    let Some(table) = manager.get("route_config") else {
        report.warning(
            manager.path().to_owned(),
            "its routes are not in this file (no route_config), and are not checked",
        );
        if let Some(config) = &config {
            check_cluster(config.sidecar_cluster(), plugin.path(), clusters, report);
        }
        return;
    };
    for host in table.get("virtual_hosts").iter().flat_map(Node::items) {
        if let Some(tree) = host.get("matcher") {
            report.warning(
                tree.path().to_owned(),
                "the routes of a matcher tree are not checked",
            );
        }
        for route in host.get("routes").iter().flat_map(Node::items) {
            routes::check(config.as_ref(), &host, &route, clusters, report);
        }
    }
}

/// Warns, once for each name, where the cluster that leads to the sidecar does not exist.
fn check_cluster(name: &str, path: &str, clusters: &Clusters<'_>, report: &mut EnvoyReport) {
    let message = format!("sends records to the cluster {name:?}, which this file does not have");
    let known = clusters.elsewhere || clusters.names.contains(name);
    if !known && !report.warnings.iter().any(|warning| warning.message == message) {
        report.warning(path.to_owned(), message);
    }
}

fn clusters<'a>(root: &Node<'a>) -> Clusters<'a> {
    let list = root.at(&["static_resources", "clusters"]);
    let all = || list.iter().flat_map(Node::items);
    Clusters {
        elsewhere: root.at(&["dynamic_resources", "cds_config"]).is_some(),
        names: all().filter_map(|cluster| cluster.string("name")).collect(),
        empty: all()
            .filter(has_no_endpoint)
            .filter_map(|cluster| cluster.string("name"))
            .collect(),
    }
}

fn has_no_endpoint(cluster: &Node<'_>) -> bool {
    // What Envoy takes a cluster for that does not say its type.
    let fixed = cluster.string("type").is_none_or(|kind| kind == "STATIC");
    let localities = cluster.at(&["load_assignment", "endpoints"]);
    let mut endpoints = localities.iter().flat_map(Node::items);
    let none = endpoints.all(|locality| {
        let list = locality.get("lb_endpoints");
        list.iter().flat_map(Node::items).next().is_none()
    });
    fixed && none && cluster.get("cluster_type").is_none()
}

#[cfg(test)]
mod tests;

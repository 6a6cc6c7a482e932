//! The routes of a bootstrap: their metadata, and whether those that produce fail closed.

use sluice_settings::Problem;

use super::{Clusters, EnvoyReport, FilterConfig, Node, Wanted, check_cluster};
use crate::config::entry::{Entry, host_matches};
use crate::config::{Named, Route, Then, read_metadata};

/// Checks `route` of the virtual host `host`. Without `config` (it is bad itself) the metadata is checked alone.
pub(super) fn check(
    config: Option<&FilterConfig>,
    host: &Node<'_>,
    route: &Node<'_>,
    clusters: &Clusters<'_>,
    report: &mut EnvoyReport,
) {
    let metadata = route.at(&["metadata", "filter_metadata", "sluice"]);
    let tree = metadata.as_ref().map(Node::value);
    let Some(config) = config else {
        let problems = tree.and_then(|tree| read_metadata(tree).err());
        add(problems.unwrap_or_default(), route, report);
        return;
    };
    let mut found: Vec<Route> = Vec::new();
    for entry in candidates(config, host, route) {
        match config.resolve_json(entry, tree) {
            Ok(produces) => found.extend(produces),
            // Without metadata the problem is of an entry, which was checked with the configuration.
            Err(problems) if tree.is_some() => add(problems, route, report),
            Err(_) => {}
        }
    }
    if found.is_empty() {
        return;
    }
    report.produce_routes += 1;
    if !fails_closed(route, clusters) && found.iter().any(|route| route.then == Then::Respond) {
        report.warning(
            route.path().to_owned(),
            "produces, and does not fail closed: give it a direct_response of 503, so that a filter that is \
             missing never looks like a success",
        );
    }
    for produces in &found {
        if let Some(template) = &produces.template
            && template.name.is_none()
        {
            let found = (route.path().to_owned(), template.definition.clone());
            if !report.templates.contains(&found) {
                report.templates.push(found);
            }
        }
        check_cluster(&produces.sidecar_cluster, route.path(), clusters, report);
        report.wanted.push(wanted(produces, route));
    }
}

fn wanted(produces: &Route, route: &Node<'_>) -> Wanted {
    let names = |named: &Named| match named {
        Named::Fixed(name) => vec![name.clone()],
        Named::Chosen(choice) => choice.allowed.clone(),
    };
    let chosen = produces.topic_choice.iter().flat_map(|choice| &choice.allowed);
    let topics = produces
        .topics
        .iter()
        .chain(chosen)
        .chain(&produces.allowed_topics);
    Wanted {
        path: route.path().to_owned(),
        topics: topics.filter(|topic| !topic.ends_with('*')).cloned().collect(),
        clusters: names(&produces.cluster_name),
        producers: names(&produces.producer),
        template: produces
            .template
            .as_ref()
            .and_then(|template| template.name.clone()),
        reply: produces
            .reply
            .as_ref()
            .map(|reply| (reply.topic.clone(), reply.correlation_id.is_some())),
    }
}

/// Whether what is behind the filter is an error.
fn fails_closed(route: &Node<'_>, clusters: &Clusters<'_>) -> bool {
    let status = route.at(&["direct_response", "status"]);
    let code = status.and_then(|status| status.value().as_u64());
    let upstream = route.get("route").and_then(|action| action.string("cluster"));
    code.is_some_and(|code| code >= 500) || upstream.is_some_and(|name| clusters.empty.contains(name))
}

/// Reports problems whose paths begin at the route.
fn add(problems: Vec<Problem>, route: &Node<'_>, report: &mut EnvoyReport) {
    for problem in problems {
        report.error(Problem {
            path: route.path_to(&problem.path),
            message: problem.message,
        });
    }
}

/// Whether an entry is for the requests of a route, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matches {
    Never,
    Sometimes,
    Always,
}

use Matches::{Always, Never, Sometimes};

/// The entries (`None`: base alone) that requests of the route can have.
fn candidates(config: &FilterConfig, host: &Node<'_>, route: &Node<'_>) -> Vec<Option<usize>> {
    let mut all = Vec::new();
    for (index, entry) in config.entries.iter().enumerate() {
        let matches = matches(entry, host, route);
        if matches != Never {
            all.push(Some(index));
        }
        if matches == Always {
            return all;
        }
    }
    all.push(None);
    all
}

fn matches(entry: &Entry, host: &Node<'_>, route: &Node<'_>) -> Matches {
    let by_name = entry
        .route_name
        .as_ref()
        .map(|name| all_if(route.string("name") == Some(name)));
    let by_host = entry.host.as_ref().map(|pattern| match_hosts(pattern, host));
    let by_path = entry.path_prefix.as_ref().map(|prefix| match_path(prefix, route));
    let by_method = entry.methods.as_ref().map(|methods| match_method(methods, route));
    let least = [by_name, by_host, by_path, by_method].into_iter().flatten().min();
    least.unwrap_or(Always)
}

fn all_if(matches: bool) -> Matches {
    if matches { Always } else { Never }
}

/// An entry's host against the domains of a virtual host.
fn match_hosts(pattern: &str, host: &Node<'_>) -> Matches {
    let domains = host.get("domains");
    let one = |domain: Node<'_>| {
        domain
            .value()
            .as_str()
            .map(|domain| match_domain(pattern, domain))
    };
    let each: Vec<Matches> = domains.iter().flat_map(Node::items).filter_map(one).collect();
    if each.iter().all(|one| *one == Always) {
        Always
    } else if each.iter().all(|one| *one == Never) {
        Never
    } else {
        Sometimes
    }
}

/// An entry's host against a domain: exact, `*suffix`, `prefix*` or `*`.
fn match_domain(pattern: &str, domain: &str) -> Matches {
    let domain = domain.to_ascii_lowercase();
    // An entry's host matches on every port.
    let domain = domain.strip_suffix(":*").unwrap_or(&domain);
    let domain = domain.split_once(':').map_or(domain, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) {
            name
        } else {
            domain
        }
    });
    let wildcard = pattern.strip_prefix('*');
    if let Some(suffix) = domain.strip_prefix('*') {
        let wanted = wildcard.unwrap_or(pattern);
        if wildcard.is_some() && suffix.ends_with(wanted) {
            Always
        } else if wanted.ends_with(suffix) {
            Sometimes
        } else {
            Never
        }
    } else if let Some(prefix) = domain.strip_suffix('*') {
        let possible = wildcard.is_some() || pattern.starts_with(prefix);
        if possible { Sometimes } else { Never }
    } else {
        all_if(host_matches(pattern, domain.as_bytes()))
    }
}

/// An entry's path prefix against the match of a route.
fn match_path(wanted: &str, route: &Node<'_>) -> Matches {
    let string = |name| route.at(&["match", name]).and_then(|node| node.value().as_str());
    if let Some(path) = string("path") {
        return all_if(path.starts_with(wanted));
    }
    let Some(prefix) = string("prefix").or_else(|| string("path_separated_prefix")) else {
        return Sometimes;
    };
    if prefix.starts_with(wanted) {
        Always
    } else if wanted.starts_with(prefix) {
        Sometimes
    } else {
        Never
    }
}

/// An entry's methods against the `:method` that a route asks for.
fn match_method(wanted: &[String], route: &Node<'_>) -> Matches {
    let headers = route.at(&["match", "headers"]);
    let mut conditions = headers.iter().flat_map(Node::items);
    let asked = conditions.find(|header| header.string("name") == Some(":method"));
    let exact = asked.and_then(|header| {
        let inverted = header
            .get("invert_match")
            .is_some_and(|node| node.value() == true);
        let text = header
            .get("string_match")
            .and_then(|matcher| matcher.string("exact"));
        text.or_else(|| header.string("exact_match"))
            .filter(|_| !inverted)
    });
    match exact {
        Some(method) => all_if(wanted.iter().any(|one| one == method)),
        None => Sometimes,
    }
}

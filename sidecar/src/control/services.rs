//! The services that are there: those of all deployments, the latest registration of each.

use std::collections::BTreeMap;

use super::item::Deployment;
use super::manifest::{Handler, Kind, Mode, Service};

/// The services by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services(BTreeMap<String, Placed>);

/// A service, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The deployment's id.
    pub deployment: String,
    /// Its URI.
    pub uri: String,
    /// How often the deployment was registered.
    pub revision: u64,
    /// The service.
    pub service: Service,
    registered_ms: i64,
}

/// A handler, and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The deployment's URI.
    pub uri: String,
    /// What order there is in the service.
    pub kind: Kind,
    /// How the handler is called.
    pub mode: Mode,
    /// Whether it takes values that are not JSON.
    pub raw: bool,
}

impl Services {
    /// Those of these deployments.
    pub fn of<'a>(deployments: impl Iterator<Item = (&'a str, &'a Deployment)>) -> Self {
        let mut all: BTreeMap<String, Placed> = BTreeMap::new();
        for (id, deployment) in deployments {
            for service in &deployment.manifest.services {
                let placed = Placed {
                    deployment: id.to_owned(),
                    uri: deployment.uri.clone(),
                    revision: deployment.revision,
                    service: service.clone(),
                    registered_ms: deployment.registered_ms,
                };
                // By id too, so that everybody chooses the same.
                let later = |other: &Placed| {
                    (placed.registered_ms, &placed.deployment) > (other.registered_ms, &other.deployment)
                };
                if all.get(&service.name).is_none_or(later) {
                    all.insert(service.name.clone(), placed);
                }
            }
        }
        Self(all)
    }

    /// A service.
    pub fn get(&self, name: &str) -> Option<&Placed> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Placed> {
        self.0.values()
    }

    /// How a handler is called.
    ///
    /// # Errors
    /// There is no such service or handler; the text says which there are.
    pub fn resolve(&self, service: &str, handler: &str) -> Result<Resolved, String> {
        let Some(placed) = self.get(service) else {
            let known: Vec<&str> = self.0.keys().map(String::as_str).take(SHOWN).collect();
            return Err(match known.as_slice() {
                [] => format!(
                    "no service is named {service:?}: register its deployment first, by POST /deployments"
                ),
                known => format!("no service is named {service:?}; there are {}", known.join(", ")),
            });
        };
        let Some(Handler { ty, raw, .. }) = placed.service.handler(handler) else {
            let known: Vec<&str> = placed
                .service
                .handlers
                .iter()
                .map(|known| known.name.as_str())
                .collect();
            return Err(format!(
                "service {service:?} has no handler {handler:?}; it has {}",
                known.join(", ")
            ));
        };
        Ok(Resolved {
            uri: placed.uri.clone(),
            kind: placed.service.ty,
            mode: *ty,
            raw: *raw,
        })
    }
}

/// How many names an error lists.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::control::manifest::Manifest;

    fn deployment(uri: &str, registered_ms: i64, services: serde_json::Value) -> Deployment {
        Deployment {
            uri: uri.to_owned(),
            manifest: Manifest::read(&json!({"services": services}), "").unwrap(),
            revision: 1,
            registered_ms,
            created_at: String::new(),
            rest: Map::new(),
        }
    }

    #[test]
    fn the_latest_registration_of_a_service_counts() {
        let old = deployment(
            "http://old",
            1,
            json!([
                {"name": "A", "ty": "SERVICE", "handlers": [{"name": "x"}]},
                {"name": "B", "ty": "SERVICE", "handlers": [{"name": "x"}]},
            ]),
        );
        let new = deployment(
            "http://new",
            2,
            json!([
                {"name": "A", "ty": "VIRTUAL_OBJECT", "handlers": [{"name": "y"}]},
            ]),
        );
        for order in [[("dp_1", &old), ("dp_2", &new)], [("dp_2", &new), ("dp_1", &old)]] {
            let services = Services::of(order.into_iter());
            let a = services.resolve("A", "y").unwrap();
            assert_eq!(
                (a.uri.as_str(), a.kind, a.mode),
                ("http://new", Kind::VirtualObject, Mode::Exclusive)
            );
            assert_eq!(services.resolve("B", "x").unwrap().uri, "http://old");
            assert!(services.resolve("A", "x").unwrap_err().contains("it has y"));
            assert!(services.resolve("C", "x").unwrap_err().contains("there are A, B"));
        }
        assert!(
            Services::default()
                .resolve("C", "x")
                .unwrap_err()
                .contains("POST /deployments")
        );
    }
}

//! `/deployments` and `/services`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use sluice_settings::{Problems, Section};

use super::Api;
use super::clusters::flag;
use crate::control::discover;
use crate::control::item::{Deployment, Item, Kind};
use crate::control::manifest::Manifest;
use crate::control::services::{Placed, Services};
use crate::control::view::View;
use crate::json_api::{Answer, Error, Json, check_match, new_id, now, object, tagged};

const WHAT: &str = "deployment";

struct Wanted {
    uri: String,
    manifest: Option<Manifest>,
    force: bool,
    breaking: bool,
}

fn read(body: Value) -> Result<Wanted, Error> {
    let tree = Value::Object(object(body)?);
    let problems = Problems::default();
    let section = Section::root(&tree, &problems);
    if section.raw("uri").is_none() {
        section.problem("uri", "is required, as http://service:9080");
    }
    let uri = section.name("uri").unwrap_or_default();
    let manifest = section
        .raw("manifest")
        .map(|tree| Manifest::read(tree, "manifest"));
    let force = section.bool("force").unwrap_or_default();
    let breaking = section.bool("breaking").unwrap_or_default();
    section.finish();
    let mut problems = problems.into_vec();
    let manifest = match manifest.transpose() {
        Ok(manifest) => manifest,
        Err(more) => {
            problems.extend(more);
            None
        }
    };
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    Ok(Wanted {
        uri: uri.trim_end_matches('/').to_owned(),
        manifest,
        force,
        breaking,
    })
}

/// `POST /deployments`: registers what is at a URI; or again, which changes nothing where the same is there.
pub(super) async fn create(State(api): State<Api>, Json(body): Json) -> Answer {
    api.registry()?;
    let wanted = read(body)?;
    let place =
        discover::check(&wanted.uri, &api.control.fixed.egress).map_err(|why| Error::field("uri", why))?;
    let manifest = match wanted.manifest {
        Some(manifest) => manifest,
        None => {
            let text = discover::fetch(&wanted.uri, place, &api.control.fixed.egress).await;
            text.map_err(Error::BadDeployment)?
        }
    };
    api.catch_up().await;
    let view = api.view();
    let known = view.deployments.iter().find(|(_, (_, item))| {
        item.deployment()
            .is_some_and(|deployment| deployment.uri == wanted.uri)
    });
    let registered_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut deployment = Deployment {
        uri: wanted.uri,
        manifest,
        revision: 1,
        registered_ms: i64::try_from(registered_ms.as_millis()).unwrap_or(i64::MAX),
        created_at: now(),
        rest: Map::new(),
    };
    let (id, base, status) = match known.and_then(|(id, (base, item))| Some((id, base, item.deployment()?))) {
        None => (new_id("dp")?, 0, StatusCode::CREATED),
        Some((id, base, before)) if before.manifest == deployment.manifest && !wanted.force => {
            let told = of_api(&view, id, *base, before);
            return Ok(tagged(*base, (StatusCode::OK, axum::Json(told)).into_response()));
        }
        Some((id, ..)) if !wanted.force => {
            return Err(Error::Conflict(format!(
                "{} is registered already, as {id}, with other services or handlers: say {{\"force\": true}} to have these \
                 in their place",
                deployment.uri
            )));
        }
        Some((id, base, before)) => {
            deployment.revision = before.revision + 1;
            deployment.created_at.clone_from(&before.created_at);
            deployment.rest.clone_from(&before.rest);
            (id.clone(), *base, StatusCode::OK)
        }
    };
    if !wanted.breaking {
        let others = view.deployments.iter().filter(|(other, _)| **other != id);
        let others = others.filter_map(|(id, (_, item))| Some((id.as_str(), item.deployment()?)));
        let after = Services::of(others.chain([(id.as_str(), &deployment)]));
        unbroken(&view, &after, "say {\"breaking\": true} and they stop")?;
    }
    let version = api
        .put(Kind::Deployments, &id, base, &Item::Deployment(deployment))
        .await?;
    let (_, told) = shown(&api.view(), &id).ok_or_else(|| api.missing(Kind::Deployments, WHAT, &id))?;
    let location = [(LOCATION, format!("/deployments/{id}"))];
    Ok(tagged(
        version,
        (status, location, axum::Json(told)).into_response(),
    ))
}

/// Whether every subscription could still be delivered.
fn unbroken(view: &View, after: &Services, cure: &str) -> Result<(), Error> {
    let broken = view.broken_by(after);
    if broken.is_empty() {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "subscriptions could not be delivered any more: {}; delete them first, or {cure}",
        broken.join("; ")
    )))
}

fn shown(view: &View, id: &str) -> Option<(u64, Value)> {
    let (version, item) = view.deployments.get(id)?;
    Some((*version, of_api(view, id, *version, item.deployment()?)))
}

/// `GET /deployments`
pub(super) async fn list(State(api): State<Api>) -> Answer {
    let view = api.view();
    let all: Vec<Value> = view
        .deployments
        .keys()
        .filter_map(|id| shown(&view, id))
        .map(|(_, told)| told)
        .collect();
    Ok(axum::Json(json!({"deployments": all})).into_response())
}

/// `GET /deployments/{id}`
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    if !api.view().deployments.contains_key(&id) {
        api.catch_up().await;
    }
    let (version, told) = shown(&api.view(), &id).ok_or_else(|| api.missing(Kind::Deployments, WHAT, &id))?;
    Ok(tagged(version, axum::Json(told).into_response()))
}

/// `DELETE /deployments/{id}[?force=true]`
pub(super) async fn delete(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(arguments): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    api.registry()?;
    let force = flag(&arguments, "force")?;
    api.catch_up().await;
    let view: Arc<View> = api.view();
    let (version, _) = view
        .deployments
        .get(&id)
        .ok_or_else(|| api.missing(Kind::Deployments, WHAT, &id))?;
    check_match(&headers, *version)?;
    if !force {
        unbroken(
            &view,
            &view.services_without(Some(&id)),
            "say ?force=true and they stop",
        )?;
    }
    api.remove(Kind::Deployments, &id, *version).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({"id": id}))).into_response())
}

/// `GET /services`
pub(super) async fn services(State(api): State<Api>) -> Answer {
    let view = api.view();
    let all: Vec<Value> = view.services.iter().map(service_of).collect();
    Ok(axum::Json(json!({"services": all})).into_response())
}

/// `GET /services/{name}`
pub(super) async fn service(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    let view = api.view();
    let placed = view
        .services
        .get(&name)
        .ok_or_else(|| Error::NotFound(format!("no service is named {name:?}")))?;
    Ok(axum::Json(service_of(placed)).into_response())
}

fn service_of(placed: &Placed) -> Value {
    json!({
        "name": placed.service.name,
        "ty": placed.service.ty,
        "handlers": placed.service.handlers,
        "deployment_id": placed.deployment,
        "revision": placed.revision,
    })
}

fn of_api(view: &View, id: &str, version: u64, deployment: &Deployment) -> Value {
    let services: Vec<Value> = deployment
        .manifest
        .services
        .iter()
        .map(|service| {
            // A service that was registered elsewhere since is called there.
            let active = view
                .services
                .get(&service.name)
                .is_some_and(|placed| placed.deployment == id);
            json!({
                "name": service.name, "ty": service.ty, "handlers": service.handlers,
                "deployment_id": id, "revision": deployment.revision, "active": active,
            })
        })
        .collect();
    json!({
        "id": id,
        "uri": deployment.uri,
        "services": services,
        "revision": deployment.revision,
        "created_at": deployment.created_at,
        "version": version,
    })
}

//! Entities.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Page, after, cursor, paged, query};
use crate::actions::entities::{Deed, Place, Written};
use crate::actions::item::{Head, Packed};
use crate::actions::org::Grant;
use crate::actions::store::{Among, key};
use crate::actions::{port, rules};
use crate::json_api::{Answer, Error, Json, check_match, tagged};
use crate::registry::Row;

/// What a change of an entity is a part of, and what becomes of one that is there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    run_id: Option<String>,
    upsert: Option<bool>,
    merge: Option<bool>,
}

impl How {
    fn run(&self) -> Option<&str> {
        self.run_id.as_deref()
    }

    /// Only creating has these.
    fn refuse_upsert(&self) -> Result<(), Error> {
        if self.upsert.is_some() || self.merge.is_some() {
            return Err(Error::Unreadable("upsert and merge are for POST".to_owned()));
        }
        Ok(())
    }
}

/// `POST /v1/blueprints/{blueprint}/entities`.
pub(super) async fn create(
    State(api): State<Api>,
    Path(blueprint): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let how = query(how)?;
    let caller = api.caller_up_to_date(&headers).await?;
    let (id, written) = Written::read(body)?;
    let id = id.ok_or_else(|| Error::field("identifier", "is required"))?;
    let deed = match (how.upsert.unwrap_or_default(), how.merge.unwrap_or_default()) {
        (true, true) => Deed::Merge(written),
        (true, false) => Deed::Replace(written),
        (false, true) => {
            return Err(Error::Unreadable(
                "merge means nothing without upsert=true".to_owned(),
            ));
        }
        (false, false) => Deed::Create(written),
    };
    let place = Place {
        blueprint: &blueprint,
        id: &id,
        run: how.run(),
    };
    let (held, made) = api.actions.put_entity(&caller, &place, deed, |_| Ok(())).await?;
    let body = axum::Json(json!({"ok": true, "entity": port::entity(&blueprint, &id, &held.value)}));
    let location = format!("/v1/blueprints/{blueprint}/entities/{id}");
    let response = match made {
        true => (StatusCode::CREATED, [(LOCATION, location)], body).into_response(),
        false => body.into_response(),
    };
    Ok(tagged(held.value.tag(), response))
}

/// What the calls of one entity have in common.
async fn one(
    api: &Api,
    headers: &HeaderMap,
    (blueprint, id): (&str, &str),
    how: How,
    deed: impl FnOnce() -> Result<Deed, Error>,
) -> Answer {
    how.refuse_upsert()?;
    let caller = api.caller_up_to_date(headers).await?;
    let place = Place {
        blueprint,
        id,
        run: how.run(),
    };
    let matches = |version: u64| check_match(headers, version);
    let (held, made) = api.actions.put_entity(&caller, &place, deed()?, matches).await?;
    if held.value.deleted {
        return Ok(axum::Json(json!({"ok": true})).into_response());
    }
    let body = axum::Json(json!({"ok": true, "entity": port::entity(blueprint, id, &held.value)}));
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok(tagged(held.value.tag(), (status, body).into_response()))
}

/// `PUT` and `PATCH /v1/blueprints/{blueprint}/entities/{identifier}`: `deed` says what is done with the body, which may name the
/// entity too.
pub(super) async fn write(
    deed: fn(Written) -> Deed,
    State(api): State<Api>,
    Path((blueprint, id)): Path<(String, String)>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let deed = || match Written::read(body)? {
        (Some(named), _) if named != id => Err(Error::field(
            "identifier",
            format!("must be {id:?}, as in the path"),
        )),
        (_, written) => Ok(deed(written)),
    };
    one(&api, &headers, (&blueprint, &id), query(how)?, deed).await
}

/// `DELETE /v1/blueprints/{blueprint}/entities/{identifier}`.
pub(super) async fn delete(
    State(api): State<Api>,
    Path((blueprint, id)): Path<(String, String)>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    one(&api, &headers, (&blueprint, &id), query(how)?, || {
        Ok(Deed::Delete)
    })
    .await
}

/// `GET /v1/blueprints/{blueprint}/entities/{identifier}`.
pub(super) async fn show(
    State(api): State<Api>,
    Path((blueprint, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    let place = Place {
        blueprint: &blueprint,
        id: &id,
        run: None,
    };
    let held = api.actions.entity_for(&caller, &place, Grant::See)?;
    let body = json!({"ok": true, "entity": port::entity(&blueprint, &id, &held.value)});
    Ok(tagged(held.value.tag(), axum::Json(body).into_response()))
}

/// `GET /v1/blueprints/{blueprint}/entities`.
pub(super) async fn list(
    State(api): State<Api>,
    Path(blueprint): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let page = query(page)?;
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::See)?;
    rules::identifier(&blueprint).map_err(|why| Error::field("blueprint", why))?;
    let limit = page.limit()?;
    let prefix = key::entities(&caller.org.id, &blueprint);
    let from = after(&prefix, page.cursor.as_deref())?;
    let keep = |_: &str, row: &Packed| matches!(row.head(), Head::Entity { deleted: false, .. });
    let store = &api.actions.store;
    let (rows, next) = store.page(Among::All, &prefix, from, false, limit, keep).await;
    let shown = |row: &Row<Packed>| {
        let id = row.key.strip_prefix(&prefix)?;
        Some(port::entity(&blueprint, id, &row.value.entity()?))
    };
    let entities: Vec<Value> = rows.iter().filter_map(shown).collect();
    Ok(paged("entities", entities, cursor(&prefix, next), limit))
}

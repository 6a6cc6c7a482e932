//! The organisation itself. port-agent says at its start how it gets runs (`patch_org_streamer_setting` in its
//! `app/port_client.py`, at 4732c34).

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::Api;
use crate::actions::item::{Item, Settings, Streamer};
use crate::actions::org::{Grant, Org};
use crate::actions::store::{Held, key};
use crate::json_api::{Answer, Error, Json, nothing_else};

/// The setting that there is.
const STREAMER: &str = "portAgentStreamerName";
/// How often it is written again where another agent was first.
const TRIES: usize = 10;

/// What is set of an organisation, and which version of it.
fn held(api: &Api, org: &Org) -> Held<Settings> {
    let held = api.actions.store.settings(&org.id);
    held.unwrap_or(Held {
        version: 0,
        value: Settings::default(),
    })
}

fn shown(org: &Org, settings: &Settings) -> axum::response::Response {
    let body = json!({
        "ok": true,
        "organization": {
            "id": org.id,
            "name": org.id,
            "settings": {STREAMER: settings.port_agent_streamer_name},
        },
    });
    axum::Json(body).into_response()
}

/// `GET /v1/organization`.
pub(super) async fn show(State(api): State<Api>, headers: HeaderMap) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::See)?;
    Ok(shown(&caller.org, &held(&api, &caller.org).value))
}

/// `PATCH /v1/organization`. What is set already is not written again: each agent says it whenever it starts.
pub(super) async fn change(State(api): State<Api>, headers: HeaderMap, Json(body): Json) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::Report)?;
    let org = &caller.org;
    let wanted = read(body)?;
    for tried in 1.. {
        let Held { version, value } = held(&api, org);
        let mut settings = value.clone();
        if let Some(streamer) = wanted {
            settings.port_agent_streamer_name = streamer;
        }
        if settings == value {
            return Ok(shown(org, &settings));
        }
        let item = Item::Settings(settings.clone());
        match api
            .actions
            .store
            .put(&key::settings(&org.id), version, &item)
            .await
        {
            Ok(_) => return Ok(shown(org, &settings)),
            Err(Error::Conflict(_)) if tried < TRIES => api.actions.store.catch_up().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(shown(org, &held(&api, org).value))
}

/// What a body sets: none, that no agent has said anything, or one of the two.
fn read(body: Value) -> Result<Option<Option<Streamer>>, Error> {
    let mut fields = crate::json_api::object(body)?;
    let settings = fields.remove("settings");
    nothing_else(&fields, &["settings"])?;
    let mut settings = match settings {
        None => Map::new(),
        Some(Value::Object(settings)) => settings,
        Some(_) => return Err(Error::field("settings", "must be a mapping")),
    };
    let streamer = match settings.remove(STREAMER) {
        None => None,
        Some(Value::Null) => Some(None),
        Some(name) => Some(Some(match name.as_str() {
            Some("KAFKA") => Streamer::Kafka,
            Some("POLLING") => Streamer::Polling,
            _ => {
                return Err(Error::field(
                    &format!("settings.{STREAMER}"),
                    "must be KAFKA, POLLING or null",
                ));
            }
        })),
    };
    if let Some(unknown) = settings.keys().next() {
        return Err(Error::field(
            &format!("settings.{unknown}"),
            format!("is not known here; known is {STREAMER}"),
        ));
    }
    Ok(streamer)
}

//! What expressions are evaluated on: parts of the request, as values.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::{Map, Value as Json};
use sluice_proto::v1;

use super::definition::Encrypt;
use super::seal::seal;

/// The most names that lead to a value of `.trigger.by`.
const MAX_PARTS: usize = 8;

/// `.request`.
pub(super) fn request(template: &v1::Template) -> Json {
    let query = form_urlencoded::parse(&template.query).map(|(name, value)| (name.into_owned(), value));
    let headers = template.headers.iter().map(|header| {
        let value = header.value.as_deref().unwrap_or_default();
        (header.name.clone(), String::from_utf8_lossy(value))
    });
    let mut object = Map::new();
    object.insert("method".to_owned(), text(&template.method));
    object.insert("path".to_owned(), text(&template.path));
    object.insert("query".to_owned(), grouped(query));
    object.insert("headers".to_owned(), grouped(headers));
    object.into()
}

fn text(bytes: &[u8]) -> Json {
    String::from_utf8_lossy(bytes).into()
}

/// By name: text, or a list of them where a name came more than once.
fn grouped<'a>(pairs: impl Iterator<Item = (String, Cow<'a, str>)>) -> Json {
    let mut object = Map::new();
    for (name, value) in pairs {
        let value = Json::from(value);
        match object.get_mut(&name) {
            None => drop(object.insert(name, value)),
            Some(Json::Array(all)) => all.push(value),
            Some(first) => *first = Json::Array(vec![first.take(), value]),
        }
    }
    object.into()
}

/// `.trigger.origin` where nothing says.
const ORIGIN: &str = "API";

/// `.trigger`.
///
/// # Errors
/// A name that leads nowhere.
pub(super) fn trigger(
    (origin, operation): (Option<&str>, Option<&str>),
    template: &v1::Template,
    at: SystemTime,
) -> Result<Json, String> {
    let mut by = Map::new();
    for header in &template.by {
        let name = &header.name;
        let parts: Vec<&str> = name.split('.').collect();
        let wrong = || format!("trigger.by: {name:?} is no name, or leads through another one's value");
        let (last, way) = parts.split_last().ok_or_else(wrong)?;
        if parts.len() > MAX_PARTS || parts.iter().any(|part| part.is_empty()) {
            return Err(wrong());
        }
        let mut into = &mut by;
        for part in way {
            let inner = into
                .entry(*part)
                .or_insert_with(|| Map::new().into())
                .as_object_mut();
            into = inner.ok_or_else(wrong)?;
        }
        let value = text(header.value.as_deref().unwrap_or_default());
        if into.insert((*last).to_owned(), value).is_some() {
            return Err(wrong());
        }
    }
    let mut object = Map::new();
    object.insert("by".to_owned(), by.into());
    object.insert("origin".to_owned(), origin.unwrap_or(ORIGIN).into());
    let at = humantime::format_rfc3339_millis(at).to_string();
    object.insert("at".to_owned(), at.into());
    object.insert("operation".to_owned(), operation.into());
    Ok(object.into())
}

/// The body with the inputs that are to be encrypted so. An input that is not there, or null, stays away.
///
/// # Errors
/// The body is no JSON, or the secret no key; without either's bytes.
pub(super) fn encrypted(body: &[u8], encrypt: &Encrypt, secret: &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut body: Json = serde_json::from_slice(body).map_err(|why| Wrong::Body(why.to_string()))?;
    for pointer in &encrypt.inputs {
        let Some(input) = body.pointer_mut(pointer).filter(|input| !input.is_null()) else {
            continue;
        };
        let plain = match &*input {
            Json::String(text) => text.clone(),
            json => json.to_string(),
        };
        *input = seal(secret, plain.as_bytes()).map_err(Wrong::Secret)?.into();
    }
    Ok(body.to_string().into_bytes())
}

/// Why inputs cannot be encrypted.
#[derive(Debug)]
pub(super) enum Wrong {
    Body(String),
    Secret(String),
}

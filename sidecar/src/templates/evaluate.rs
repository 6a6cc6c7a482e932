//! What a definition's expressions give of a request.

use bytes::Bytes;
use serde_json::Value as Json;
use sluice_proto::v1;

use super::definition::Definition;
use crate::jq::template::under;
use crate::jq::{self, Scope, Template, Value};

/// The longest key, in bytes; as long as the filter's others.
const MAX_KEY: usize = 64 * 1024;

/// What the expressions gave.
pub(super) struct Made {
    /// Where one chooses the topic: what it gave, if that is something.
    pub(super) topic: Option<String>,
    pub(super) value: Option<Bytes>,
    pub(super) key: Option<Bytes>,
    pub(super) partition: Option<i32>,
    pub(super) headers: Vec<v1::Header>,
}

/// Evaluates them. `.secrets` has `secrets`, and is not there without any.
///
/// # Errors
/// What an expression says is wrong, and in which field; which bound was reached.
pub(super) fn made(
    scope: &Scope,
    definition: &Definition,
    (inputs, request, trigger): (Option<&[u8]>, &Json, &Json),
    secrets: &[(String, String)],
) -> Result<Made, jq::Failure> {
    let fail = |why: String| jq::Failure::Error(why);
    let read = |json: &[u8]| Value::from_json(json);
    // By itself: JSON that is none could close the object around it.
    let inputs =
        inputs.map(|json| read(json).map_err(|why| fail(format!("/inputs: the body is not JSON: {why}"))));
    let of = |json: &Json| read(json.to_string().as_bytes()).map_err(|why| fail(why.to_string()));
    let mut members = vec![
        ("inputs", inputs.transpose()?.unwrap_or(Value::Null)),
        ("request", of(request)?),
        ("trigger", of(trigger)?),
    ];
    if !secrets.is_empty() {
        let values = secrets.iter().map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Value::from(value.as_str()),
            )
        });
        members.push(("secrets", Value::object(values)));
    }
    let input = Value::object(members.into_iter().map(|(name, value)| (name.as_bytes(), value)));
    let text = |template: &Template| template.text_or_none(scope, &input, &[]);
    let within = |name: &'static str| move |why| under(name, why);

    let topic = definition.topic.as_ref().map(|topic| text(&topic.template));
    let topic = topic.transpose().map_err(within("topic"))?.flatten();
    let value = definition
        .payload
        .as_ref()
        .map(|payload| payload.json(scope, &input, &[]));
    let value = value.transpose().map_err(within("payload"))?;
    let key = definition
        .key
        .as_ref()
        .map(text)
        .transpose()
        .map_err(within("key"))?
        .flatten();
    if let Some(key) = key.as_ref().filter(|key| key.len() > MAX_KEY) {
        return Err(fail(format!(
            "/key: gives {} bytes; a key has at most {MAX_KEY}",
            key.len()
        )));
    }
    let partition = definition.partition.as_ref().map(text).transpose();
    let partition = partition.map_err(within("partition"))?.flatten();
    let partition = partition.map(|said| {
        partition_of(&said).ok_or_else(|| {
            fail(format!(
                "/partition: gives no whole number from 0 to {}",
                i32::MAX
            ))
        })
    });
    let mut headers = Vec::new();
    for (name, template) in &definition.headers {
        let value = text(template).map_err(|why| under("headers", under(name, why)))?;
        headers.extend(value.map(|value| v1::Header {
            name: name.clone(),
            value: Some(value.into_bytes()),
        }));
    }
    Ok(Made {
        topic,
        value: value.map(Bytes::from),
        key: key.map(Bytes::from),
        partition: partition.transpose()?,
        headers,
    })
}

fn partition_of(said: &str) -> Option<i32> {
    // `parse` takes a sign too.
    let digits = said.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| said.parse().ok()).flatten()
}

//! `{{ jq }}` in URLs, headers and bodies.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderName;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use super::target;
use crate::jq::template::{Piece, pieces};
use crate::jq::{self, Failure, Limits, Program, Scope, Template, Value};
use crate::kafka::reader::Record;
use crate::subscriptions::event::Event;

/// What stands for an expression while the URL around it is checked.
const SAMPLE: &str = "x";

/// A URL with expressions in its path or its query. What they give is percent-encoded, so that it stays where it is put.
#[derive(Debug, Clone)]
pub(super) struct UrlTemplate {
    pieces: Vec<UrlPiece>,
    sample: String,
}

#[derive(Debug, Clone)]
enum UrlPiece {
    Text(String),
    Expression(Arc<Program>),
}

impl UrlTemplate {
    /// Reads one.
    ///
    /// # Errors
    /// An expression is none, or it is where scheme, host and port are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut made = Self {
            pieces: Vec::new(),
            sample: String::new(),
        };
        for piece in pieces(text)? {
            match piece {
                Piece::Text(text) => {
                    made.sample.push_str(&text);
                    made.pieces.push(UrlPiece::Text(text.into_owned()));
                }
                Piece::Expression(text) => {
                    let path = made.sample.split_once("://").map(|(_, rest)| rest.contains('/'));
                    if path != Some(true) {
                        return Err("has an expression in its scheme, host or port, which must be the same for every record: a path begins with /".to_owned());
                    }
                    made.sample.push_str(SAMPLE);
                    let program = Program::compile(text, &[]).map_err(|why| format!("{text:?} {why}"))?;
                    made.pieces.push(UrlPiece::Expression(program));
                }
            }
        }
        Ok(made)
    }

    /// A URL as the template makes them.
    pub(super) fn sample(&self) -> &str {
        &self.sample
    }

    /// The path for a person, up to the first expression.
    pub(super) fn shown(&self, path: &str) -> String {
        let first = match self.pieces.first() {
            Some(UrlPiece::Text(text)) => text.as_str(),
            _ => "",
        };
        let fixed = first.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        let fixed = fixed.map(|(_, path)| path.split('?').next().unwrap_or_default());
        match fixed {
            Some(fixed) if path.len() > fixed.len() + 1 => format!("/{fixed}…"),
            _ => path.to_owned(),
        }
    }

    fn render(&self, scope: &Scope, input: &Value) -> Result<String, Failure> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                UrlPiece::Text(text) => out.push_str(text),
                UrlPiece::Expression(program) => {
                    let value = scope.output(program, input.clone(), &[])?;
                    let mut text = Vec::new();
                    scope.write_text(&value.unwrap_or(Value::Null), &mut text);
                    if text.is_empty() && !out.contains('?') {
                        return Err(Failure::Error(format!(
                            "{} gives nothing, and a path needs something there",
                            program.text()
                        )));
                    }
                    out.push_str(&target::part(&String::from_utf8_lossy(&text)));
                }
            }
        }
        let path = out.split('?').next().unwrap_or_default();
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(Failure::Error(
                "an expression makes a `.` or `..` of a part of the path, which leads elsewhere".to_owned(),
            ));
        }
        Ok(out)
    }
}

/// All expressions of a sink.
#[derive(Debug, Clone, Default)]
pub(super) struct Templates {
    pub(super) url: Option<UrlTemplate>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) body: Option<Template>,
    /// Whether the body is text, and not JSON.
    pub(super) text: bool,
}

/// What the expressions made of an event.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    pub(super) url: Option<String>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Templates {
    /// Whether there is nothing to evaluate.
    pub(super) fn is_empty(&self) -> bool {
        self.url.is_none() && self.headers.is_empty() && self.body.is_none()
    }

    /// Evaluates all of them for each event, in a thread of the engine, within its bounds.
    ///
    /// # Errors
    /// What an expression says is wrong, or which bound it reached.
    pub(super) async fn render(self: &Arc<Self>, events: &[Event]) -> Result<Vec<Rendered>, Failure> {
        if self.is_empty() {
            return Ok(events.iter().map(|_| Rendered::default()).collect());
        }
        let (templates, events) = (Arc::clone(self), events.to_vec());
        let all = jq::run(move |turn| {
            let one = |event: &Event| turn.within(Limits::default(), |scope| templates.one(scope, event));
            events.iter().map(one).collect()
        });
        all.await?
    }

    fn one(&self, scope: &Scope, event: &Event) -> Result<Rendered, Failure> {
        let input = Value::from_json(&input(event)).map_err(|error| Failure::Error(error.to_string()))?;
        let url = self.url.as_ref().map(|url| url.render(scope, &input));
        let headers = self.headers.iter().map(|(name, template)| {
            let text = template.text(scope, &input, &[])?;
            Ok((name.clone(), text))
        });
        let body = self.body.as_ref().map(|body| {
            if self.text {
                body.text(scope, &input, &[]).map(String::into_bytes)
            } else {
                body.json(scope, &input, &[])
            }
        });
        Ok(Rendered {
            headers: headers.collect::<Result<_, Failure>>()?,
            url: url.transpose()?,
            body: body.transpose()?,
        })
    }
}

/// What expressions are evaluated on: `.record`, and `.id` and `.subscription` beside it.
fn input(event: &Event) -> Vec<u8> {
    let record = &event.record;
    let mut headers = Map::new();
    for (name, value) in &record.headers {
        headers.insert(String::from_utf8_lossy(name).into_owned(), text(value.as_deref()));
    }
    let mut object = Map::new();
    object.insert("topic".to_owned(), Json::from(&*record.topic));
    object.insert("partition".to_owned(), record.partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    object.insert("key".to_owned(), text(record.key.as_deref()));
    object.insert("headers".to_owned(), Json::Object(headers));
    let mut out = Json::Object(object).to_string();
    out.pop();
    out.push_str(",\"value\":");
    match json(record) {
        Some(json) => out.push_str(json),
        None => out.push_str(&text(record.value.as_deref()).to_string()),
    }
    let (id, subscription) = (Json::from(event.id()), Json::from(&*event.subscription));
    format!("{{\"record\":{out}}},\"id\":{id},\"subscription\":{subscription}}}").into_bytes()
}

/// The value as it is written, if it is JSON.
fn json(record: &Record) -> Option<&str> {
    let value = record.value.as_deref()?;
    serde_json::from_slice::<&RawValue>(value).ok().map(RawValue::get)
}

/// Bytes as text, in base64 where they are none.
fn text(bytes: Option<&[u8]>) -> Json {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Json::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => STANDARD.encode(bytes).into(),
    }
}

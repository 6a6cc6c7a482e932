//! Templates: JSON whose strings hold jq programs, as `{"text": "{{ .record.key }} was written", "at": "{{ .record.timestamp }}"}`.
//!
//! A string that is one expression becomes what that gives, of whatever type; in other text what an expression gives is put in,
//! text as it is and anything else as JSON. What gives nothing is null. `\{{` is `{{` itself. Names of members are no templates, but for
//! `{{ spreadValue() }}`: the members of what that gives are put in its place, those of their names that are written aside.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;

use super::engine::{Failure, Scope};
use super::program::Program;
use super::value::Value;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const ESCAPED: &str = "\\{{";
/// The name of a member whose value's members are put in its place.
const SPREAD: &str = "spreadValue()";
/// The most expressions that a template has.
const MAX_EXPRESSIONS: usize = 256;
/// How deep a template may be nested.
const MAX_DEPTH: usize = 64;

/// A template, compiled once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Node);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// JSON that is what it is.
    Constant(Vec<u8>),
    Expression(Arc<Program>),
    Text(Vec<Part>),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
    /// What is spread, where it stands, and what is written beside it.
    Spread {
        before: Vec<(String, Node)>,
        spread: Box<Node>,
        after: Vec<(String, Node)>,
    },
}

/// Members of an object, in their order.
type Members = [(String, Node)];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Expression(Arc<Program>),
}

/// A piece of a string: text as it is, or an expression's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text, without what escapes it.
    Text(std::borrow::Cow<'a, str>),
    /// An expression, without its braces and the spaces at its ends.
    Expression(&'a str),
}

impl Template {
    /// Reads a template: any JSON. Its expressions may use `variables`, each with its dollar.
    ///
    /// # Errors
    /// What is wrong, and where: a JSON pointer (RFC 6901), and line and column of an expression.
    pub fn parse(template: &Json, variables: &[&str]) -> Result<Self, String> {
        let mut reading = Reading {
            variables,
            expressions: 0,
        };
        let node = reading.node(template, &mut Vec::new());
        node.map(Self)
    }

    /// Reads text with expressions in it, as that of a URL. Its result is text, [`Self::text`].
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse_text(text: &str, variables: &[&str]) -> Result<Self, String> {
        Self::parse(&Json::from(text), variables)
    }

    /// Whether it has no expressions: its result is always the same.
    pub fn is_constant(&self) -> bool {
        self.0.is_constant()
    }

    /// The result as JSON on one line, of `input` and the values of the variables in their order. What an expression says is wrong
    /// fails it, and is told with the expression.
    ///
    /// # Errors
    /// What an expression says is wrong.
    pub fn json(&self, scope: &Scope, input: &Value, variables: &[Value]) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        self.0.write(scope, input, variables, &mut out)?;
        Ok(out)
    }

    /// As [`Self::text`]; `None` where the template is one expression, and that gives null or nothing.
    ///
    /// # Errors
    /// What an expression says is wrong.
    pub fn text_or_none(
        &self,
        scope: &Scope,
        input: &Value,
        variables: &[Value],
    ) -> Result<Option<String>, Failure> {
        let Node::Expression(program) = &self.0 else {
            return self.text(scope, input, variables).map(Some);
        };
        let value = evaluate(scope, program, input, variables)?;
        if matches!(value, Value::Null) {
            return Ok(None);
        }
        let mut out = Vec::new();
        scope.write_text(&value, &mut out);
        Ok(Some(String::from_utf8_lossy(&out).into_owned()))
    }

    /// The result as text: a string as it is, anything else as JSON.
    ///
    /// # Errors
    /// What an expression says is wrong.
    pub fn text(&self, scope: &Scope, input: &Value, variables: &[Value]) -> Result<String, Failure> {
        let mut out = Vec::new();
        match &self.0 {
            Node::Expression(program) => {
                let value = evaluate(scope, program, input, variables)?;
                scope.write_text(&value, &mut out);
            }
            Node::Text(parts) => out = text(parts, scope, input, variables)?,
            Node::Constant(json) => match serde_json::from_slice(json) {
                Ok(Json::String(text)) => return Ok(text),
                _ => out.extend_from_slice(json),
            },
            node => node.write(scope, input, variables, &mut out)?,
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

fn evaluate(scope: &Scope, program: &Program, input: &Value, variables: &[Value]) -> Result<Value, Failure> {
    match scope.output(program, input.clone(), variables) {
        Ok(value) => Ok(value.unwrap_or(Value::Null)),
        Err(Failure::Error(why)) => {
            let text = program.text();
            let shown: String = text.chars().take(100).collect();
            let cut = if shown.len() < text.len() { "…" } else { "" };
            Err(Failure::Error(format!("{OPEN} {shown}{cut} {CLOSE} {why}")))
        }
        Err(failure) => Err(failure),
    }
}

fn text(parts: &[Part], scope: &Scope, input: &Value, variables: &[Value]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Expression(program) => {
                let value = evaluate(scope, program, input, variables)?;
                scope.write_text(&value, &mut out);
            }
        }
    }
    Ok(out)
}

impl Node {
    fn is_constant(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Expression(_) | Self::Text(_) => false,
            Self::Array(nodes) => nodes.iter().all(Self::is_constant),
            Self::Object(members) => members.iter().all(|(_, node)| node.is_constant()),
            Self::Spread {
                before,
                spread,
                after,
            } => {
                let mut members = before.iter().chain(after);
                spread.is_constant() && members.all(|(_, node)| node.is_constant())
            }
        }
    }

    /// What it becomes, as a value.
    fn value(&self, scope: &Scope, input: &Value, variables: &[Value]) -> Result<Value, Failure> {
        if let Self::Expression(program) = self {
            return evaluate(scope, program, input, variables);
        }
        let mut json = Vec::new();
        self.write(scope, input, variables, &mut json)?;
        Value::from_json(&json).map_err(|why| Failure::Error(why.to_string()))
    }

    /// An object of what is spread and what is written.
    fn spread(
        scope: &Scope,
        input: &Value,
        variables: &[Value],
        (before, spread, after): (&Members, &Self, &Members),
    ) -> Result<Value, Failure> {
        let name = format!("{OPEN} {SPREAD} {CLOSE}");
        let within = |why| under(&name, why);
        let spread = spread.value(scope, input, variables).map_err(within)?;
        let spread = match spread.members() {
            Some(members) => members,
            None if matches!(spread, Value::Null) => Vec::new(),
            None => {
                let what = "gives no object, and only the members of one can be put in its place".to_owned();
                return Err(within(Failure::Error(what)));
            }
        };
        let written = |members: &Members| {
            let one = |(name, node): &(String, Self)| {
                let value = node
                    .value(scope, input, variables)
                    .map_err(|why| under(name, why))?;
                Ok((Bytes::copy_from_slice(name.as_bytes()), value))
            };
            members.iter().map(one).collect::<Result<Vec<_>, Failure>>()
        };
        let (before, after) = (written(before)?, written(after)?);
        // The place of a name is where it stands first, its value what is given last: what is written.
        let again = before.clone();
        Ok(Value::object(
            before.into_iter().chain(spread).chain(again).chain(after),
        ))
    }

    fn write(
        &self,
        scope: &Scope,
        input: &Value,
        variables: &[Value],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match self {
            Self::Constant(json) => out.extend_from_slice(json),
            Self::Expression(program) => {
                let value = evaluate(scope, program, input, variables)?;
                scope.write(&value, out);
            }
            Self::Text(parts) => {
                let text = text(parts, scope, input, variables)?;
                scope.write(&Value::text(text), out);
            }
            Self::Array(nodes) => {
                out.push(b'[');
                for (at, node) in nodes.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    let written = node.write(scope, input, variables, out);
                    written.map_err(|why| under(&at.to_string(), why))?;
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (at, (name, node)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    scope.write(&Value::from(name.as_str()), out);
                    out.push(b':');
                    let written = node.write(scope, input, variables, out);
                    written.map_err(|why| under(name, why))?;
                }
                out.push(b'}');
            }
            Self::Spread {
                before,
                spread,
                after,
            } => {
                let object = Self::spread(scope, input, variables, (before, spread, after))?;
                scope.write(&object, out);
            }
        }
        Ok(())
    }
}

struct Reading<'a> {
    variables: &'a [&'a str],
    expressions: usize,
}

impl Reading<'_> {
    fn node(&mut self, template: &Json, path: &mut Vec<String>) -> Result<Node, String> {
        if path.len() > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep"));
        }
        let constant = |json: &Json| Node::Constant(json.to_string().into_bytes());
        match template {
            Json::String(text) => self.string(text, path),
            Json::Array(items) => {
                let mut nodes = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    path.push(at.to_string());
                    nodes.push(self.node(item, path)?);
                    path.pop();
                }
                Ok(Node::Array(nodes))
            }
            Json::Object(members) => {
                let (mut nodes, mut spread) = (Vec::new(), None);
                for (name, value) in members {
                    path.push(escaped(name));
                    let node = self.node(value, path)?;
                    if is_spread(name) {
                        if spread.is_some() {
                            return Err(told(path, "is there twice: put both into one, as {{ .a + .b }}"));
                        }
                        spread = Some((std::mem::take(&mut nodes), Box::new(node)));
                    } else if name.contains(OPEN) {
                        return Err(told(
                            path,
                            "is the name of a member, which is no template, but for {{ spreadValue() }}",
                        ));
                    } else {
                        nodes.push((name.clone(), node));
                    }
                    path.pop();
                }
                Ok(match spread {
                    None => Node::Object(nodes),
                    Some((before, spread)) => Node::Spread {
                        before,
                        spread,
                        after: nodes,
                    },
                })
            }
            json => Ok(constant(json)),
        }
    }

    fn string(&mut self, string: &str, path: &[String]) -> Result<Node, String> {
        let pieces = pieces(string).map_err(|why| told(path, &why))?;
        let mut parts = Vec::new();
        for piece in pieces {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.into_owned()),
                Piece::Expression(text) => {
                    self.expressions += 1;
                    if self.expressions > MAX_EXPRESSIONS {
                        return Err(told(
                            path,
                            &format!(
                                "is one expression more than the {MAX_EXPRESSIONS} that a template may have"
                            ),
                        ));
                    }
                    let program = Program::compile(text, self.variables);
                    Part::Expression(program.map_err(|why| told(path, &format!("{text:?} {why}")))?)
                }
            });
        }
        Ok(match &parts[..] {
            [] => Node::Constant(b"\"\"".to_vec()),
            [Part::Text(text)] => Node::Constant(Json::from(text.as_str()).to_string().into_bytes()),
            [Part::Expression(program)] => Node::Expression(Arc::clone(program)),
            _ => Node::Text(parts),
        })
    }
}

/// A name as a part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Whether a member's name says that its value is to be spread.
fn is_spread(name: &str) -> bool {
    let inner = name
        .trim()
        .strip_prefix(OPEN)
        .and_then(|rest| rest.strip_suffix(CLOSE));
    inner.is_some_and(|inner| inner.trim() == SPREAD)
}

/// What failed in the member or item `name`. What an expression says begins with its braces, and where it is with a slash.
pub(crate) fn under(name: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Error(why) if why.starts_with('/') => Failure::Error(format!("/{}{why}", escaped(name))),
        Failure::Error(why) => Failure::Error(format!("/{}: {why}", escaped(name))),
        failure => failure,
    }
}

fn told(path: &[String], what: &str) -> String {
    if path.is_empty() {
        return what.to_owned();
    }
    format!("/{}: {what}", path.join("/"))
}

/// Takes a string apart.
///
/// # Errors
/// An expression does not end.
pub fn pieces(string: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut rest = string;
    while !rest.is_empty() {
        let Some(open) = rest.find(OPEN) else {
            add_text(&mut pieces, rest);
            break;
        };
        let (before, from) = rest.split_at(open);
        let from = from.strip_prefix(OPEN).unwrap_or_default();
        if before.ends_with('\\') {
            add_text(&mut pieces, before.strip_suffix('\\').unwrap_or_default());
            add_text(&mut pieces, OPEN);
            rest = from;
            continue;
        }
        add_text(&mut pieces, before);
        let Some(end) = end_of(from) else {
            let at = string.len() - from.len() - OPEN.len();
            return Err(format!(
                "the expression that begins at its byte {at} has no {CLOSE} (text that is to have {OPEN} itself is written with {ESCAPED})"
            ));
        };
        let (expression, after) = from.split_at(end);
        pieces.push(Piece::Expression(expression.trim()));
        rest = after.strip_prefix(CLOSE).unwrap_or_default();
    }
    Ok(pieces)
}

fn add_text<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.to_mut().push_str(text),
        _ => pieces.push(Piece::Text(text.into())),
    }
}

/// Where an expression ends: at the first `}}` that is neither in an object, a string nor a comment of it.
fn end_of(text: &str) -> Option<usize> {
    /// What something is within.
    enum In {
        Braces,
        Parentheses,
        Text,
    }
    let bytes = text.as_bytes();
    let mut within: Vec<In> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        match (within.last(), byte) {
            (Some(In::Text), b'\\') => {
                if next == Some(&b'(') {
                    within.push(In::Parentheses);
                }
                at += 1;
            }
            (Some(In::Text), b'"') => {
                within.pop();
            }
            (Some(In::Text), _) => {}
            (_, b'"') => within.push(In::Text),
            (_, b'#') => {
                while bytes.get(at + 1).is_some_and(|byte| *byte != b'\n') {
                    at += 1;
                }
            }
            (_, b'{') => within.push(In::Braces),
            (_, b'(') => within.push(In::Parentheses),
            (None, b'}') if next == Some(&b'}') => return Some(at),
            (Some(In::Braces), b'}') | (Some(In::Parentheses), b')') => {
                within.pop();
            }
            _ => {}
        }
        at += 1;
    }
    None
}

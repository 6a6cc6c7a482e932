//! Which records a reader gets, and what of their values.
//!
//! A filter is a configuration entry's (`filter`, which no caller can widen) or a request's; a record goes through the first,
//! and what is left through the second. Positions go on past records that are left out.

pub mod place;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use self::place::Where;
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::item;
use crate::jq::{self, Limits, Program, Scope, Turn, Value};
use crate::kafka::reader::Record;

/// The names that a program may use beside its input, which is the value.
pub const VARIABLES: [&str; 6] = [
    "$topic",
    "$partition",
    "$offset",
    "$timestamp",
    "$key",
    "$headers",
];
/// The most of each kind that a filter has.
const MOST: usize = 32;
/// The most programs: each may take its steps.
const MOST_PROGRAMS: usize = 4;
/// How long records are filtered before somebody else's are.
const SLICE: Duration = Duration::from_millis(50);

/// What a record must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    keys: Vec<String>,
    headers: Vec<(String, String)>,
    places: Vec<Where>,
    programs: Vec<Arc<Program>>,
}

impl Filter {
    /// Reads a filter: each of `key`, `header` (`name:value`), `where` and `jq` as often as it is there. Compiling programs takes
    /// some milliseconds: from a task call it by `spawn_blocking`.
    ///
    /// # Errors
    /// Which of the four is wrong, and how.
    pub fn parse(
        keys: &[String],
        headers: &[String],
        places: &[String],
        programs: &[String],
    ) -> Result<Self, (&'static str, String)> {
        for (name, given, most) in [
            ("key", keys.len(), MOST),
            ("header", headers.len(), MOST),
            ("where", places.len(), MOST),
            ("jq", programs.len(), MOST_PROGRAMS),
        ] {
            if given > most {
                return Err((name, format!("is there {given} times, and may be {most} times")));
            }
        }
        let header = |text: &String| {
            let (name, value) = text
                .split_once(':')
                .ok_or_else(|| ("header", format!("{text:?} is not name:value")))?;
            Ok((name.trim_end().to_owned(), value.trim_start().to_owned()))
        };
        Ok(Self {
            keys: keys.to_vec(),
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
            places: places
                .iter()
                .map(|text| Where::parse(text).map_err(|why| ("where", format!("{text:?} {why}"))))
                .collect::<Result<_, _>>()?,
            programs: programs
                .iter()
                .map(|text| Program::compile(text, &VARIABLES).map_err(|why| ("jq", why)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The records with that key.
    pub fn of_key(key: String) -> Self {
        Self {
            keys: vec![key],
            ..Self::default()
        }
    }

    /// Whether every record passes, as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it was read from, each with the name of its kind.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, String)> {
        let keys = self.keys.iter().map(|key| ("key", key.clone()));
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| ("header", format!("{name}:{value}")));
        let places = self.places.iter().map(|place| ("where", place.text().to_owned()));
        let programs = self.programs.iter();
        let programs = programs.map(|program| ("jq", program.text().to_owned()));
        keys.chain(headers).chain(places).chain(programs)
    }

    /// Whether what it asks of key and headers holds: one of the keys, and every header.
    fn outside(&self, record: &Record) -> bool {
        let key = self.keys.is_empty()
            || record
                .key
                .as_ref()
                .is_some_and(|key| self.keys.iter().any(|wanted| wanted.as_bytes() == &key[..]));
        key && self.headers.iter().all(|(name, value)| {
            record.headers.iter().any(|(is, has)| {
                is == name.as_bytes() && has.as_deref().unwrap_or_default() == value.as_bytes()
            })
        })
    }

    fn looks_inside(&self) -> bool {
        !self.places.is_empty() || !self.programs.is_empty()
    }
}

/// The filters of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    pub(super) own: Arc<Filter>,
    /// Those of the configuration, by topic: a record goes through all of its topic's.
    pub(super) forced: HashMap<Arc<str>, Vec<Arc<Filter>>>,
    /// Whether what they look at is without a Confluent header.
    pub(super) unframed: bool,
}

/// What became of some records.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Those that are left, in their order; a value that was reshaped is JSON.
    pub(super) kept: Vec<Arc<Record>>,
    /// How many were looked at: at least one of those that there are.
    pub(super) seen: usize,
    /// Those that could not be looked at, which are left out.
    pub(super) failed: Failed,
}

/// Records that a program failed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) count: u64,
    /// The first of them, and why.
    pub(super) first: Option<(Cursor, String)>,
}

impl Failed {
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

impl Filters {
    /// Whether every record passes, as it is.
    pub(super) fn is_empty(&self) -> bool {
        self.forced.is_empty() && self.own.is_empty()
    }

    fn of<'a>(&'a self, topic: &str) -> impl Iterator<Item = &'a Filter> + Clone {
        self.forced
            .get(topic)
            .into_iter()
            .flatten()
            .chain([&self.own])
            .map(AsRef::as_ref)
    }

    /// Looks at the first of `records`, as many as there is time for.
    pub(super) async fn slice(&self, records: &[Arc<Record>]) -> Result<Slice, Failure> {
        if self.is_empty() {
            return Ok(Slice {
                kept: records.to_vec(),
                seen: records.len(),
                failed: Failed::default(),
            });
        }
        let inside = |record: &Arc<Record>| self.of(&record.topic).any(Filter::looks_inside);
        if !records.iter().any(inside) {
            let kept = records.iter().filter(|record| self.outside(record)).cloned();
            return Ok(Slice {
                kept: kept.collect(),
                seen: records.len(),
                failed: Failed::default(),
            });
        }
        let (this, records) = (self.clone(), records.to_vec());
        // In a box: who filters nothing has no room for it.
        let looked = Box::pin(jq::run(move |turn| this.look(turn, &records))).await;
        looked.map_err(|why| Failure::new(Kind::Overloaded, format!("the filter {why}")))
    }

    /// One record, which is there or not; with what a program says is wrong.
    pub(super) async fn one(&self, record: &Arc<Record>) -> Result<Option<Arc<Record>>, Failure> {
        let slice = self.slice(std::slice::from_ref(record)).await?;
        match slice.failed.first {
            Some((_, why)) => Err(Failure::new(Kind::FilterFailed, why)),
            None => Ok(slice.kept.into_iter().next()),
        }
    }

    fn outside(&self, record: &Record) -> bool {
        self.of(&record.topic).all(|filter| filter.outside(record))
    }

    fn look(&self, turn: &mut Turn, records: &[Arc<Record>]) -> Slice {
        let started = Instant::now();
        let mut slice = Slice::default();
        for record in records {
            slice.seen += 1;
            if !self.outside(record) {
                continue;
            }
            match self.inside(turn, record) {
                Ok(kept) => slice.kept.extend(kept),
                Err(why) => slice.failed.add(Failed {
                    count: 1,
                    first: Some((
                        Cursor::of(&record.topic, record.partition, record.offset),
                        format!("the filter {why}"),
                    )),
                }),
            }
            if started.elapsed() > SLICE {
                break;
            }
        }
        slice
    }

    fn inside(&self, turn: &mut Turn, record: &Arc<Record>) -> Result<Option<Arc<Record>>, jq::Failure> {
        if !self.of(&record.topic).any(Filter::looks_inside) {
            return Ok(Some(Arc::clone(record)));
        }
        turn.within(Limits::default(), |scope| {
            let mut value = value_of(item::framed(record, self.unframed).1.as_deref());
            let mut reshaped = false;
            let variables = if self.of(&record.topic).any(|filter| !filter.programs.is_empty()) {
                variables_of(record)
            } else {
                Vec::new()
            };
            for filter in self.of(&record.topic) {
                if !filter.places.iter().all(|place| place.holds(&value)) {
                    return Ok(None);
                }
                for program in &filter.programs {
                    match verdict(scope, program, &value, &variables)? {
                        Verdict::Drop => return Ok(None),
                        Verdict::Keep => {}
                        Verdict::Reshape(other) => {
                            value = other;
                            reshaped = true;
                        }
                    }
                }
            }
            if !reshaped {
                return Ok(Some(Arc::clone(record)));
            }
            let mut json = Vec::new();
            scope.write(&value, &mut json);
            Ok(Some(Arc::new(record.with_value(json.into()))))
        })
    }
}

enum Verdict {
    Drop,
    Keep,
    Reshape(Value),
}

fn verdict(
    scope: &Scope,
    program: &Program,
    value: &Value,
    variables: &[Value],
) -> Result<Verdict, jq::Failure> {
    Ok(match scope.output(program, value.clone(), variables)? {
        None | Some(Value::Null | Value::Bool(false)) => Verdict::Drop,
        Some(Value::Bool(true)) => Verdict::Keep,
        // Its bytes stay as they are.
        Some(same) if same == *value => Verdict::Keep,
        Some(other) => Verdict::Reshape(other),
    })
}

/// What a program sees of a value: JSON, or text, or base64, as in an item.
fn value_of(value: Option<&[u8]>) -> Value {
    let Some(bytes) = value else {
        return Value::Null;
    };
    Value::from_json(bytes).unwrap_or_else(|_| text_of(bytes))
}

fn text_of(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(STANDARD.encode(bytes)),
    }
}

/// The values of [`VARIABLES`].
fn variables_of(record: &Record) -> Vec<Value> {
    let number = |number: i64| Value::number(number.into());
    let optional = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, text_of);
    let headers = record.headers.iter().map(|(name, value)| {
        let name = match std::str::from_utf8(name) {
            Ok(name) => Bytes::copy_from_slice(name.as_bytes()),
            Err(_) => Bytes::from(STANDARD.encode(name)),
        };
        (name, optional(value.as_deref()))
    });
    vec![
        Value::from(&*record.topic),
        number(record.partition.into()),
        number(record.offset),
        record.timestamp.map_or(Value::Null, number),
        optional(record.key.as_deref()),
        Value::object(headers),
    ]
}

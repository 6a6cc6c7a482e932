//! What a program may call.
//!
//! Of jaq's own functions those that were looked at are taken, by name: they end, what they do is in proportion to what they are
//! given, and they know nothing of the machine. Those that work on jaq's own values, or on regular expressions without a bound,
//! are done here.

mod regexes;

use bytes::Bytes;
use jaq_core::load::parse::Def;
use jaq_core::native::{Fun, bome, run, unary, v};
use jaq_core::{Error, ValR};
use jaq_std::ValT as _;

use super::meter::{self, Data};
use super::value::{Value, utf8};

/// What is taken of jaq-core and jaq-std.
pub(super) const TAKEN: &[&str] = &[
    "error_empty",
    "path",
    "path_value",
    "range",
    "keys_unsorted",
    "key_values",
    "first",
    "last",
    "limit",
    "skip",
    "floor",
    "round",
    "ceil",
    "utf8bytelength",
    "explode",
    "implode",
    "ascii_downcase",
    "ascii_upcase",
    "reverse",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "startswith",
    "endswith",
    "ltrimstr",
    "rtrimstr",
    "trim",
    "ltrim",
    "rtrim",
    "escape_sh",
    "now",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "frexp",
    "ilogb",
    "j0",
    "j1",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "modf",
    "nearbyint",
    "rint",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "y0",
    "y1",
    "atan2",
    "copysign",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "ldexp",
    "nextafter",
    "pow",
    "remainder",
    "scalbln",
    "fma",
    "fromdateiso8601",
    "todateiso8601",
    "strftime",
    "gmtime",
    "strptime",
    "mktime",
];

/// What is not: it reads or writes what is the machine's, takes as long as a number that it is given (`jn`, `yn`), or is
/// done here.
#[cfg(test)]
pub(super) const LEFT: &[&str] = &[
    "env",
    "halt",
    "debug_empty",
    "stderr_empty",
    "localtime",
    "strflocaltime",
    "jn",
    "yn",
    "matches",
    "split_matches",
    "split_",
];

/// Definitions that use what is left, or are done here.
const LEFT_DEFINITIONS: &[&str] = &["stderr", "debug", "halt", "halt_error", "isnan"];

/// jq's own, by its manual, over what is done here.
const DEFINITIONS: &str = r#"
def in(xs): . as $key | xs | has($key);
def inside(xs): . as $part | xs | contains($part);
def index($wanted): indices($wanted) | if . == null then . else first end;
def rindex($wanted): indices($wanted) | if . == null then . else last end;
def transpose: . as $rows | [range(0; [.[] | length] | max // 0) as $at | [$rows[][$at]]];
def ascii: [.] | implode;
def toarray: if isarray then . else [.] end;
def trimstr($text): ltrimstr($text) | rtrimstr($text);
def have_literal_numbers: true;
def @json: tojson;
"#;

/// Every definition that is there before a program's own.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let ours = jaq_core::load::parse(DEFINITIONS, |parser| parser.defs()).unwrap_or_default();
    jaq_core::defs()
        .chain(jaq_std::defs())
        .filter(|def| !LEFT_DEFINITIONS.contains(&def.name))
        .chain(ours)
}

/// Every function.
pub(super) fn functions() -> impl Iterator<Item = Fun<Data>> {
    jaq_core::funs()
        .chain(jaq_std::funs())
        .filter(|(name, _, _)| TAKEN.contains(name))
        .chain(ours())
}

fn ours() -> impl Iterator<Item = Fun<Data>> {
    let none: [(&'static str, jaq_core::RunPtr<Data>); 8] = [
        ("length", |cv| bome(length(&cv.1))),
        ("tojson", |cv| bome(Ok(cv.1.to_json()))),
        ("fromjson", |cv| bome(from_json(&cv.1))),
        ("tonumber", |cv| bome(to_number(cv.1))),
        ("toboolean", |cv| bome(to_boolean(cv.1))),
        ("isnan", |cv| bome(is_nan(&cv.1))),
        ("tobytes", |cv| bome(cv.1.try_as_bytes().map(|_| cv.1.clone()))),
        ("env", |_| bome(Ok(Value::object::<Bytes>([])))),
    ];
    let one: [(&'static str, jaq_core::RunPtr<Data>); 4] = [
        ("has", |cv| unary(cv, |value, key| has(&value, &key))),
        ("contains", |cv| unary(cv, |value, part| contains(&value, &part))),
        ("indices", |cv| unary(cv, |value, wanted| value.indices(&wanted))),
        ("bsearch", |cv| unary(cv, |value, wanted| search(&value, &wanted))),
    ];
    let two: [(&'static str, jaq_core::RunPtr<Data>); 3] = [
        ("matches", |cv| bome(regexes::find(cv, false, true))),
        ("split_matches", |cv| bome(regexes::find(cv, true, true))),
        ("split_", |cv| bome(regexes::find(cv, true, false))),
    ];
    type Named = (&'static str, jaq_core::RunPtr<Data>);
    let with = |n: usize| move |(name, pointer): Named| run::<Data>((name, v(n), pointer));
    none.into_iter()
        .map(with(0))
        .chain(one.into_iter().map(with(1)))
        .chain(two.into_iter().map(with(2)))
}

fn length(value: &Value) -> ValR<Value> {
    match value {
        Value::Null => Ok(Value::Int(0)),
        Value::Bool(_) => Err(Error::str(format!("{value} has no length"))),
        Value::Text(text) => {
            meter::steps(text.len() / 64);
            Ok(Value::from(utf8(text).chars().count()))
        }
        Value::Array(array) => Ok(Value::from(array.items.len())),
        Value::Object(object) => Ok(Value::from(object.map.len())),
        Value::Float(number) => Ok(Value::Float(number.abs())),
        Value::Int(number) => Ok(Value::number(i128::from(*number).abs())),
        Value::Large(_) => Ok(value.clone()),
    }
}

fn text_of(value: &Value) -> Result<&Bytes, Error<Value>> {
    value.as_text().ok_or_else(|| Error::typ(value.clone(), "string"))
}

fn from_json(value: &Value) -> ValR<Value> {
    let text = text_of(value)?;
    Value::from_json(text).map_err(|why| Error::str(format!("{value} is not JSON: {why}")))
}

fn to_number(value: Value) -> ValR<Value> {
    if value.as_number().is_some() {
        return Ok(value);
    }
    let number = value.as_text().and_then(|text| Value::from_json(text).ok());
    number
        .filter(|number| number.as_number().is_some())
        .ok_or_else(|| Error::str(format!("{value} cannot be parsed as a number")))
}

fn to_boolean(value: Value) -> ValR<Value> {
    match &value {
        Value::Bool(_) => Ok(value),
        Value::Text(text) if ***text == *b"true" => Ok(Value::Bool(true)),
        Value::Text(text) if ***text == *b"false" => Ok(Value::Bool(false)),
        _ => Err(Error::str(format!("{value} cannot be parsed as a boolean"))),
    }
}

fn is_nan(value: &Value) -> ValR<Value> {
    let number = value.as_number();
    number
        .map(|number| Value::Bool(number.is_nan()))
        .ok_or_else(|| Error::typ(value.clone(), "number"))
}

fn has(value: &Value, key: &Value) -> ValR<Value> {
    match (value, key) {
        (Value::Object(object), Value::Text(name)) => Ok(Value::Bool(object.map.contains_key(&name[..]))),
        (Value::Array(array), Value::Int(_) | Value::Large(_)) => {
            let index = key.as_whole().and_then(|index| usize::try_from(index).ok());
            Ok(Value::Bool(index.is_some_and(|index| index < array.items.len())))
        }
        _ => Err(Error::index(value.clone(), key.clone())),
    }
}

fn contains(value: &Value, part: &Value) -> ValR<Value> {
    fn is_in(value: &Value, part: &Value) -> bool {
        meter::steps(1);
        match (value, part) {
            (Value::Text(text), Value::Text(part)) => {
                meter::steps((text.len() + part.len()) / 64);
                memchr::memmem::find(text, part).is_some()
            }
            (Value::Array(array), Value::Array(part)) => part
                .items
                .iter()
                .all(|part| array.items.iter().any(|item| is_in(item, part))),
            (Value::Object(object), Value::Object(part)) => part
                .map
                .iter()
                .all(|(name, part)| object.map.get(name).is_some_and(|value| is_in(value, part))),
            (value, part) => value == part,
        }
    }
    let alike = std::mem::discriminant(value) == std::mem::discriminant(part)
        || (value.as_number().is_some() && part.as_number().is_some());
    if !alike {
        return Err(Error::str(format!(
            "{value} cannot contain {part}: they are of different types"
        )));
    }
    Ok(Value::Bool(is_in(value, part)))
}

fn search(value: &Value, wanted: &Value) -> ValR<Value> {
    let Value::Array(array) = value else {
        return Err(Error::typ(value.clone(), "array"));
    };
    Ok(match array.items.binary_search(wanted) {
        Ok(at) => Value::from(at),
        Err(at) => Value::number(-1 - at as i128),
    })
}

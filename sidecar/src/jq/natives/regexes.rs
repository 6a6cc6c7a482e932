//! Regular expressions, by the `regex` crate: without look-around and back references, and in linear time.

use std::cell::RefCell;

use bytes::Bytes;
use jaq_core::{Cv, Error, ValR};
use regex::bytes::{Captures, Regex, RegexBuilder};

use crate::jq::meter::{self, Data};
use crate::jq::value::{Value, utf8};

/// The longest expression, in bytes.
const MAX_PATTERN: usize = 4096;
/// How many compiled ones a thread keeps.
const KEPT: usize = 16;
/// Bytes of a compiled expression, and what each byte of text that it is looked for in counts then: in the worst case each of its
/// states is tried at each byte.
const SIZES: [(usize, usize); 3] = [(16 * 1024, 1), (64 * 1024, 4), (256 * 1024, 16)];

thread_local! {
    static COMPILED: RefCell<Vec<(Bytes, Flags, Regex, usize)>> = const { RefCell::new(Vec::new()) };
}

/// jq's flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flags {
    global: bool,
    no_empty: bool,
    ignore_case: bool,
    /// `^` and `$` are the ends of lines too.
    lines: bool,
    /// `.` is a line's end too.
    dot_all: bool,
    swap_greed: bool,
    extended: bool,
}

impl Flags {
    fn parse(text: &[u8]) -> Result<Self, Error<Value>> {
        let mut flags = Self::default();
        for flag in utf8(text).chars() {
            match flag {
                'g' => flags.global = true,
                'n' => flags.no_empty = true,
                'i' => flags.ignore_case = true,
                'm' => flags.lines = true,
                's' => flags.dot_all = true,
                'l' => flags.swap_greed = true,
                'x' => flags.extended = true,
                'p' => {
                    flags.lines = true;
                    flags.dot_all = true;
                }
                flag => {
                    return Err(Error::str(format!(
                        "{flag:?} is none of the flags g, n, i, m, s, l, x and p"
                    )));
                }
            }
        }
        Ok(flags)
    }

    fn compile(self, pattern: &str) -> Result<(Regex, usize), Error<Value>> {
        let mut why = None;
        for (size, weight) in SIZES {
            let built = RegexBuilder::new(pattern)
                .case_insensitive(self.ignore_case)
                .multi_line(self.lines)
                .dot_matches_new_line(self.dot_all)
                .swap_greed(self.swap_greed)
                .ignore_whitespace(self.extended)
                .size_limit(size)
                .dfa_size_limit(256 * 1024)
                .nest_limit(50)
                .build();
            match built {
                Ok(regex) => return Ok((regex, weight)),
                Err(error @ regex::Error::CompiledTooBig(_)) => why = Some(error),
                Err(error) => {
                    why = Some(error);
                    break;
                }
            }
        }
        let why = why.map(|why| why.to_string()).unwrap_or_default();
        Err(Error::str(format!("the regular expression is not taken: {why}")))
    }
}

fn compiled(pattern: &Bytes, flags: Flags) -> Result<(Regex, usize), Error<Value>> {
    let kept = COMPILED.with_borrow(|all| {
        all.iter()
            .find(|(text, with, _, _)| text == pattern && *with == flags)
            .map(|(_, _, regex, weight)| (regex.clone(), *weight))
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    if pattern.len() > MAX_PATTERN {
        return Err(Error::str(format!(
            "the regular expression has {} bytes, and may have {MAX_PATTERN}",
            pattern.len()
        )));
    }
    meter::steps(1000 + 10 * pattern.len());
    let text = std::str::from_utf8(pattern).map_err(Error::str)?;
    let (regex, weight) = flags.compile(text)?;
    COMPILED.with_borrow_mut(|all| {
        if all.len() >= KEPT {
            all.remove(0);
        }
        // A copy: the text may be a part of something large.
        let text = Bytes::copy_from_slice(pattern);
        all.push((text, flags, regex.clone(), weight));
    });
    Ok((regex, weight))
}

/// `matches`, `split_matches` and `split_` of jaq's definitions: an array that has what is between the matches as text
/// (`between`), and the matches as arrays of their groups (`matches`).
pub(super) fn find(mut cv: Cv<'_, Data>, between: bool, matches: bool) -> ValR<Value> {
    let flags = cv.0.pop_var();
    let pattern = cv.0.pop_var();
    let text = super::text_of(&cv.1)?;
    let flags = Flags::parse(super::text_of(&flags)?)?;
    let (regex, weight) = compiled(super::text_of(&pattern)?, flags)?;
    // Before it is looked for: nothing stops it in between.
    meter::steps(text.len().saturating_mul(weight));
    let mut out = Vec::new();
    let mut places = Places::default();
    let mut from = 0;
    for found in regex.captures_iter(text) {
        meter::steps(1);
        let Some(whole) = found.get(0).map(|whole| whole.range()) else {
            continue;
        };
        if flags.no_empty && whole.is_empty() {
            continue;
        }
        if between {
            out.push(Value::part(text.slice(from..whole.start)));
            from = whole.end;
        }
        if matches {
            out.push(groups(text, &regex, &found, &mut places));
        }
        if !flags.global {
            break;
        }
    }
    if between {
        out.push(Value::part(text.slice(from..)));
    }
    Ok(Value::array(out))
}

/// The characters before a place, counted on from the place that was asked for last.
#[derive(Default)]
struct Places {
    byte: usize,
    character: usize,
}

impl Places {
    fn of(&mut self, text: &[u8], byte: usize) -> usize {
        if byte < self.byte {
            *self = Self::default();
        }
        meter::steps((byte - self.byte) / 64);
        self.character += utf8(text.get(self.byte..byte).unwrap_or_default())
            .chars()
            .count();
        self.byte = byte;
        self.character
    }
}

fn groups(text: &Bytes, regex: &Regex, found: &Captures<'_>, places: &mut Places) -> Value {
    let named = found.iter().zip(regex.capture_names());
    let group = |(group, name): (Option<regex::bytes::Match<'_>>, Option<&str>)| {
        let (offset, length, string) = match group {
            // As jq: a group that took no part.
            None => (Value::Int(-1), 0, Value::Null),
            Some(group) => (
                Value::from(places.of(text, group.start())),
                utf8(group.as_bytes()).chars().count(),
                Value::part(text.slice(group.range())),
            ),
        };
        let members = [
            ("offset", offset),
            ("length", Value::from(length)),
            ("string", string),
        ];
        let name = name.map(|name| ("name", Value::from(name)));
        Value::object(
            members
                .into_iter()
                .chain(name)
                .map(|(name, value)| (Bytes::from_static(name.as_bytes()), value)),
        )
    };
    Value::array(named.map(group).collect::<Vec<_>>())
}

//! The values that programs work with: JSON, counted.
//!
//! Whatever is made here is counted in the [`meter`]: that, and that nothing is nested too deep to be let go of, is why these
//! are not jaq's own values. Numbers are 64-bit integers or doubles; text is bytes that are meant to be UTF-8.

mod math;
mod order;
mod path;

pub(super) use self::path::utf8;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use indexmap::IndexMap;
use jaq_core::val::Range;

use super::meter;

/// Names and what they stand for, in the order in which they came.
pub(super) type Map = IndexMap<Bytes, Value, RandomState>;

/// A JSON value. It stays in the thread that made it.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is none of those.
    Large(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Box<Bytes>),
    /// An array.
    Array(Rc<Array>),
    /// An object.
    Object(Rc<Object>),
}

/// What an array has.
#[derive(Debug, Clone)]
pub struct Array {
    pub(super) items: Vec<Value>,
    /// At least how deep it is nested.
    pub(super) depth: u16,
}

/// What an object has.
#[derive(Debug, Clone)]
pub struct Object {
    pub(super) map: Map,
    /// At least how deep it is nested.
    pub(super) depth: u16,
}

/// What a value counts beside what it holds.
const NODE: usize = 48;
/// What a member of an object counts, but for its value's own.
const MEMBER: usize = 80;
const ITEM: usize = size_of::<Value>();

impl Value {
    /// Text. The bytes are counted as if they were copied.
    pub fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        meter::bytes(NODE + text.len());
        Self::Text(Box::new(text))
    }

    /// A part of what is there already.
    pub(super) fn part(text: Bytes) -> Self {
        meter::bytes(NODE);
        Self::Text(Box::new(text))
    }

    /// A whole number that no type of ours has is a double.
    pub fn number(number: i128) -> Self {
        if let Ok(number) = i64::try_from(number) {
            return Self::Int(number);
        }
        u64::try_from(number).map_or(Self::Float(number as f64), Self::Large)
    }

    /// An array.
    pub fn array(items: impl IntoIterator<Item = Self>) -> Self {
        meter::bytes(NODE);
        let mut depth = 0;
        let mut all = Vec::new();
        for item in items {
            meter::steps(1);
            meter::bytes(ITEM);
            depth = depth.max(item.depth());
            all.push(item);
        }
        Self::of_items(all, depth)
    }

    /// An object. Of several members of one name the last one counts.
    pub fn object<N: Into<Bytes>>(members: impl IntoIterator<Item = (N, Self)>) -> Self {
        meter::bytes(NODE);
        let mut depth = 0;
        let mut map = Map::default();
        for (name, value) in members {
            meter::steps(1);
            meter::bytes(MEMBER);
            depth = depth.max(value.depth());
            map.insert(name.into(), value);
        }
        Self::of_map(map, depth)
    }

    /// An array whose items were counted, the deepest of which is `deepest` deep.
    pub(super) fn of_items(items: Vec<Self>, deepest: u16) -> Self {
        let depth = deepest.saturating_add(1);
        meter::depth(depth);
        Self::Array(Rc::new(Array { items, depth }))
    }

    /// An object whose members were counted, the deepest of which is `deepest` deep.
    pub(super) fn of_map(map: Map, deepest: u16) -> Self {
        let depth = deepest.saturating_add(1);
        meter::depth(depth);
        Self::Object(Rc::new(Object { map, depth }))
    }

    /// At least how deep it is nested: 0 is neither an array nor an object.
    pub(super) fn depth(&self) -> u16 {
        match self {
            Self::Array(array) => array.depth,
            Self::Object(object) => object.depth,
            _ => 0,
        }
    }

    /// Its text, if it is text.
    pub fn as_text(&self) -> Option<&Bytes> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A member of an object, if it is one that has it.
    pub fn member(&self, name: &str) -> Option<Self> {
        match self {
            Self::Object(object) => object.map.get(name.as_bytes()).cloned(),
            _ => None,
        }
    }

    /// An item of an array, if it is one that has it; a negative index counts from the end.
    pub fn item(&self, index: i64) -> Option<Self> {
        match self {
            Self::Array(array) => {
                let index = i128::from(index);
                let index = if index < 0 {
                    index + array.items.len() as i128
                } else {
                    index
                };
                array.items.get(usize::try_from(index).ok()?).cloned()
            }
            _ => None,
        }
    }

    /// As a number, if it is one.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Large(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// As a whole number, if it is one.
    pub(super) fn as_whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some((*number).into()),
            Self::Large(number) => Some((*number).into()),
            _ => None,
        }
    }
}

impl Array {
    /// The items, to be changed, which take in something `deepest` deep. They are copied if somebody else has them.
    pub(super) fn change(this: &mut Rc<Self>, deepest: u16) -> &mut Vec<Value> {
        if Rc::strong_count(this) > 1 {
            meter::bytes(NODE + this.items.len() * ITEM);
        }
        let array = Rc::make_mut(this);
        array.depth = array.depth.max(deepest.saturating_add(1));
        meter::depth(array.depth);
        &mut array.items
    }
}

impl Object {
    /// The members, to be changed, which take in something `deepest` deep. They are copied if somebody else has them.
    pub(super) fn change(this: &mut Rc<Self>, deepest: u16) -> &mut Map {
        if Rc::strong_count(this) > 1 {
            meter::bytes(NODE + this.map.len() * MEMBER);
        }
        let object = Rc::make_mut(this);
        object.depth = object.depth.max(deepest.saturating_add(1));
        meter::depth(object.depth);
        &mut object.map
    }

    /// Counts a member that comes in.
    pub(super) fn one_more() {
        meter::bytes(MEMBER);
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<isize> for Value {
    fn from(value: isize) -> Self {
        Self::Int(value as i64)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::number(value as i128)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::text(Bytes::copy_from_slice(value.as_bytes()))
    }
}

impl From<Range<Self>> for Value {
    fn from(range: Range<Self>) -> Self {
        let ends = [("start", range.start), ("end", range.end)];
        Self::object(
            ends.into_iter()
                .filter_map(|(name, end)| Some((Bytes::from_static(name.as_bytes()), end?))),
        )
    }
}

impl FromIterator<Self> for Value {
    fn from_iter<T: IntoIterator<Item = Self>>(items: T) -> Self {
        Self::array(items)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What an error quotes: its beginning says what it is.
        let mut text = Vec::new();
        self.write_part(&mut text, 200);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

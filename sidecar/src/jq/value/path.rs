//! What is in a value, and how it is changed there: what `.[]`, `.a`, `.[0]`, `.[1:3]` and their updates do.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::path::Opt;
use jaq_core::val::Range;
use jaq_core::{Error, Exn, ValR, ValX};

use super::{Array, ITEM, MEMBER, Map, NODE, Object, Value};
use crate::jq::meter;

/// Text as it is shown: what is not UTF-8 (a program can make such) is U+FFFD.
pub(in crate::jq) fn utf8(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text)
}

/// An index as a place in `length` places, counted from the end if it is negative. Before the first: none.
fn place(index: i128, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index.saturating_add(length as i128)
    } else {
        index
    };
    usize::try_from(index).ok()
}

/// A number as an index: what is between two is the one before.
fn whole_index(index: &Value) -> i128 {
    // A double that no integer has becomes the nearest that there is.
    let floor = || index.as_number().map(|number| number.floor() as i128);
    index.as_whole().or_else(floor).unwrap_or(i128::MAX)
}

/// From where to where a slice goes.
fn ends(range: &Range<&Value>, length: usize) -> Result<std::ops::Range<usize>, Error<Value>> {
    let end = |end: Option<&Value>, absent: usize, round: fn(f64) -> f64| match end {
        None | Some(Value::Null) => Ok(absent),
        Some(value) => match (value.as_whole(), value.as_number()) {
            (Some(index), _) => Ok(place(index, length).unwrap_or(0).min(length)),
            // A double that no integer has becomes the nearest that there is.
            (None, Some(number)) => Ok(place((round(number) as i64).into(), length)
                .unwrap_or(0)
                .min(length)),
            (None, None) => Err(Error::typ(value.clone(), "number")),
        },
    };
    let start = end(range.start, 0, f64::floor)?;
    let end = end(range.end, length, f64::ceil)?;
    Ok(start..end.max(start))
}

/// The same in bytes, for text whose places are characters.
fn bytes_of(text: &[u8], range: &Range<&Value>) -> Result<std::ops::Range<usize>, Error<Value>> {
    meter::steps(text.len() / 64);
    // What is not UTF-8 is counted byte by byte.
    let starts = |text: &[u8]| match std::str::from_utf8(text) {
        Ok(text) => text.char_indices().map(|(at, _)| at).collect::<Vec<_>>(),
        Err(_) => (0..text.len()).collect(),
    };
    meter::bytes(8 * text.len());
    let starts = starts(text);
    let range = ends(range, starts.len())?;
    let at = |place: usize| starts.get(place).copied().unwrap_or(text.len());
    Ok(at(range.start)..at(range.end))
}

/// The start and the end of a slice that is written as an object.
fn slice_of(object: &Object) -> Range<&Value> {
    object.map.get(&b"start"[..])..object.map.get(&b"end"[..])
}

impl Value {
    /// What is at an index, if anything is.
    pub(in crate::jq) fn at(&self, index: &Self) -> Result<Option<Self>, Error<Self>> {
        meter::steps(1);
        match (self, index) {
            (Self::Null, Self::Null | Self::Int(_) | Self::Large(_) | Self::Float(_) | Self::Text(_)) => {
                Ok(None)
            }
            (Self::Object(object), Self::Text(name)) => Ok(object.map.get(&name[..]).cloned()),
            (Self::Array(array), Self::Int(_) | Self::Large(_) | Self::Float(_)) => {
                let found = place(whole_index(index), array.items.len());
                Ok(found.and_then(|at| array.items.get(at)).cloned())
            }
            (Self::Array(_), Self::Array(_)) => self.indices(index).map(Some),
            (Self::Null | Self::Text(_) | Self::Array(_), Self::Object(slice)) => {
                jaq_core::ValT::range(self.clone(), slice_of(slice)).map(Some)
            }
            (value, index) => Err(Error::index(value.clone(), index.clone())),
        }
    }

    /// Where something is found in it.
    pub(in crate::jq) fn indices(&self, wanted: &Self) -> ValR<Self> {
        match (self, wanted) {
            (Self::Null, _) => Ok(Self::Null),
            (Self::Text(text), Self::Text(wanted)) if !wanted.is_empty() => {
                let text: &[u8] = text;
                let mut from = 0;
                let mut characters = 0;
                Ok(Self::array(std::iter::from_fn(move || {
                    let rest = text.get(from..)?;
                    // Every find looks at all of what is wanted.
                    meter::steps(1 + wanted.len() / 16);
                    let found = memchr::memmem::find(rest, wanted)?;
                    meter::steps(found / 64);
                    characters += utf8(rest.get(..found)?).chars().count();
                    let this = characters;
                    let step = rest
                        .get(found..)
                        .and_then(|rest| {
                            utf8(rest.get(..4.min(rest.len()))?)
                                .chars()
                                .next()
                                .map(char::len_utf8)
                        })
                        .unwrap_or(1);
                    characters += 1;
                    from += found + step;
                    Some(Self::from(this))
                })))
            }
            (Self::Text(_), Self::Text(_)) => Ok(Self::Null),
            (Self::Array(array), Self::Array(wanted)) => {
                if wanted.items.is_empty() {
                    return Ok(Self::Null);
                }
                let windows = array.items.windows(wanted.items.len()).enumerate();
                let found = windows.filter(|(_, window)| {
                    meter::steps(1);
                    *window == &wanted.items[..]
                });
                Ok(Self::array(found.map(|(at, _)| Self::from(at))))
            }
            (Self::Array(array), wanted) => {
                let found = array.items.iter().enumerate().filter(|(_, item)| *item == wanted);
                Ok(Self::array(found.map(|(at, _)| Self::from(at))))
            }
            (value, wanted) => Err(Error::index(value.clone(), wanted.clone())),
        }
    }

    fn into_items(self) -> Result<Rc<Array>, Error<Self>> {
        match self {
            Self::Array(array) => Ok(array),
            value => Err(Error::typ(value, "array")),
        }
    }
}

fn not_iterable(value: Value) -> Error<Value> {
    Error::typ(value, "iterable (array or object)")
}

impl jaq_core::ValT for Value {
    fn from_num(text: &str) -> ValR<Self> {
        if let Ok(number) = text.parse::<i128>() {
            return Ok(Self::number(number));
        }
        text.parse()
            .map(Self::Float)
            .map_err(|_| Error::str(format!("{text} is no number")))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(members: I) -> ValR<Self> {
        let mut wrong = None;
        let members = members.into_iter().map_while(|(name, value)| match name {
            Self::Text(name) => Some((*name, value)),
            name => {
                wrong = Some(name);
                None
            }
        });
        let object = Self::object(members);
        wrong.map_or(Ok(object), |name| {
            Err(Error::str(format!(
                "{name} cannot be the name of an object's member: only text can"
            )))
        })
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self {
            Self::Array(array) => {
                let mut at = 0;
                Box::new(std::iter::from_fn(move || {
                    meter::steps(1);
                    let item = array.items.get(at)?.clone();
                    at += 1;
                    Some(Ok((Self::from(at - 1), item)))
                }))
            }
            Self::Object(object) => {
                let mut at = 0;
                Box::new(std::iter::from_fn(move || {
                    meter::steps(1);
                    let (name, value) = object.map.get_index(at)?;
                    at += 1;
                    Some(Ok((Self::part(name.clone()), value.clone())))
                }))
            }
            value => box_once(Err(not_iterable(value))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        match self {
            Self::Array(_) | Self::Object(_) => Box::new(self.key_values().map(|pair| Ok(pair?.1))),
            value => box_once(Err(not_iterable(value))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        self.at(index).map(|found| found.unwrap_or(Self::Null))
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        meter::steps(1);
        match self {
            Self::Null => Ok(Self::Null),
            Self::Text(text) => {
                let range = bytes_of(&text, &range)?;
                Ok(Self::part(text.slice(range)))
            }
            Self::Array(array) => {
                let range = ends(&range, array.items.len())?;
                Ok(Self::array(
                    array.items.get(range).unwrap_or_default().iter().cloned(),
                ))
            }
            value => Err(Error::typ(value, "rangeable (array or string)")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        match self {
            Self::Array(array) => {
                let items = array.items.iter().cloned().flat_map(f);
                let mut failed = None;
                let made = Self::array(items.map_while(|item| item.map_err(|why| failed = Some(why)).ok()));
                failed.map_or(Ok(made), Err)
            }
            Self::Object(object) => {
                meter::bytes(NODE);
                let mut map = Map::default();
                let mut deepest = 0;
                for (name, value) in &object.map {
                    meter::steps(1);
                    if let Some(value) = f(value.clone()).next().transpose()? {
                        meter::bytes(MEMBER);
                        deepest = deepest.max(value.depth());
                        map.insert(name.clone(), value);
                    }
                }
                Ok(Self::of_map(map, deepest))
            }
            value => opt.fail(value, |value| Exn::from(not_iterable(value))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        meter::steps(1);
        match (self, index) {
            (value @ (Self::Text(_) | Self::Array(_)), Self::Object(slice)) => {
                value.map_range(slice_of(slice), opt, f)
            }
            (Self::Null, Self::Text(_)) => change_member(
                Rc::new(Object {
                    map: Map::default(),
                    depth: 1,
                }),
                index,
                f,
            )
            .map(|object| {
                if object.map.is_empty() {
                    Self::Null
                } else {
                    Self::Object(object)
                }
            }),
            (Self::Object(object), Self::Text(_)) => change_member(object, index, f).map(Self::Object),
            (Self::Null, Self::Int(_) | Self::Large(_) | Self::Float(_)) => {
                let empty = Rc::new(Array {
                    items: Vec::new(),
                    depth: 1,
                });
                change_item(empty, index, opt, f).map(|array| {
                    if array.items.is_empty() {
                        Self::Null
                    } else {
                        Self::Array(array)
                    }
                })
            }
            (Self::Array(array), Self::Int(_) | Self::Large(_) | Self::Float(_)) => {
                change_item(array, index, opt, f).map(Self::Array)
            }
            (value, index) => opt.fail(value, |value| Exn::from(Error::index(value, index.clone()))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<&Self>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        meter::steps(1);
        match self {
            Self::Array(mut array) => {
                let range = match ends(&range, array.items.len()) {
                    Ok(range) => range,
                    Err(why) => return opt.fail(Self::Array(array), |_| Exn::from(why)),
                };
                let part = Self::array(array.items.get(range.clone()).unwrap_or_default().iter().cloned());
                let part = f(part).next().transpose()?;
                let new = part.map(Self::into_items).transpose()?;
                let deepest = new.as_ref().map_or(0, |new| new.depth.saturating_sub(1));
                let new = new.as_ref().map_or(&[][..], |new| &new.items[..]);
                meter::bytes((array.items.len() + new.len()) * ITEM);
                Array::change(&mut array, deepest).splice(range, new.iter().cloned());
                Ok(Self::Array(array))
            }
            Self::Text(text) => {
                let range = match bytes_of(&text, &range) {
                    Ok(range) => range,
                    Err(why) => return opt.fail(Self::Text(text), |_| Exn::from(why)),
                };
                let part = f(Self::part(text.slice(range.clone()))).next().transpose()?;
                let new = match part {
                    None => Bytes::new(),
                    Some(Self::Text(new)) => *new,
                    Some(value) => return Err(Exn::from(Error::typ(value, "string"))),
                };
                meter::bytes(text.len() + new.len());
                let mut whole = BytesMut::with_capacity(text.len() + new.len());
                whole.put(text.slice(..range.start));
                whole.put(new);
                whole.put(text.slice(range.end..));
                Ok(Self::part(whole.freeze()))
            }
            value => opt.fail(value, |value| Exn::from(Error::typ(value, "array"))),
        }
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    fn into_string(self) -> Self {
        match self {
            Self::Text(_) => self,
            value => value.to_json(),
        }
    }
}

fn change_member<'a, I: Iterator<Item = ValX<'a, Value>>>(
    mut object: Rc<Object>,
    index: &Value,
    f: impl Fn(Value) -> I,
) -> ValX<'a, Rc<Object>, Value> {
    let Value::Text(name) = index else {
        return Ok(object);
    };
    // Taken out, so that what nobody else has can be changed where it is.
    let found = Object::change(&mut object, 0).get_mut(&name[..]);
    let (there, old) = (
        found.is_some(),
        found.map_or(Value::Null, |old| std::mem::replace(old, Value::Null)),
    );
    match f(old).next().transpose()? {
        Some(new) => {
            if !there {
                Object::one_more();
            }
            let depth = new.depth();
            Object::change(&mut object, depth).insert((**name).clone(), new);
        }
        None => {
            meter::steps(object.map.len() / 16);
            Object::change(&mut object, 0).shift_remove(&name[..]);
        }
    }
    Ok(object)
}

fn change_item<'a, I: Iterator<Item = ValX<'a, Value>>>(
    mut array: Rc<Array>,
    index: &Value,
    opt: Opt,
    f: impl Fn(Value) -> I,
) -> ValX<'a, Rc<Array>, Value> {
    let index = whole_index(index);
    let Some(at) = place(index, array.items.len()) else {
        return opt.fail(array, |_| {
            Exn::from(Error::str(format!("index {index} is before the first item")))
        });
    };
    let found = Array::change(&mut array, 0).get_mut(at);
    let old = found.map_or(Value::Null, |old| std::mem::replace(old, Value::Null));
    match f(old).next().transpose()? {
        Some(new) => {
            let depth = new.depth();
            let missing = at.saturating_add(1).saturating_sub(array.items.len());
            meter::bytes(missing.saturating_mul(ITEM));
            let items = Array::change(&mut array, depth);
            if missing > 0 {
                items.resize(at + 1, Value::Null);
            }
            if let Some(place) = items.get_mut(at) {
                *place = new;
            }
        }
        None if at < array.items.len() => {
            meter::steps(array.items.len() / 16);
            Array::change(&mut array, 0).remove(at);
        }
        None => {}
    }
    Ok(array)
}

impl jaq_std::ValT for Value {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Self::Array(array) => {
                meter::bytes(array.items.len() * ITEM);
                meter::steps(array.items.len());
                Ok(array.items.iter().cloned().collect())
            }
            value => Err(value),
        }
    }

    fn is_int(&self) -> bool {
        self.as_whole().is_some()
    }

    fn as_isize(&self) -> Option<isize> {
        self.as_whole().and_then(|number| isize::try_from(number).ok())
    }

    fn as_f64(&self) -> Option<f64> {
        self.as_number()
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.as_text().map(|text| &text[..])
    }

    fn as_sub_str(&self, part: &[u8]) -> Self {
        match self {
            Self::Text(text) => Self::part(text.slice_ref(part)),
            _ => Self::Null,
        }
    }

    fn from_utf8_bytes(text: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::text(Bytes::from_owner(text))
    }
}

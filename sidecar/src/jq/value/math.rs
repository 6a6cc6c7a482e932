//! What `+`, `-`, `*`, `/`, `%` do, as jq's manual has it; a division by zero is jaq's (its own definitions need it so).

use std::collections::BTreeSet;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use jaq_core::ops::Math;
use jaq_core::{Error, ValR};

use super::{Array, ITEM, Map, NODE, Object, Value};
use crate::jq::meter;

/// Both as doubles, if both are numbers.
fn numbers(left: &Value, right: &Value) -> Option<(f64, f64)> {
    Some((left.as_number()?, right.as_number()?))
}

/// Both as whole numbers, if both are.
fn whole(left: &Value, right: &Value) -> Option<(i128, i128)> {
    Some((left.as_whole()?, right.as_whole()?))
}

impl Add for Value {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> Self::Output {
        meter::steps(1);
        // No two of them leave 128 bits.
        if let Some((left, right)) = whole(&self, &other) {
            return Ok(Self::number(left + right));
        }
        if let Some((left, right)) = numbers(&self, &other) {
            return Ok(Self::Float(left + right));
        }
        match (self, other) {
            (Self::Null, other) | (other, Self::Null) => Ok(other),
            (Self::Text(left), Self::Text(right)) => {
                meter::bytes(NODE + right.len());
                let mut text = left.try_into_mut().unwrap_or_else(|left| {
                    meter::bytes(left.len());
                    let mut copy = BytesMut::with_capacity(left.len() + right.len());
                    copy.put(left);
                    copy
                });
                text.put(*right);
                Ok(Self::Text(Box::new(text.freeze())))
            }
            (Self::Array(mut left), Self::Array(right)) => {
                meter::bytes(right.items.len() * ITEM);
                let deepest = right.depth.saturating_sub(1);
                Array::change(&mut left, deepest).extend(right.items.iter().cloned());
                Ok(Self::Array(left))
            }
            (Self::Object(mut left), Self::Object(right)) => {
                let map = Object::change(&mut left, right.depth.saturating_sub(1));
                for (name, value) in &right.map {
                    Object::one_more();
                    map.insert(name.clone(), value.clone());
                }
                Ok(Self::Object(left))
            }
            (left, right) => Err(Error::math(left, Math::Add, right)),
        }
    }
}

trait TryIntoMut {
    fn try_into_mut(self) -> Result<BytesMut, Bytes>;
}

impl TryIntoMut for Box<Bytes> {
    fn try_into_mut(self) -> Result<BytesMut, Bytes> {
        (*self).try_into_mut()
    }
}

impl Sub for Value {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> Self::Output {
        meter::steps(1);
        if let Some((left, right)) = whole(&self, &other) {
            return Ok(Self::number(left - right));
        }
        if let Some((left, right)) = numbers(&self, &other) {
            return Ok(Self::Float(left - right));
        }
        match (self, other) {
            (Self::Array(mut left), Self::Array(right)) => {
                meter::bytes(right.items.len() * ITEM);
                let gone: BTreeSet<_> = right.items.iter().collect();
                Array::change(&mut left, 0).retain(|item| !gone.contains(item));
                Ok(Self::Array(left))
            }
            (left, right) => Err(Error::math(left, Math::Sub, right)),
        }
    }
}

impl Mul for Value {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> Self::Output {
        meter::steps(1);
        if let Some((left, right)) = whole(&self, &other)
            && let Some(product) = left.checked_mul(right)
        {
            return Ok(Self::number(product));
        }
        if let Some((left, right)) = numbers(&self, &other) {
            return Ok(Self::Float(left * right));
        }
        match (self, other) {
            (Self::Text(text), times) | (times, Self::Text(text)) if times.as_number().is_some() => {
                Ok(repeat(&text, times.as_number().unwrap_or_default()))
            }
            (Self::Object(mut left), Self::Object(right)) => {
                merge(&mut left, &right);
                Ok(Self::Object(left))
            }
            (left, right) => Err(Error::math(left, Math::Mul, right)),
        }
    }
}

/// Text as many times; none where that is zero times or less. A part of a time is a whole one.
fn repeat(text: &Bytes, times: f64) -> Value {
    if times.is_nan() || times <= 0.0 {
        return Value::Null;
    }
    // A double that no usize has becomes the nearest that there is.
    let times = if times < 1.0 { 1 } else { times as usize };
    meter::bytes(NODE.saturating_add(text.len().saturating_mul(times)));
    Value::Text(Box::new(text.repeat(times).into()))
}

fn merge(left: &mut Rc<Object>, right: &Rc<Object>) {
    let map: &mut Map = Object::change(left, right.depth.saturating_sub(1));
    let mut deepest = 0;
    for (name, value) in &right.map {
        Object::one_more();
        match (map.get_mut(name), value) {
            (Some(Value::Object(left)), Value::Object(right)) => {
                merge(left, right);
                deepest = deepest.max(left.depth);
            }
            (Some(left), right) => *left = right.clone(),
            (None, right) => {
                map.insert(name.clone(), right.clone());
            }
        }
    }
    Object::change(left, deepest);
}

impl Div for Value {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> Self::Output {
        meter::steps(1);
        if let Some((left, right)) = whole(&self, &other)
            && right != 0
            && left % right == 0
        {
            return Ok(Self::number(left / right));
        }
        if let Some((left, right)) = numbers(&self, &other) {
            return Ok(Self::Float(left / right));
        }
        match (self, other) {
            (Self::Text(text), Self::Text(separator)) => Ok(split(&text, &separator)),
            (left, right) => Err(Error::math(left, Math::Div, right)),
        }
    }
}

/// The parts of text between a separator; without one, its characters.
fn split(text: &Bytes, separator: &[u8]) -> Value {
    meter::steps(text.len() / 64);
    if text.is_empty() {
        return Value::array([]);
    }
    if separator.is_empty() {
        let text = super::path::utf8(text);
        let characters = text.char_indices().map(|(at, c)| at..at + c.len_utf8());
        let whole = Bytes::copy_from_slice(text.as_bytes());
        meter::bytes(whole.len());
        return Value::array(characters.map(|range| Value::part(whole.slice(range))));
    }
    let mut from = 0;
    let mut ends = memchr::memmem::find_iter(text, separator).chain([text.len()]);
    Value::array(std::iter::from_fn(|| {
        let end = ends.next()?;
        let part = text.slice(from..end);
        from = (end + separator.len()).min(text.len());
        Some(Value::part(part))
    }))
}

impl Rem for Value {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> Self::Output {
        meter::steps(1);
        if let Some((left, right)) = whole(&self, &other)
            && right != 0
        {
            return Ok(Self::number(left % right));
        }
        match numbers(&self, &other) {
            Some((left, right)) if other.as_whole() != Some(0) => Ok(Self::Float(left % right)),
            _ => Err(Error::math(self, Math::Rem, other)),
        }
    }
}

impl Neg for Value {
    type Output = ValR<Self>;

    fn neg(self) -> Self::Output {
        meter::steps(1);
        match (self.as_whole(), self.as_number()) {
            (Some(number), _) => Ok(Self::number(-number)),
            (None, Some(number)) => Ok(Self::Float(-number)),
            (None, None) => Err(Error::typ(self, "number")),
        }
    }
}

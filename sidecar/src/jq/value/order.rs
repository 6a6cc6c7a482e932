//! jq's order: null, false, true, numbers, text, arrays, objects. That which is no number is less than any number.

use std::cmp::Ordering;

use super::Value;
use crate::jq::meter;

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(false) => 1,
        Value::Bool(true) => 2,
        Value::Int(_) | Value::Large(_) | Value::Float(_) => 3,
        Value::Text(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    }
}

fn numbers(left: &Value, right: &Value) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_whole(), right.as_whole()) {
        return left.cmp(&right);
    }
    let number = |value: &Value| value.as_number().unwrap_or(f64::NAN);
    let (left, right) = (number(left), number(right));
    left.partial_cmp(&right)
        .unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        meter::steps(1);
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => {
                meter::steps(left.len().min(right.len()) / 256);
                left.cmp(right)
            }
            (Self::Array(left), Self::Array(right)) => left.items.cmp(&right.items),
            (Self::Object(left), Self::Object(right)) => {
                meter::bytes(8 * (left.map.len() + right.map.len()));
                meter::steps(left.map.len() + right.map.len());
                let mut left: Vec<_> = left.map.iter().collect();
                let mut right: Vec<_> = right.map.iter().collect();
                left.sort_unstable_by_key(|(name, _)| *name);
                right.sort_unstable_by_key(|(name, _)| *name);
                let names = left
                    .iter()
                    .map(|(name, _)| name)
                    .cmp(right.iter().map(|(name, _)| name));
                names.then_with(|| {
                    left.iter()
                        .map(|(_, value)| value)
                        .cmp(right.iter().map(|(_, value)| value))
                })
            }
            (left, right) if rank(left) == 3 && rank(right) == 3 => numbers(left, right),
            (left, right) => rank(left).cmp(&rank(right)),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        meter::steps(1);
        match (self, other) {
            // As in IEEE 754, and in jq.
            (Self::Float(left), Self::Float(right)) => left == right,
            (Self::Array(left), Self::Array(right)) => left.items == right.items,
            (Self::Object(left), Self::Object(right)) => {
                left.map.len() == right.map.len()
                    && left
                        .map
                        .iter()
                        .all(|(name, value)| right.map.get(name).is_some_and(|other| value == other))
            }
            (left, right) => left.cmp(right) == Ordering::Equal,
        }
    }
}

impl Eq for Value {}

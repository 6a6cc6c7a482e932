//! Many records: a JSON object each, in lines or in an array.

use sluice_proto::v1;

use super::written::{Object, Written, record};
use super::{Common, invalid};
use crate::kafka::record::Failure;

/// One record a line; empty lines are skipped.
pub(super) fn lines(common: &Common, topic: &str, body: &[u8]) -> Result<Vec<v1::Record>, Failure> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = format!("line {number}");
        let Object(written) =
            serde_json::from_slice(line).map_err(|error| invalid(format!("{place}: {error}")))?;
        records.push(record(common, topic, &place, written)?);
    }
    some(records)
}

/// An array of records.
pub(super) fn array(common: &Common, topic: &str, body: &[u8]) -> Result<Vec<v1::Record>, Failure> {
    let written: Vec<Object<Written<'_>>> =
        serde_json::from_slice(body).map_err(|error| invalid(format!("the body: {error}")))?;
    let numbered = (1..).zip(written);
    some(
        numbered
            .map(|(number, Object(written))| record(common, topic, &format!("record {number}"), written))
            .collect::<Result<_, _>>()?,
    )
}

fn some(records: Vec<v1::Record>) -> Result<Vec<v1::Record>, Failure> {
    if records.is_empty() {
        return Err(invalid("the body holds no record".to_owned()));
    }
    Ok(records)
}

//! The parsers of request bodies, for the fuzz targets: requests reach them by way of the router.

use sluice_proto::v1;

use super::{Common, batch};

/// The records of `topic` in a body of one JSON object a line.
///
/// # Errors
/// What is wrong, in words.
pub fn lines(topic: &str, body: &[u8]) -> Result<Vec<v1::Record>, String> {
    batch::lines(&Common::default(), topic, body).map_err(|failure| failure.message.into_owned())
}

/// The records of `topic` in a body that is one JSON array.
///
/// # Errors
/// What is wrong, in words.
pub fn array(topic: &str, body: &[u8]) -> Result<Vec<v1::Record>, String> {
    batch::array(&Common::default(), topic, body).map_err(|failure| failure.message.into_owned())
}

//! The parser of a token endpoint's answers, for the fuzz targets.

use std::time::SystemTime;

/// The token of an answer, and when it ends.
///
/// # Errors
/// Why there is none, as it is told.
pub fn answer(status: u16, body: &[u8], now: SystemTime) -> Result<(String, SystemTime), String> {
    super::read(status, body, now).map(|token| (token.value.expose().to_owned(), token.ends))
}

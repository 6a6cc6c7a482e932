//! The parsers of keys and tokens, for the fuzz targets.

use jsonwebtoken::Algorithm;

use super::KeySet;

/// What each key of a set may have signed.
///
/// # Errors
/// Why there are none, as it is told.
pub fn keys(bytes: &[u8]) -> Result<Vec<Vec<Algorithm>>, String> {
    KeySet::parse(bytes).map(|set| set.list())
}

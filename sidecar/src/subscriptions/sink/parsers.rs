//! What is read of untrusted answers, and what is made of untrusted records, for the fuzz targets.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderValue, RETRY_AFTER};

use super::answer::{self, Said};

/// The time that a `Retry-After` asks for.
pub fn retry_after(text: &[u8], now: SystemTime) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_bytes(text).ok()?);
    answer::retry_after(&headers, now)
}

/// What a body says by its `status`: the word, or how something else is told.
pub fn status(body: &[u8]) -> Option<String> {
    answer::said(&Bytes::copy_from_slice(body)).map(|said| match said {
        Said::Success => "SUCCESS".to_owned(),
        Said::Retry => "RETRY".to_owned(),
        Said::Drop => "DROP".to_owned(),
        Said::Other(other) => other,
    })
}

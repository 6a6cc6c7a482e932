//! Reading request bodies within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use bytes::BytesMut;
use http_body_util::BodyExt;
use sluice_proto::v1::ErrorClass;

use super::invalid;
use crate::kafka::record::Failure;

/// Bodies that are being read or answered may hold this many times the largest one together.
const TOGETHER: usize = 4;
/// How long a client may take over the next piece of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// The bounds on bodies.
#[derive(Clone)]
pub(super) struct Bounds {
    /// Of one, in bytes.
    max: usize,
    /// What all of them hold.
    held: Arc<AtomicUsize>,
}

/// A body's share in what all of them may hold; given back when dropped.
pub(super) struct Share {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// Whether it may hold `bytes` more, of `max` for all.
    fn grow(&mut self, bytes: usize, max: usize) -> bool {
        let grown = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|held| *held <= max)
            })
            .is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Bounds {
    /// Bodies of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            held: Arc::default(),
        }
    }

    /// Reads a body. Its share is to be kept for as long as its bytes are.
    pub(super) async fn read(&self, mut body: Body) -> Result<(Bytes, Share), Failure> {
        let mut share = Share {
            held: Arc::clone(&self.held),
            bytes: 0,
        };
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if expected > self.max {
            return Err(self.too_large());
        }
        let mut whole = BytesMut::new();
        loop {
            let piece = tokio::time::timeout(PIECE_TIMEOUT, body.frame())
                .await
                .map_err(|_| invalid(format!("no more of the body came for {PIECE_TIMEOUT:?}")))?;
            let Some(piece) = piece else {
                return Ok((whole.freeze(), share));
            };
            let piece = piece.map_err(|error| invalid(format!("the body cannot be read: {error}")))?;
            let Ok(data) = piece.into_data() else { continue };
            if whole.len() + data.len() > self.max {
                return Err(self.too_large());
            }
            if !share.grow(data.len(), self.max.saturating_mul(TOGETHER)) {
                let text = format!(
                    "requests hold {TOGETHER} times max_request_bytes ({}) together",
                    self.max
                );
                return Err(Failure::new(ErrorClass::BufferFull, text));
            }
            if whole.is_empty() && expected <= data.len() {
                // All there is, as far as is known: not copied if so.
                whole = data
                    .try_into_mut()
                    .unwrap_or_else(|data| BytesMut::from(&data[..]));
            } else {
                whole.extend_from_slice(&data);
            }
        }
    }

    fn too_large(&self) -> Failure {
        let text = format!("the body has more than max_request_bytes ({})", self.max);
        Failure::new(ErrorClass::TooLarge, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bodies_together_are_bounded_until_they_are_answered() {
        let bounds = Bounds::new(10);
        let mut shares = Vec::new();
        for _ in 0..TOGETHER {
            let (body, share) = bounds.read(Body::from("0123456789")).await.unwrap();
            assert_eq!(body, "0123456789");
            shares.push(share);
        }
        let class = |result: Result<(Bytes, Share), Failure>| result.err().map(|failure| failure.class);
        assert_eq!(
            class(bounds.read(Body::from("x")).await),
            Some(ErrorClass::BufferFull)
        );
        assert_eq!(
            class(bounds.read(Body::from("0123456789a")).await),
            Some(ErrorClass::TooLarge)
        );
        assert_eq!(class(bounds.read(Body::empty()).await), None);
        shares.pop();
        assert_eq!(class(bounds.read(Body::from("x")).await), None);
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        let pieces = ["ab", "", "cd", "e"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let body = Body::from_stream(tokio_stream::iter(pieces));
        assert_eq!(Bounds::new(5).read(body).await.unwrap().0, "abcde");
        let body = Body::from_stream(tokio_stream::iter(["abc", "def"].map(Ok::<_, std::io::Error>)));
        assert_eq!(
            Bounds::new(5).read(body).await.err().unwrap().class,
            ErrorClass::TooLarge
        );
    }
}

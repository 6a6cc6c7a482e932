//! What a connection is told for which there is no room.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::Stream;

/// So many are told at once; others are closed without a word.
const AT_ONCE: usize = 64;
/// How long one may take to be told.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What is read of a request while it is answered.
const READ: usize = 4096;

/// Turns connections away.
pub(super) struct Farewells {
    answer: Arc<[u8]>,
    room: Arc<Semaphore>,
}

impl Farewells {
    /// For a listener that takes `max_connections`.
    pub(super) fn new(max_connections: usize) -> Self {
        let error = format!("the listener has {max_connections} connections, which is its max_connections");
        let body = serde_json::json!({
            "message": "too many connections",
            "error": error,
            "code": "too_many_connections",
        });
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             retry-after: 1\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        Self {
            answer: answer.into_bytes().into(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Answers whatever is asked with 503, in HTTP/1.1, and ends the connection. Does not wait for it.
    pub(super) fn bid(&self, mut stream: Stream) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            return;
        };
        let answer = Arc::clone(&self.answer);
        tokio::spawn(async move {
            let told = async {
                let mut unread = [0; READ];
                // A client does not expect an answer before it has asked.
                if stream.read(&mut unread).await? == 0 {
                    return Ok(());
                }
                stream.write_all(&answer).await?;
                stream.shutdown().await?;
                // Closed with something unread in it, the connection would be reset, and the answer lost with it.
                while stream.read(&mut unread).await? > 0 {}
                std::io::Result::Ok(())
            };
            // Who does not listen is not told.
            let _told_or_late = tokio::time::timeout(TIMEOUT, told).await;
            drop(place);
        });
    }
}

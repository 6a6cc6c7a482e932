//! Waiting on conditions.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Calls `probe` until it gives a value; the last reason why it did not is in the error once `limit` has
/// passed.
///
/// # Errors
/// When `limit` passes.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        let last = match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the last try did not end".to_owned(),
        };
        if Instant::now() + pause >= deadline {
            bail!("{what}: not within {limit:?}: {last}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value_or_the_last_reason() {
        let mut left = 3;
        let value = until("counting", Duration::from_secs(5), async || {
            left -= 1;
            if left > 0 {
                bail!("{left} left")
            }
            Ok(7)
        })
        .await;
        assert_eq!(value.ok(), Some(7));

        let never = until("never", Duration::from_millis(20), async || -> Result<()> {
            bail!("not yet")
        })
        .await;
        let text = never.unwrap_err().to_string();
        assert!(text.starts_with("never: not within 20ms: "), "{text}");

        let stuck = until("stuck", Duration::from_millis(20), async || {
            std::future::pending::<()>().await;
            Ok(())
        })
        .await;
        assert!(stuck.is_err());
    }
}

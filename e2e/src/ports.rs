//! Ports that stay ours.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::parts;

/// Below the range that Linux takes ephemeral ports from: a client that keeps connecting to a stopped server in
/// that range sooner or later is given the server's port as its own, and connects to itself.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The locks of the ports handed out, held until this process ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A TCP port on 127.0.0.1 that nobody listens on and that no other process with this harness will pick while
/// this one lives, so that a server can be stopped and started on it.
///
/// # Errors
/// When the whole range is taken, or `target/e2e` cannot be written.
pub fn pick() -> Result<u16> {
    let dir = parts::root().join("target/e2e/.ports");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let mut held = HELD
        .lock()
        .map_err(|_| anyhow::anyhow!("a thread died while it picked a port"))?;
    let len = RANGE.end - RANGE.start;
    let start = u16::try_from(std::process::id() % u32::from(len)).unwrap_or(0);
    for step in 0..len {
        let port = RANGE.start + (start + step) % len;
        let path = dir.join(port.to_string());
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            held.push(lock);
            return Ok(port);
        }
    }
    bail!("no free port in {RANGE:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_the_same_twice() {
        let first = pick().unwrap();
        let second = pick().unwrap();
        assert_ne!(first, second);
        assert!(RANGE.contains(&first) && RANGE.contains(&second));
    }
}

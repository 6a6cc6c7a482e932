//! How long to wait before the next attempt to open a stream.

const FIRST_US: u64 = 10_000;
const MOST_US: u64 = 1_000_000;

/// Doubles from 10 ms to 1 s. Without jitter: there is one client, in the same pod.
#[derive(Debug)]
pub(super) struct Backoff {
    next_us: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_us: FIRST_US }
    }
}

impl Backoff {
    /// How long to wait this time.
    pub(super) fn next_us(&mut self) -> u64 {
        let wait_us = self.next_us;
        self.next_us = (wait_us * 2).min(MOST_US);
        wait_us
    }

    /// The last attempt did well.
    pub(super) fn reset(&mut self) {
        self.next_us = FIRST_US;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_second() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next_us() / 1000).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_us(), FIRST_US);
    }
}

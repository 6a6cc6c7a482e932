//! Records that say when they were written, and how that is found again in whatever they are sent in.

use std::time::{Duration, Instant};

use memchr::memchr;

use crate::measure::BODY;

/// Stands before and after the time. Nothing else that is sent has it.
const MARK: u8 = b'^';
/// The same of what a record is answered with that a client sends.
pub(crate) const ANSWER: u8 = b'~';

/// Counts from one moment, for all who write and read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since it began.
    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A JSON document of [`BODY`] bytes that was written at `time`.
pub(crate) fn stamped(time: u64) -> Vec<u8> {
    let mark = char::from(MARK);
    let mut value = format!("{{\"sent\":\"{mark}{time}{mark}\",\"note\":\"").into_bytes();
    value.resize(BODY - 2, b'n');
    value.extend_from_slice(b"\"}");
    value
}

/// What a client sends so that `value`, a JSON document, becomes a record, and the answer says that it was sent at `time`.
pub(crate) fn published(time: u64, value: &[u8]) -> String {
    let mark = char::from(ANSWER);
    format!(
        "{{\"type\":\"publish\",\"id\":\"{mark}{time}{mark}\",\"json\":{}}}",
        String::from_utf8_lossy(value)
    )
}

/// Finds the times in what one client is sent, wherever that is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan {
    mark: u8,
    inside: bool,
    time: u64,
}

/// Of records.
impl Default for Scan {
    fn default() -> Self {
        Self::of(MARK)
    }
}

impl Scan {
    /// Of those that stand between `mark`s.
    pub(crate) fn of(mark: u8) -> Self {
        Self {
            mark,
            inside: false,
            time: 0,
        }
    }

    /// Takes the next bytes; `found` is told each time that ends in them.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(u64)) {
        loop {
            let Some(at) = memchr(self.mark, bytes) else {
                if self.inside {
                    self.digits(bytes);
                }
                return;
            };
            let (before, after) = bytes.split_at(at);
            if self.inside {
                self.digits(before);
                found(self.time);
            }
            self.time = 0;
            self.inside = !self.inside;
            bytes = after.get(1..).unwrap_or_default();
        }
    }

    fn digits(&mut self, bytes: &[u8]) {
        for digit in bytes.iter().filter(|byte| byte.is_ascii_digit()) {
            self.time = self.time.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        }
    }
}

/// As milliseconds.
pub(crate) fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_wherever_the_bytes_are_cut() {
        let bytes = [
            b"data: ".to_vec(),
            stamped(1_234_567),
            b"\n\n12^".to_vec(),
            b"89^".to_vec(),
        ]
        .concat();
        for cut in 0..bytes.len() {
            let (mut scan, mut times) = (Scan::default(), Vec::new());
            let (first, second) = bytes.split_at(cut);
            scan.feed(first, |time| times.push(time));
            scan.feed(second, |time| times.push(time));
            assert_eq!(times, [1_234_567, 89], "cut at {cut}");
        }
    }

    #[test]
    fn a_record_and_its_answer_are_told_apart() {
        let sent = published(5, &stamped(6));
        serde_json::from_str::<serde_json::Value>(&sent).unwrap();
        for (mark, time) in [(MARK, 6), (ANSWER, 5)] {
            let mut times = Vec::new();
            Scan::of(mark).feed(sent.as_bytes(), |time| times.push(time));
            assert_eq!(times, [time]);
        }
    }

    #[test]
    fn a_record_is_json_and_as_long_as_all_others() {
        for time in [0, 7, u64::MAX] {
            let value = stamped(time);
            assert_eq!(value.len(), BODY);
            assert!(serde_json::from_slice::<serde_json::Value>(&value).is_ok());
        }
    }
}

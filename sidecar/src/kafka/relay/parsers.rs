//! The reading of brokers' answers, for the fuzz targets.

use super::frames::{Answer, Position, Sieve};
use super::scram;

/// Reads an answer behind its correlation id as each of those that there are. Only panics matter.
pub fn answer(bytes: &[u8]) {
    let answer = Answer::new(bytes);
    let _whether_it_is_one = (
        answer.authenticate_version(),
        answer.handshake(),
        answer.authenticate(0),
        answer.authenticate(1),
    );
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _whether_it_is_one = scram::first_of_server(text);
    }
}

/// What passes and what is taken out, of a stream that comes in chunks of `size` bytes; `None` where it has no frames.
pub fn sift(stream: &[u8], size: usize) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut sieve, mut through, mut own) = (Sieve::default(), Vec::new(), Vec::new());
    for chunk in stream.chunks(size.max(1)) {
        sieve.sift(chunk, &mut through, &mut own).ok()?;
    }
    Some((through, own))
}

/// How many frames end in a stream that comes in chunks of `size` bytes; `None` where it has no frames.
pub fn frames(stream: &[u8], size: usize) -> Option<usize> {
    let (mut position, mut count) = (Position::default(), 0);
    for mut chunk in stream.chunks(size.max(1)) {
        while !chunk.is_empty() {
            let taken = position.advance(chunk).ok()?;
            chunk = chunk.get(taken..)?;
            count += usize::from(position.is_between());
        }
    }
    Some(count)
}

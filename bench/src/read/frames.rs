//! As much of an HTTP/2 client (RFC 9113) as one needs that opens streams and counts what comes on them.
//!
//! Headers are sent without compression, and of those that come only the status is looked at: it is their first field, and
//! 200 is one byte of the static table (RFC 7541). The window is opened as far as it goes once, so that it is never
//! opened again.

use sluice_e2e::{Result, bail};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = 65_535;
/// `:status: 200`, by its index.
const STATUS_200: u8 = 0x88;
const HEAD: usize = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What a connection begins with.
pub(crate) fn opening() -> Vec<u8> {
    let setting = [
        &INITIAL_WINDOW_SIZE.to_be_bytes()[..],
        &MAX_WINDOW.to_be_bytes()[..],
    ]
    .concat();
    let more = (MAX_WINDOW - DEFAULT_WINDOW).to_be_bytes();
    [
        PREFACE,
        &frame(SETTINGS, 0, 0, &setting),
        &frame(WINDOW_UPDATE, 0, 0, &more),
    ]
    .concat()
}

/// A GET of `path` on the `n`th stream of a connection, counted from 0.
///
/// # Errors
/// A path of more than 126 bytes: its length would take another form.
pub(crate) fn get(n: usize, path: &str) -> Result<Vec<u8>> {
    let text = |name: u8, value: &str| -> Result<Vec<u8>> {
        match u8::try_from(value.len()) {
            Ok(length @ 0..=126) => Ok([&[name, length][..], value.as_bytes()].concat()),
            _ => bail!("{value:?} is too long for a request here"),
        }
    };
    // :method GET and :scheme http are in the table; :path and :authority have names there.
    let block = [vec![0x82, 0x86], text(0x04, path)?, text(0x01, "bench.local")?].concat();
    let stream = u32::try_from(2 * n + 1)?;
    Ok(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block))
}

/// What a connection's frames say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// The nth stream was answered with 200.
    Answered(usize),
    /// The nth stream was sent these bytes.
    Data(usize, &'a [u8]),
    /// The nth stream is over, or was answered with something else.
    Over(usize),
    /// This is to be sent back.
    Reply(Vec<u8>),
}

/// Reads one connection's frames, wherever they are cut.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; HEAD],
    filled: usize,
    left: usize,
    /// The first bytes of a payload that is looked at.
    first: [u8; 8],
    taken: usize,
}

impl Frames {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The server ends the connection.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut said: impl FnMut(Said<'_>)) -> Result<()> {
        while !bytes.is_empty() {
            if self.filled < HEAD {
                let (now, rest) = bytes.split_at(bytes.len().min(HEAD - self.filled));
                for (place, byte) in self.head.iter_mut().skip(self.filled).zip(now) {
                    *place = *byte;
                }
                self.filled += now.len();
                bytes = rest;
                if self.filled == HEAD {
                    let [a, b, c, ..] = self.head;
                    self.left = usize::try_from(u32::from_be_bytes([0, a, b, c]))?;
                    self.taken = 0;
                    if self.left == 0 {
                        self.ended(&mut said)?;
                    }
                }
                continue;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.left));
            bytes = rest;
            for (place, byte) in self.first.iter_mut().skip(self.taken).zip(now) {
                *place = *byte;
            }
            self.taken += now.len();
            self.left -= now.len();
            let [_, _, _, kind, ..] = self.head;
            if kind == DATA
                && let Some(stream) = self.stream()
            {
                said(Said::Data(stream, now));
            }
            if self.left == 0 {
                self.ended(&mut said)?;
            }
        }
        Ok(())
    }

    /// Which stream the frame is of, counted from 0.
    fn stream(&self) -> Option<usize> {
        let [_, _, _, _, _, a, b, c, d] = self.head;
        let id = u32::from_be_bytes([a & 0x7f, b, c, d]);
        usize::try_from(id.checked_sub(1)? / 2).ok()
    }

    /// A frame is whole.
    fn ended(&mut self, said: &mut impl FnMut(Said<'_>)) -> Result<()> {
        self.filled = 0;
        let [_, _, _, kind, flags, ..] = self.head;
        match (kind, self.stream()) {
            (HEADERS, Some(stream)) => {
                let [status, ..] = self.first;
                let over = status != STATUS_200 || flags & END_STREAM != 0;
                said(if over {
                    Said::Over(stream)
                } else {
                    Said::Answered(stream)
                });
            }
            (DATA, Some(stream)) if flags & END_STREAM != 0 => said(Said::Over(stream)),
            (RST_STREAM, Some(stream)) => said(Said::Over(stream)),
            (SETTINGS, _) if flags & ACK == 0 => said(Said::Reply(frame(SETTINGS, ACK, 0, &[]))),
            (PING, _) if flags & ACK == 0 => said(Said::Reply(frame(PING, ACK, 0, &self.first))),
            (GOAWAY, _) => bail!("the server ends a connection"),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        let bytes = [
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 200]),
            frame(HEADERS, END_HEADERS, 1, &[STATUS_200, 0x40]),
            frame(DATA, 0, 3, b"hello"),
            frame(PING, 0, 0, b"12345678"),
            frame(HEADERS, END_HEADERS | END_STREAM, 5, &[0x8d]),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ]
        .concat();
        for cut in 0..bytes.len() {
            let (mut data, mut other) = (Vec::<u8>::new(), Vec::<String>::new());
            let mut frames = Frames::default();
            let (first, second) = bytes.split_at(cut);
            for part in [first, second] {
                let mut note = |said: Said<'_>| match said {
                    Said::Data(stream, bytes) => {
                        assert_eq!(stream, 1);
                        data.extend(bytes);
                    }
                    Said::Answered(stream) => other.push(format!("answered {stream}")),
                    Said::Over(stream) => other.push(format!("over {stream}")),
                    Said::Reply(bytes) => other.push(format!("reply {}", bytes[3])),
                };
                frames.feed(part, &mut note).unwrap();
            }
            assert_eq!(data, b"hello", "cut at {cut}");
            let expected = ["reply 4", "answered 0", "reply 6", "over 2", "over 0"];
            assert_eq!(other, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_server_that_goes_away_is_an_error() {
        let bytes = frame(GOAWAY, 0, 0, &[0; 8]);
        assert!(Frames::default().feed(&bytes, |_| {}).is_err());
    }

    #[test]
    fn a_request_names_its_stream_and_its_path() {
        let bytes = get(3, "/stream").unwrap();
        assert_eq!(bytes[..9], [0, 0, 24, HEADERS, 5, 0, 0, 0, 7]);
        assert!(bytes.windows(7).any(|part| part == b"/stream"));
        assert!(get(0, &"x".repeat(127)).is_err());
    }
}

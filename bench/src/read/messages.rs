//! As much of a WebSocket client (RFC 6455) as one needs that sends texts and looks through what comes.
//!
//! What it sends is masked with zeros, which leaves it as it is.

use sluice_e2e::{Result, ensure};

/// What the answer to [`opening`] begins with.
const STATUS: &[u8] = b"HTTP/1.1 101 ";
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
/// The length is in the next two bytes, or in the next eight.
const TWO: u8 = 126;
const EIGHT: u8 = 127;
/// The longest head of a frame that is not masked.
const HEAD: usize = 10;

/// A request for a socket at `path`.
pub(crate) fn opening(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: bench.local\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: c2x1aWNlLWJlbmNoLTAwMA==\r\n\r\n"
    )
    .into_bytes()
}

/// A text.
///
/// # Errors
/// One of more than 65535 bytes: its length would take another form.
pub(crate) fn text(text: &str) -> Result<Vec<u8>> {
    frame(TEXT, text.as_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = vec![FINAL | opcode];
    match u8::try_from(payload.len()) {
        Ok(length) if length < TWO => bytes.push(MASKED | length),
        _ => {
            bytes.push(MASKED | TWO);
            bytes.extend(u16::try_from(payload.len())?.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    Ok(bytes)
}

/// What a connection says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// The head of the answer to [`opening`] is over: from here on there are messages.
    Opened,
    /// A part of a message.
    Data(&'a [u8]),
    /// The server closes.
    Over,
    /// This is to be sent back.
    Reply(Vec<u8>),
}

/// Reads what one connection says, wherever it is cut.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    begun: bool,
    opened: bool,
    /// How much of the answer's last four bytes has come.
    matched: u8,
    head: [u8; HEAD],
    filled: usize,
    left: usize,
    inside: bool,
}

impl Messages {
    /// Takes the next bytes; of the first there are enough for the status.
    ///
    /// # Errors
    /// There is no socket, or a frame is longer than this machine can count.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut said: impl FnMut(Said<'_>)) -> Result<()> {
        ensure!(
            self.begun || bytes.starts_with(STATUS),
            "a socket was answered: {}",
            String::from_utf8_lossy(bytes)
        );
        self.begun = true;
        while let Some((&byte, rest)) = bytes.split_first() {
            if !self.opened {
                bytes = rest;
                self.matched = match (self.matched, byte) {
                    (0 | 2, b'\r') | (1 | 3, b'\n') => self.matched + 1,
                    (_, b'\r') => 1,
                    _ => 0,
                };
                if self.matched == 4 {
                    self.opened = true;
                    said(Said::Opened);
                }
            } else if self.inside {
                let (now, rest) = bytes.split_at(bytes.len().min(self.left));
                bytes = rest;
                self.left -= now.len();
                if matches!(self.opcode(), 0 | TEXT | BINARY) {
                    said(Said::Data(now));
                }
                if self.left == 0 {
                    self.ended(&mut said)?;
                }
            } else {
                bytes = rest;
                if let Some(place) = self.head.get_mut(self.filled) {
                    *place = byte;
                }
                self.filled += 1;
                if let Some(length) = self.length() {
                    (self.filled, self.left, self.inside) = (0, usize::try_from(length)?, true);
                    if self.left == 0 {
                        self.ended(&mut said)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn opcode(&self) -> u8 {
        let [first, ..] = self.head;
        first & OPCODE
    }

    /// How long the payload is, once the head is whole.
    fn length(&self) -> Option<u64> {
        let [_, length, a, b, c, d, e, f, g, h] = self.head;
        match (self.filled, length) {
            (0 | 1, _) => None,
            (4, TWO) => Some(u16::from_be_bytes([a, b]).into()),
            (HEAD, EIGHT) => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (_, TWO | EIGHT) => None,
            (_, length) => Some(length.into()),
        }
    }

    /// A frame is whole. The pings that come here have nothing in them that would have to go back.
    fn ended(&mut self, said: &mut impl FnMut(Said<'_>)) -> Result<()> {
        self.inside = false;
        match self.opcode() {
            CLOSE => said(Said::Over),
            PING => said(Said::Reply(frame(PONG, &[])?)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![FINAL | opcode];
        match payload.len() {
            length @ 0..126 => bytes.push(length.try_into().unwrap()),
            length @ 126..65_536 => {
                bytes.push(TWO);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(EIGHT);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn messages_are_read_wherever_they_are_cut() {
        let long = [b'l'; 300];
        let bytes = [
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n".to_vec(),
            server(TEXT, b"hello"),
            server(PING, b""),
            server(TEXT, &long),
            server(TEXT, b""),
            server(CLOSE, &[3, 0xe8]),
        ]
        .concat();
        for cut in STATUS.len()..bytes.len() {
            let (mut data, mut other) = (Vec::<u8>::new(), Vec::<String>::new());
            let mut messages = Messages::default();
            let (first, second) = bytes.split_at(cut);
            for part in [first, second] {
                let note = |said: Said<'_>| match said {
                    Said::Opened => other.push("opened".to_owned()),
                    Said::Data(bytes) => data.extend(bytes),
                    Said::Over => other.push("over".to_owned()),
                    Said::Reply(bytes) => other.push(format!("reply {bytes:?}")),
                };
                messages.feed(part, note).unwrap();
            }
            assert_eq!(data, [&b"hello"[..], &long].concat(), "cut at {cut}");
            assert_eq!(
                other,
                ["opened", "reply [138, 128, 0, 0, 0, 0]", "over"],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_server_that_opens_none_is_an_error() {
        let said = Messages::default().feed(b"HTTP/1.1 403 Forbidden\r\n\r\n", |_| {});
        assert!(said.unwrap_err().to_string().contains("403 Forbidden"));
    }

    #[test]
    fn one_of_many_bytes_has_its_length_in_eight() {
        let bytes = server(BINARY, &vec![7; 70_000]);
        let mut messages = Messages {
            begun: true,
            opened: true,
            ..Messages::default()
        };
        let mut count = 0;
        let note = |said: Said<'_>| {
            if let Said::Data(bytes) = said {
                count += bytes.len();
            }
        };
        messages.feed(&bytes, note).unwrap();
        assert_eq!(count, 70_000);
    }

    #[test]
    fn what_is_sent_is_masked() {
        assert_eq!(text("hi").unwrap(), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        let long = text(&"x".repeat(300)).unwrap();
        assert_eq!(long[..8], [0x81, 0xfe, 1, 44, 0, 0, 0, 0]);
        assert_eq!(long.len(), 308);
        assert!(text(&"x".repeat(70_000)).is_err());
    }
}

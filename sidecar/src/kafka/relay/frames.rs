//! The few of Kafka's requests that the relay sends itself, and where the frames of everybody else's begin and end.
//!
//! A frame is its length (4 bytes, big-endian) and as many bytes. Formats are those of
//! <https://kafka.apache.org/protocol.html>: ApiVersions 0, SaslHandshake 1, SaslAuthenticate 0 and 1.

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

/// No answer to the relay's own requests is longer; a broker's list of versions has some hundred bytes.
pub(super) const LONGEST: usize = 64 * 1024;

/// A request, without its length. Its correlation id is negative, which none of librdkafka's is.
pub(super) struct Request {
    correlation: i32,
    bytes: Vec<u8>,
}

impl Request {
    fn new(key: i16, version: i16, correlation: i32, client_id: &str) -> Self {
        let mut request = Self {
            correlation,
            bytes: Vec::new(),
        };
        request.bytes.extend(key.to_be_bytes());
        request.bytes.extend(version.to_be_bytes());
        request.bytes.extend(correlation.to_be_bytes());
        request.text(client_id);
        request
    }

    fn text(&mut self, text: &str) {
        // A name that is longer is cut: it is for logs.
        let text = text.get(..text.floor_char_boundary(1024)).unwrap_or_default();
        self.bytes
            .extend(i16::try_from(text.len()).unwrap_or_default().to_be_bytes());
        self.bytes.extend(text.as_bytes());
    }

    /// Asks which versions of requests the broker takes.
    pub(super) fn api_versions(correlation: i32, client_id: &str) -> Self {
        Self::new(API_VERSIONS, 0, correlation, client_id)
    }

    /// Begins SASL.
    pub(super) fn handshake(correlation: i32, client_id: &str, mechanism: &str) -> Self {
        let mut request = Self::new(SASL_HANDSHAKE, 1, correlation, client_id);
        request.text(mechanism);
        request
    }

    /// A message of the mechanism.
    pub(super) fn authenticate(correlation: i32, client_id: &str, version: i16, message: &str) -> Self {
        let mut request = Self::new(SASL_AUTHENTICATE, version, correlation, client_id);
        let length = i32::try_from(message.len()).unwrap_or_default();
        request.bytes.extend(length.to_be_bytes());
        request.bytes.extend(message.as_bytes());
        request
    }

    /// The frame, as it is sent.
    pub(super) fn frame(&self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or_default();
        [&length.to_be_bytes(), self.bytes.as_slice()].concat()
    }

    /// The rest of the answer behind the correlation id, which must be this one's.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn answer<'a>(&self, bytes: &'a [u8]) -> Result<Answer<'a>, String> {
        let mut answer = Answer(bytes);
        if answer.i32()? != self.correlation {
            return Err("it answers another request".to_owned());
        }
        Ok(answer)
    }
}

/// An answer that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a>(&'a [u8]);

const SHORT: &str = "its answer is too short";

/// What SaslAuthenticate gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authenticated {
    /// The mechanism's message.
    pub(super) message: Vec<u8>,
    /// After how many milliseconds the session ends; none: it does not.
    pub(super) lifetime_ms: Option<u64>,
}

impl<'a> Answer<'a> {
    #[cfg(any(test, feature = "parsers"))]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    fn i16(&mut self) -> Result<i16, String> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, String> {
        self.take().map(i32::from_be_bytes)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Text with a length of two bytes; a negative one is none.
    fn text(&mut self) -> Result<Option<String>, String> {
        let Ok(length) = usize::try_from(self.i16()?) else {
            return Ok(None);
        };
        let bytes = self.bytes(length)?;
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }

    /// The highest version of SaslAuthenticate, of those that are spoken here.
    ///
    /// # Errors
    /// The answer is none, or there is no such version.
    pub(super) fn authenticate_version(mut self) -> Result<i16, String> {
        let code = self.i16()?;
        if code != 0 {
            return Err(format!("it does not say which requests it takes (error {code})"));
        }
        let count = usize::try_from(self.i32()?).map_err(|_| SHORT)?;
        // Six bytes each; the count itself may be any.
        for _ in 0..count.min(self.0.len() / 6) {
            let (key, lowest, highest) = (self.i16()?, self.i16()?, self.i16()?);
            if key == SASL_AUTHENTICATE && lowest <= 1 {
                return Ok(highest.clamp(0, 1));
            }
        }
        Err("it takes no SaslAuthenticate: delegation tokens need Kafka 1.1 or later".to_owned())
    }

    /// Whether the mechanism is taken.
    ///
    /// # Errors
    /// It is not, or the answer is none.
    pub(super) fn handshake(mut self) -> Result<(), Refusal> {
        let code = self.i16()?;
        if code == 0 {
            return Ok(());
        }
        let mut mechanisms = Vec::new();
        let count = self.i32().ok().and_then(|count| usize::try_from(count).ok());
        for _ in 0..count.unwrap_or_default().min(32) {
            mechanisms.extend(self.text().ok().flatten());
        }
        Err(Refusal::new(
            code,
            format!("it takes {}", printable(&mechanisms.join(", "))),
        ))
    }

    /// The mechanism's message and how long the session is.
    ///
    /// # Errors
    /// The broker refuses, or the answer is none.
    pub(super) fn authenticate(mut self, version: i16) -> Result<Authenticated, Refusal> {
        let code = self.i16()?;
        let why = self.text()?.unwrap_or_default();
        if code != 0 {
            return Err(Refusal::new(code, printable(&why)));
        }
        let length = usize::try_from(self.i32()?).unwrap_or_default();
        let message = self.bytes(length)?.to_vec();
        let lifetime = match version {
            0 => 0,
            _ => i64::from_be_bytes(self.take()?),
        };
        Ok(Authenticated {
            message,
            lifetime_ms: u64::try_from(lifetime).ok().filter(|ms| *ms > 0),
        })
    }
}

/// What a broker does not take, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) why: String,
}

impl Refusal {
    fn new(code: i16, why: String) -> Self {
        use RDKafkaRespErr as E;
        let error = match code {
            33 => E::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM,
            // It asks for no SASL on that listener.
            34 => E::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
            58 => E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
            _ => E::RD_KAFKA_RESP_ERR__FAIL,
        };
        let why = match code {
            34 => "it asks for no SASL there".to_owned(),
            33 | 58 => why,
            code => format!("error {code}: {why}"),
        };
        Self {
            code: Code::from(error),
            why,
        }
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self {
            code: Code::Fail,
            why,
        }
    }
}

/// A broker's words, short and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Where in its frame a stream of bytes is.
#[derive(Debug, Default)]
pub(super) struct Position {
    size: [u8; 4],
    have: usize,
    left: usize,
}

impl Position {
    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0
    }

    /// Goes on up to the end of the frame, or of the bytes; gives how many bytes that are.
    ///
    /// # Errors
    /// A length is negative: these are no frames.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        for byte in bytes.iter().take(4 - self.have.min(4)) {
            if let Some(place) = self.size.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            taken += 1;
            if self.have == 4 {
                let length = i32::from_be_bytes(self.size);
                self.left = usize::try_from(length).map_err(|_| "no Kafka frame".to_owned())?;
            }
        }
        if self.have < 4 {
            return Ok(taken);
        }
        let body = self.left.min(bytes.len() - taken);
        self.left -= body;
        if self.left == 0 {
            self.have = 0;
        }
        Ok(taken + body)
    }
}

/// Takes the answers to the relay's own requests out of a stream of answers.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// Length and correlation id of the frame that begins.
    head: Vec<u8>,
    left: usize,
    /// The answer that is being taken out.
    own: Option<Vec<u8>>,
}

impl Sieve {
    /// Puts what is not the relay's at the end of `through`, and its own answers, without their lengths, into `own`.
    ///
    /// # Errors
    /// These are no frames, or an answer of the relay's own is longer than [`LONGEST`].
    pub(super) fn sift(
        &mut self,
        mut bytes: &[u8],
        through: &mut Vec<u8>,
        own: &mut Vec<Vec<u8>>,
    ) -> Result<(), String> {
        loop {
            if self.left > 0 {
                let (body, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= body.len();
                bytes = rest;
                match &mut self.own {
                    Some(answer) => answer.extend(body),
                    None => through.extend(body),
                }
            }
            if self.left == 0 {
                own.extend(self.own.take());
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let (head, rest) = bytes.split_at((8 - self.head.len()).min(bytes.len()));
            self.head.extend(head);
            bytes = rest;
            let Some((length, correlation)) = self.head.split_first_chunk::<4>() else {
                continue;
            };
            let Ok(correlation) = <[u8; 4]>::try_from(correlation) else {
                continue;
            };
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            self.left = length
                .and_then(|length| length.checked_sub(4))
                .ok_or("no Kafka frame")?;
            if i32::from_be_bytes(correlation) < 0 {
                if self.left > LONGEST {
                    return Err(format!("an answer of {} bytes: too long", self.left));
                }
                self.own = Some(correlation.to_vec());
            } else {
                through.extend(&self.head);
            }
            self.head.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_the_protocol_says() {
        let frame = Request::handshake(-2, "me", "SCRAM-SHA-256").frame();
        let expected = b"\0\0\0\x1b\0\x11\0\x01\xff\xff\xff\xfe\0\x02me\0\x0dSCRAM-SHA-256";
        assert_eq!(frame, expected);
        let frame = Request::authenticate(-3, "", 1, "n,,").frame();
        assert_eq!(frame, b"\0\0\0\x11\0\x24\0\x01\xff\xff\xff\xfd\0\0\0\0\0\x03n,,");
        let frame = Request::api_versions(-1, "é").frame();
        assert_eq!(frame, b"\0\0\0\x0c\0\x12\0\0\xff\xff\xff\xff\0\x02\xc3\xa9");
    }

    #[test]
    fn answers_are_read() {
        let request = Request::api_versions(-1, "");
        assert!(
            request
                .answer(b"\0\0\0\x01\0\0")
                .unwrap_err()
                .contains("another request")
        );
        assert!(request.answer(b"\0\0").is_err());
        let versions = |rows: &[(i16, i16, i16)]| {
            let mut bytes = vec![0, 0];
            bytes.extend((rows.len() as i32).to_be_bytes());
            for (a, b, c) in rows {
                [a, b, c].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
            }
            Answer::new(&bytes).authenticate_version()
        };
        assert_eq!(versions(&[(0, 0, 9), (36, 0, 2)]), Ok(1));
        assert_eq!(versions(&[(36, 0, 0)]), Ok(0));
        assert!(versions(&[(36, 2, 3)]).unwrap_err().contains("1.1 or later"));
        assert!(versions(&[]).is_err());
        let error = Answer::new(b"\0\x23\0\0\0\0").authenticate_version();
        assert!(error.unwrap_err().contains("error 35"));

        let refused = Answer::new(b"\0\x21\0\0\0\x01\0\x05PLAIN")
            .handshake()
            .unwrap_err();
        assert_eq!(refused.code, Code::UnsupportedSASLMechanism);
        assert_eq!(refused.why, "it takes PLAIN");
        let refused = Answer::new(b"\0\x22\0\0\0\0").handshake().unwrap_err();
        assert_eq!(refused.code, Code::UnsupportedFeature);
        assert_eq!(refused.why, "it asks for no SASL there");
        assert_eq!(Answer::new(b"\0\0\0\0\0\0").handshake(), Ok(()));

        let good = b"\0\0\xff\xff\0\0\0\x01x\0\0\0\0\0\0\x03\xe8";
        let expected = |lifetime_ms| Authenticated {
            message: b"x".to_vec(),
            lifetime_ms,
        };
        assert_eq!(Answer::new(good).authenticate(1), Ok(expected(Some(1000))));
        assert_eq!(Answer::new(good).authenticate(0), Ok(expected(None)));
        let refused = Answer::new(b"\0\x3a\0\x02no\0\0\0\0")
            .authenticate(1)
            .unwrap_err();
        assert_eq!(
            (refused.code, refused.why.as_str()),
            (Code::SaslAuthenticationFailed, "no")
        );
    }

    #[test]
    fn own_answers_are_taken_out_however_they_are_cut() {
        let frame = |correlation: i32, body: &[u8]| {
            let length = (body.len() as i32 + 4).to_be_bytes();
            [&length, &correlation.to_be_bytes(), body].concat()
        };
        let all = [
            frame(1, b"first"),
            frame(-1, b"own"),
            frame(2, b""),
            frame(-2, b""),
            frame(3, &[7; 300]),
        ];
        let (stream, theirs) = (all.concat(), [&*all[0], &all[2], &all[4]].concat());
        for size in 1..stream.len() {
            let (mut sieve, mut through, mut own) = (Sieve::default(), Vec::new(), Vec::new());
            let mut position = Position::default();
            for chunk in stream.chunks(size) {
                sieve.sift(chunk, &mut through, &mut own).unwrap();
                let mut rest = chunk;
                while !rest.is_empty() {
                    let taken = position.advance(rest).unwrap();
                    assert!(taken > 0);
                    rest = &rest[taken..];
                }
            }
            assert!(position.is_between());
            assert_eq!(through, theirs, "{size}");
            assert_eq!(
                own,
                [b"\xff\xff\xff\xffown".to_vec(), b"\xff\xff\xff\xfe".to_vec()]
            );
        }
        let (mut through, mut own) = (Vec::new(), Vec::new());
        let mut sift = |bytes: &[u8]| Sieve::default().sift(bytes, &mut through, &mut own);
        assert!(sift(b"\0\0\0\x03\0\0\0\0").is_err());
        assert!(sift(b"\0\x01\0\x05\xff\0\0\0").unwrap_err().contains("too long"));
        assert!(Position::default().advance(b"\xff\0\0\0").is_err());
    }

    #[test]
    fn a_position_stops_at_the_end_of_each_frame() {
        let mut position = Position::default();
        let bytes = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c";
        assert_eq!(position.advance(&bytes[..3]), Ok(3));
        assert!(!position.is_between());
        assert_eq!(position.advance(&bytes[3..]), Ok(3));
        assert!(position.is_between());
        assert_eq!(position.advance(&bytes[6..]), Ok(4));
        assert!(position.is_between());
        assert_eq!(position.advance(&bytes[10..]), Ok(5));
        assert!(position.is_between());
    }
}

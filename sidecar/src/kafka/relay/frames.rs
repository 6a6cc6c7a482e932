//! The few of Kafka's requests that the relay sends itself, and where the frames of everybody else's begin and end.
//!
//! A frame is its length (4 bytes, big-endian) and as many bytes. Formats are those of
//! <https://kafka.apache.org/protocol.html>: ApiVersions 0, SaslHandshake 1, SaslAuthenticate 0 and 1.

#[cfg(test)]
mod tests;

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

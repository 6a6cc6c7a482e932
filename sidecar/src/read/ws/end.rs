//! How sockets end: the codes of RFC 6455 (section 7.4.1), and what each of them means here.

use axum::extract::ws::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::super::failure::Failure;

/// The sidecar goes away: come back, with the cursor.
pub(super) const GOING_AWAY: u16 = 1001;
/// The client broke the protocol.
const PROTOCOL_ERROR: u16 = 1002;
/// A binary message, which none is taken.
pub(super) const UNSUPPORTED: u16 = 1003;
/// Nothing was said: the connection was lost. Never sent.
pub(super) const ABNORMAL: u16 = 1006;
/// A text message that is no UTF-8, or no JSON object.
pub(super) const INVALID: u16 = 1007;
/// The client may not have what it reads, or there is no such thing any more.
const POLICY: u16 = 1008;
/// A message that is longer than it may be.
const TOO_BIG: u16 = 1009;
/// Nothing was heard of the client.
pub(super) const ERROR: u16 = 1011;
/// What cannot be done now may be later (IANA's registry of close codes: "Try Again Later").
const TRY_AGAIN: u16 = 1013;

/// The most bytes of a reason (section 5.5: 125 with the code).
const MAX_REASON: usize = 123;

/// The end of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: u16,
    reason: String,
    /// Whether the client said so: it is answered by the library.
    pub(super) by_client: bool,
}

impl End {
    pub(super) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        Self {
            code,
            reason,
            by_client: false,
        }
    }

    /// The connection is gone.
    pub(super) fn lost() -> Self {
        Self::new(ABNORMAL, "")
    }

    /// The client has closed.
    pub(super) fn closed(frame: Option<&CloseFrame>) -> Self {
        Self {
            // It need not say why (section 7.1.5): then the code is 1005, which is as good as 1000.
            by_client: true,
            ..Self::new(frame.map_or(1000, |frame| frame.code), "")
        }
    }

    /// Reading cannot go on.
    pub(super) fn of(failure: &Failure) -> Self {
        let code = if failure.may_pass() { TRY_AGAIN } else { POLICY };
        Self::new(code, failure.code())
    }

    /// The token has ended.
    pub(super) fn expired() -> Self {
        Self::of(&expired())
    }

    /// The client's bytes cannot be read.
    pub(super) fn unreadable(error: axum::Error) -> Self {
        let error = error.into_inner();
        match error.downcast_ref::<Error>() {
            Some(Error::Capacity(error)) => Self::new(TOO_BIG, error.to_string()),
            Some(Error::Utf8(_)) => Self::new(INVALID, "a text message is not UTF-8"),
            Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::lost(),
            Some(Error::Protocol(error)) => Self::new(PROTOCOL_ERROR, error.to_string()),
            _ => Self::lost(),
        }
    }

    /// What the client is told.
    pub(super) fn message(&self) -> Option<Message> {
        (self.code != ABNORMAL && !self.by_client).then(|| {
            Message::Close(Some(CloseFrame {
                code: self.code,
                reason: self.reason.clone().into(),
            }))
        })
    }
}

/// What is said when the token has ended.
pub(super) fn expired() -> Failure {
    Failure::bad_token("the token has expired: come back with another one and the last cursor")
}

#[cfg(test)]
mod tests {
    use super::super::super::failure::Kind;
    use super::*;

    #[test]
    fn a_reason_fits_into_its_frame() {
        for text in ["x", "é", "\u{1f980}"] {
            let End { reason, .. } = End::new(ERROR, text.repeat(200));
            assert!(
                reason.len() <= MAX_REASON && reason.len() > MAX_REASON - 4,
                "{reason}"
            );
        }
    }

    #[test]
    fn what_the_client_cannot_help_is_no_policy() {
        assert_eq!(End::of(&Failure::new(Kind::UnknownTopic, "gone")).code, POLICY);
        assert_eq!(End::of(&Failure::new(Kind::OutOfRange, "gone")).code, POLICY);
        for kind in [Kind::Unavailable, Kind::NoKeys, Kind::Overloaded] {
            assert_eq!(End::of(&Failure::new(kind, "away")).code, TRY_AGAIN);
        }
        assert_eq!(End::expired().code, POLICY);
    }
}

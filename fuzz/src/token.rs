//! Answers of a token endpoint: any bytes, and answers that are made of them.

use std::time::{Duration, SystemTime};

use serde_json::json;
use sluice::kafka::oidc::parsers::answer;

/// Any answer is read or refused, in words that stay on one line and are bounded. A token that is taken can be sent, and is
/// good for some time yet; one that an issuer made comes out as it went in.
pub(crate) fn answer_of_issuer(bytes: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (head, body) = bytes.split_at(bytes.len().min(1));
    let status = [200, 204, 302, 401, 500, 100][usize::from(head.first().copied().unwrap_or_default()) % 6];
    match answer(status, body, now) {
        Ok((token, ends)) => {
            assert!(status < 300 && ends > now);
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic()) && !token.is_empty());
        }
        Err(why) => {
            assert!(why.chars().count() < 600, "{why}");
            assert!(!why.contains(char::is_control), "{why:?}");
        }
    }
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_~+/=".contains(byte);
    let token: String = body.iter().copied().filter(legal).map(char::from).collect();
    let seconds = 1 + u32::from(head.first().copied().unwrap_or_default());
    let made = json!({"access_token": token, "expires_in": seconds}).to_string();
    let read = answer(200, made.as_bytes(), now);
    assert_eq!(read.is_ok(), !token.is_empty(), "{read:?}");
    if let Ok((found, ends)) = read {
        assert_eq!((found, ends), (token, now + Duration::from_secs(seconds.into())));
    }
}

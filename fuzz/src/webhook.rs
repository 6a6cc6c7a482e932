//! What handlers answer, and the targets that somebody names.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sluice::subscriptions::sink::egress::{Author, Egress, Place};
use sluice::subscriptions::sink::{Target, parsers};
use url::Url;

/// `Retry-After` and the status of a body: any bytes are read or not, and what is read is what another reader makes of it.
pub(crate) fn answer(bytes: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let visible = bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    let text = std::str::from_utf8(bytes).ok().filter(|_| visible).map(str::trim);
    let seconds = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let read = parsers::retry_after(bytes, now);
    if let Some(seconds) = seconds.and_then(|seconds| seconds.parse::<u64>().ok()) {
        assert_eq!(read, Some(Duration::from_secs(seconds)));
    } else if let (Some(after), None) = (read, seconds) {
        // A date: the furthest is the end of the year 9999.
        assert!(after < Duration::from_secs(10_000 * 366 * 86_400), "{after:?}");
    }
    let said = parsers::status(bytes);
    let json: Option<Value> = serde_json::from_slice(bytes).ok();
    let status = json.as_ref().and_then(|json| json.get("status"));
    assert_eq!(said.is_some(), status.is_some());
    if let (Some(said), Some(Value::String(word))) = (said, status) {
        let known = ["SUCCESS", "RETRY", "DROP"].contains(&word.as_str());
        assert_eq!(known, said == *word, "{said} {word}");
    }
}

/// Any target is taken or refused, in words; what is taken leads where a second reading says, and nobody by the API is
/// let to what is not the internet.
pub(crate) fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // Expressions are jq's own target.
    if text.contains("{{") {
        return;
    }
    let Ok(target) = Target::webhook(text) else {
        return;
    };
    let url = Url::parse(text).expect("a target is a URL");
    let place = Place::of(&url).expect("a target has a place");
    assert_eq!(target.place(), &place);
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(!target.shown().contains('?'), "{}", target.shown());
    assert!(Egress::default().check(&place, Author::Api).is_err());
    let plain = place.host().parse::<IpAddr>().ok();
    assert_eq!(plain, place.address(), "{text}");
    let metadata = plain == Some(IpAddr::from([169, 254, 169, 254]));
    assert!(!metadata || Egress::default().check(&place, Author::Config).is_err());
}

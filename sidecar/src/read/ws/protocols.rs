//! What a client offers in `Sec-WebSocket-Protocol`: our protocol, and its token where it cannot set a header. Browsers let
//! pages set no other header of a WebSocket, and an address with a token in it is in every log on the way.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::failure::Failure;

/// The one protocol that there is.
pub(super) const PROTOCOL: &str = "sluice.v1";
/// What a token follows that has only characters that a protocol's name may have.
const BEARER: &str = "bearer.";
/// What any token follows in base64, URL-safe and without padding: the way of Kubernetes' API server.
const BEARER_BASE64: &str = "base64url.bearer.";
/// The most bytes of a token.
const MAX_TOKEN: usize = 8192;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether to answer with [`PROTOCOL`]. The token that is offered, if one is, goes into `headers` as if it had come there.
///
/// Fails if what is offered cannot be served, in words without the token.
pub(super) fn settle<'a>(
    offered: impl Iterator<Item = &'a HeaderValue>,
    headers: &mut HeaderMap,
) -> Result<bool, Failure> {
    let (mut ours, mut any, mut token) = (false, false, None);
    for value in offered.filter(|value| !value.is_empty()) {
        any = true;
        let text = value.to_str().unwrap_or_default();
        if text == PROTOCOL {
            ours = true;
        } else if let Some(given) = token_of(text)
            && token.replace(given?).is_some()
        {
            return Err(Failure::invalid(
                "Sec-WebSocket-Protocol offers two tokens: offer one",
            ));
        }
    }
    if any && !ours {
        return Err(Failure::invalid(format!(
            "Sec-WebSocket-Protocol does not offer {PROTOCOL}, which is the one that is spoken here: offer it, beside a token"
        )));
    }
    let Some(token) = token else { return Ok(ours) };
    if headers.contains_key(AUTHORIZATION) {
        return Err(Failure::invalid(
            "there is a token in Authorization and another one in Sec-WebSocket-Protocol: send one",
        ));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Failure::invalid("the token in Sec-WebSocket-Protocol is no token"))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(ours)
}

/// The token in a protocol's name, if there is meant to be one.
fn token_of(text: &str) -> Option<Result<String, Failure>> {
    let wrong =
        || Failure::invalid("the token in Sec-WebSocket-Protocol is no base64 of visible ASCII characters");
    let token = if let Some(encoded) = text.strip_prefix(BEARER_BASE64) {
        let decoded = BASE64.decode(encoded).ok();
        decoded
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(wrong)
    } else {
        Ok(text.strip_prefix(BEARER)?.to_owned())
    };
    Some(token.and_then(|token| {
        let good =
            !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(|b| b.is_ascii_graphic());
        good.then_some(token).ok_or_else(wrong)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(offered: &[&str], header: Option<&str>) -> Result<(bool, Option<String>), String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        }
        let offered: Vec<_> = offered
            .iter()
            .map(|one| HeaderValue::from_str(one).unwrap())
            .collect();
        match settle(offered.iter(), &mut headers) {
            Ok(ours) => {
                let shown = headers
                    .get(AUTHORIZATION)
                    .map(|value| value.to_str().unwrap().to_owned());
                Ok((ours, shown))
            }
            Err(failure) => Err(failure.body().to_string()),
        }
    }

    #[test]
    fn a_token_comes_in_two_ways() {
        let bearer = |token: &str| Ok((true, Some(format!("Bearer {token}"))));
        assert_eq!(settled(&[], None), Ok((false, None)));
        assert_eq!(settled(&["sluice.v1"], None), Ok((true, None)));
        assert_eq!(settled(&["bearer.a-b.c", "sluice.v1"], None), bearer("a-b.c"));
        for encoded in ["YS9iPT0", "YS9iPT0="] {
            let protocol = format!("base64url.bearer.{encoded}");
            assert_eq!(settled(&["sluice.v1", &protocol], None), bearer("a/b=="));
        }
        assert_eq!(settled(&["sluice.v1"], Some("Bearer h")), bearer("h"));
        // Another one that a client also speaks is passed over.
        assert_eq!(settled(&["other", "sluice.v1"], None), Ok((true, None)));
    }

    #[test]
    fn what_cannot_be_served_is_refused_and_no_token_told() {
        for (offered, header) in [
            (&["bearer.secret"][..], None),
            (&["other"], None),
            (&["sluice.v1", "bearer.secret", "bearer.secret"], None),
            (&["sluice.v1", "bearer.secret"], Some("Bearer secret")),
            (&["sluice.v1", "bearer."], None),
            (&["sluice.v1", "base64url.bearer.s*cret"], None),
            (&["sluice.v1", "base64url.bearer.AAAA"], None),
        ] {
            let why = settled(offered, header).expect_err("refused");
            assert!(!why.contains("secret"), "{why}");
        }
    }
}

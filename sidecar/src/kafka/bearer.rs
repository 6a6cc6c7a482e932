//! Bearer tokens for SASL/OAUTHBEARER (RFC 7628): where they are from, and how long they are good for.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::iam;
use crate::config::{BearerToken, Secret, TokenSource};

/// A longer file is no token.
const LONGEST: u64 = 64 * 1024;
/// How long a token is taken for good that does not say so itself. A file is read again after four fifths of that.
const UNKNOWN: Duration = Duration::from_secs(60);
/// The same for one that is always the same, and need not be looked at again.
const FIXED: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A token to be shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) token: Secret,
    /// When it ends, in milliseconds since 1970.
    pub(super) until_ms: i64,
    /// Whose it is, for the client's own use.
    pub(super) principal: String,
}

impl BearerToken {
    /// Whether having one may take seconds, since others are asked first.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.source, TokenSource::Oidc(_) | TokenSource::AwsMskIam(_))
    }

    /// The token to show now. Blocks for a file, and while an issuer or AWS is asked. `refused`: a broker did not take
    /// the last one.
    ///
    /// # Errors
    /// There is none, in words without secrets.
    pub(super) fn get(&self, now: SystemTime, refused: bool) -> Result<Shown, String> {
        let (token, unknown) = match &self.source {
            TokenSource::AwsMskIam(iam) => return iam::token(iam, now),
            TokenSource::Fixed(token) => (token.clone(), FIXED),
            TokenSource::File(file) => (Secret::new(read_file(file)?), UNKNOWN),
            TokenSource::Unsecured { principal, lifetime } => {
                (unsecured(principal, *lifetime, now), *lifetime)
            }
            TokenSource::Oidc(issuer) => return issuer.get(now, refused),
        };
        check(token.expose(), now)?;
        let ends = end(token.expose()).unwrap_or(now + unknown);
        Ok(shown(token, ends))
    }
}

/// A token that is good until `ends`.
pub(super) fn shown(token: Secret, ends: SystemTime) -> Shown {
    let principal = claims(token.expose()).and_then(|claims| claims.get("sub")?.as_str().map(str::to_owned));
    Shown {
        token,
        until_ms: i64::try_from(since_epoch(ends).as_millis()).unwrap_or(i64::MAX),
        principal: principal.unwrap_or_else(|| "sluice".to_owned()),
    }
}

/// When a token ends, if it says so itself.
pub(super) fn end(token: &str) -> Option<SystemTime> {
    claims(token).as_ref().and_then(expiry)
}

/// The token in a file, without the line break at its end.
///
/// # Errors
/// It cannot be read, or is no token.
pub(crate) fn read_file(file: &Path) -> Result<String, String> {
    let name = file.display();
    let size = std::fs::metadata(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    if size.len() > LONGEST {
        return Err(format!(
            "{name} has {} bytes, and a token {LONGEST} at most",
            size.len()
        ));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{name} is empty"));
    }
    Ok(text.to_owned())
}

/// Whether a token can be shown now.
///
/// # Errors
/// Why not, without quoting it: it is not written like one (RFC 6750, `b64token`), or it has expired.
pub(crate) fn check(token: &str, now: SystemTime) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if token.is_empty() || !token.chars().all(legal) {
        return Err("is no bearer token: letters, digits and `-._~+/=` make one (RFC 6750)".to_owned());
    }
    match end(token) {
        Some(ends) if ends <= now => {
            let ends = humantime::format_rfc3339_seconds(ends);
            Err(format!("the token expired at {ends}"))
        }
        _ => Ok(()),
    }
}

/// Whether a name and a value may be a SASL extension (RFC 7628, section 3.1).
pub(crate) fn is_extension(name: &str, value: &str) -> bool {
    let letters = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    let printable = value.chars().all(|c| matches!(c, ' '..='~' | '\t' | '\r' | '\n'));
    letters && name != "auth" && printable && !value.is_empty()
}

/// The claims of a token that is a JWT (RFC 7519). Nobody checks its signature here: that is the broker's part.
fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_header, payload) = (parts.next()?, parts.next()?);
    let payload = payload.trim_end_matches('=');
    let json = URL_SAFE_NO_PAD
        .decode(payload)
        .or_else(|_| STANDARD_NO_PAD.decode(payload));
    serde_json::from_slice(&json.ok()?).ok()
}

fn expiry(claims: &Value) -> Option<SystemTime> {
    let seconds = claims.get("exp")?.as_f64()?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// A JWT that nobody signed (RFC 7515, appendix A.5).
fn unsecured(principal: &str, lifetime: Duration, now: SystemTime) -> Secret {
    let now = since_epoch(now);
    let claims = json!({
        "sub": principal,
        "iat": now.as_secs(),
        "exp": (now + lifetime).as_secs(),
    });
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    Secret::new(format!(
        "{}.{}.",
        encode(&json!({"alg": "none"})),
        encode(&claims)
    ))
}

pub(super) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn shown(source: TokenSource, now: SystemTime) -> Result<Shown, String> {
        let extensions = Default::default();
        BearerToken { source, extensions }.get(now, false)
    }

    #[test]
    fn a_token_says_when_it_ends_and_whose_it_is() {
        let token = Secret::new(jwt(&json!({"sub": "alice", "exp": 100})));
        let found = shown(TokenSource::Fixed(token.clone()), NOW).unwrap();
        assert_eq!((found.until_ms, found.principal.as_str()), (100_000, "alice"));
        assert_eq!(found.token, token);
        let late = NOW + Duration::from_secs(100);
        let why = shown(TokenSource::Fixed(token), late).unwrap_err();
        assert_eq!(why, "the token expired at 1970-01-01T00:01:40Z");
        let opaque = shown(TokenSource::Fixed(Secret::new("abc+/=")), NOW).unwrap();
        assert_eq!(opaque.principal, "sluice");
        assert!(opaque.until_ms > 300_000_000_000, "it is asked for once");
    }

    #[test]
    fn a_file_is_read_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = || TokenSource::File(file.path().to_owned());
        assert!(shown(source(), NOW).unwrap_err().contains("is empty"));
        std::fs::write(file.path(), "first\n").unwrap();
        let found = shown(source(), NOW).unwrap();
        assert_eq!((found.token.expose(), found.until_ms), ("first", 60_000));
        std::fs::write(file.path(), "second\r\n").unwrap();
        assert_eq!(shown(source(), NOW).unwrap().token.expose(), "second");
        std::fs::write(file.path(), "two words").unwrap();
        let why = shown(source(), NOW).unwrap_err();
        assert!(why.contains("RFC 6750") && !why.contains("words"), "{why}");
        std::fs::write(file.path(), "x".repeat(70_000)).unwrap();
        assert!(shown(source(), NOW).unwrap_err().contains("65536 at most"));
        let gone = shown(TokenSource::File("/nowhere/token".into()), NOW);
        assert!(gone.unwrap_err().contains("/nowhere/token"));
    }

    #[test]
    fn an_unsecured_token_names_its_principal() {
        let source = TokenSource::Unsecured {
            principal: "alice \"a\"".to_owned(),
            lifetime: Duration::from_secs(60),
        };
        let found = shown(source, NOW).unwrap();
        assert_eq!(
            (found.until_ms, found.principal.as_str()),
            (60_000, "alice \"a\"")
        );
        assert!(
            found.token.expose().starts_with("eyJhbGciOiJub25lIn0.") && found.token.expose().ends_with('.')
        );
    }

    #[test]
    fn extensions_are_letters_and_printable_text() {
        assert!(is_extension("logicalCluster", "lkc-1 a"));
        for (name, value) in [
            ("auth", "x"),
            ("", "x"),
            ("a1", "x"),
            ("a", ""),
            ("a", "\u{1}"),
            ("a", "é"),
        ] {
            assert!(!is_extension(name, value), "{name} {value}");
        }
    }
}

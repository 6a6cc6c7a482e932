//! JSON Web Tokens (RFC 7519) that an issuer signs and others bring: whether they are good, and what they say.
//!
//! What is looked at, and in which order: the size; the algorithm, which the provider must list and none of which has a secret
//! key; the key, which the issuer must publish ([`keys`]); the signature ([`signature`]); then `exp`, `nbf`, `iss` and `aud`.
//! Nothing of a token is believed before its signature is, but which issuer to ask.

mod keys;
#[cfg(feature = "parsers")]
pub mod parsers;
mod signature;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation, dangerous, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::Name;
pub use keys::KeySet;
pub use source::Jwks;

/// The most bytes that a token may have.
pub const LONGEST: usize = 16 * 1024;
/// The latest that a token is believed to end, from now: what a clock may be told to wait.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The algorithms that a provider may list, by their names (RFC 7518, section 3.1; RFC 8037).
pub const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Whom to believe, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The provider's name in the configuration.
    pub name: String,
    /// What `iss` must be.
    pub issuer: String,
    /// One of these must be in `aud`; empty: whatever it is.
    pub audiences: Vec<String>,
    /// Where the issuer's keys are.
    pub jwks: Jwks,
    /// What tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be from this one.
    pub clock_skew: Duration,
    /// The claim that is the caller's name.
    pub name_claim: Name,
}

/// An issuer whose tokens are taken. Asks for its keys when it first needs them.
pub struct Provider {
    settings: Settings,
    keys: Arc<source::Keys>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// Whose token it is, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// What the provider's `name_claim` says, where the token has it.
    pub name: Option<String>,
    /// All claims.
    pub claims: Map<String, Value>,
    /// From when on the token is not good any more; the clock skew is in it.
    pub until: SystemTime,
}

impl Caller {
    /// How long the token is still good.
    pub fn left(&self) -> Duration {
        let left = self.until.duration_since(SystemTime::now());
        left.unwrap_or_default().min(FOREVER)
    }
}

/// Why a token is not taken. Nothing of the token is in the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not good.
    Token(String),
    /// Nobody knows, since the issuer's keys cannot be had.
    Keys(String),
}

impl Provider {
    /// One that has not been asked yet.
    pub fn new(settings: Settings) -> Self {
        signature::install();
        let keys = Arc::new(source::Keys::new(&settings.name, settings.jwks.clone()));
        Self { settings, keys }
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the token says that it is of this issuer. That says nothing about whether it is.
    pub fn is_named_by(&self, token: &str) -> bool {
        #[derive(Deserialize)]
        struct Issued {
            iss: String,
        }
        token.len() <= LONGEST
            && dangerous::insecure_decode_claims::<Issued>(token)
                .is_ok_and(|issued| issued.iss == self.settings.issuer)
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// It is not good, or the keys cannot be had to tell.
    pub async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let Settings { name, algorithms, .. } = &self.settings;
        let no = |why: String| Err(Refusal::Token(why));
        if token.len() > LONGEST {
            return no(format!("the token has more than {LONGEST} bytes"));
        }
        let Ok(header) = decode_header(token) else {
            return no("the token is no JWT with an algorithm that is known".to_owned());
        };
        if !algorithms.contains(&header.alg) {
            return no(format!(
                "the token is signed with {:?}, which jwt.{name}.algorithms does not list",
                header.alg
            ));
        }
        if header.crit.is_some() {
            return no(
                "the token has critical headers, none of which is known (RFC 7515, 4.1.11)".to_owned(),
            );
        }
        let kid = header.kid.as_deref();
        let mut set = self.keys.current().await.map_err(Refusal::Keys)?;
        if !set.has(kid, header.alg) {
            set = self.keys.newer().await.map_err(Refusal::Keys)?;
        }
        let validation = self.validation(header.alg);
        let mut why = None;
        for key in set.fitting(kid, header.alg) {
            match decode::<Map<String, Value>>(token, key, &validation) {
                Ok(found) => return Ok(self.caller(found.claims)),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => why = Some(error),
                Err(error) => return no(self.words(&error)),
            }
        }
        no(match why {
            Some(error) => self.words(&error),
            None => "the token is signed with a key that its issuer does not publish".to_owned(),
        })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let Settings {
            issuer,
            audiences,
            clock_skew,
            ..
        } = &self.settings;
        let mut validation = Validation::new(algorithm);
        validation.leeway = clock_skew.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(std::slice::from_ref(issuer));
        let mut required = vec!["exp", "iss"];
        if audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn caller(&self, claims: Map<String, Value>) -> Caller {
        let now = SystemTime::now();
        let ends = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let ends = Duration::try_from_secs_f64(ends)
            .ok()
            .and_then(|since| since.checked_add(self.settings.clock_skew));
        let latest = now + FOREVER;
        let until = ends.and_then(|since| UNIX_EPOCH.checked_add(since));
        Caller {
            name: self.settings.name_claim.texts(&claims).into_iter().next(),
            claims,
            until: until.unwrap_or(latest).min(latest),
        }
    }

    /// What is wrong with a token.
    fn words(&self, error: &Error) -> String {
        let Settings { name, audiences, .. } = &self.settings;
        match error.kind() {
            ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
            ErrorKind::ImmatureSignature => "the token is not good yet (nbf)".to_owned(),
            ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
            ErrorKind::InvalidIssuer => format!("the token is of another issuer than jwt.{name}"),
            ErrorKind::InvalidAudience => {
                format!(
                    "the token is for somebody else: its aud has none of {}",
                    audiences.join(", ")
                )
            }
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                format!("the token has no {claim}, or none that can be read")
            }
            _ => "the token is no JWT that can be read".to_owned(),
        }
    }
}

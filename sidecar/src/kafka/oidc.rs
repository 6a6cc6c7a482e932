//! Tokens from an OpenID Connect issuer, by client credentials (RFC 6749, section 4.4).
//!
//! Nobody waits for the issuer but the threads that renew tokens. What it sends is bounded in time and size, and a
//! redirection is not followed: it would take the client's secret elsewhere.

mod call;
#[cfg(feature = "parsers")]
pub mod parsers;
#[cfg(test)]
mod tests;

pub(crate) use call::request;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::Uri;
use serde_json::Value;

use super::bearer::{self, Shown};
use crate::config::Secret;
use crate::fetch::{Trust, plain};

/// How long the issuer may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failure, doubled by each that follows, and its bound.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How old a token is at least that is given up because a broker does not take it.
const REFUSED_AFTER: Duration = Duration::from_secs(10);
/// How long a token is good for that is no JWT and whose issuer does not say.
const UNKNOWN: Duration = Duration::from_secs(300);

/// Where tokens are from, and who asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The token endpoint; `http` or `https`, with a host.
    pub endpoint: Uri,
    /// Who asks.
    pub client_id: String,
    /// The proof of it.
    pub client_secret: Secret,
    /// What the token is to be good for; empty: what the issuer thinks.
    pub scopes: Vec<String>,
    /// How the endpoint's certificate is looked at.
    pub trust: Trust,
}

/// An issuer, and the token that there is. All clients of a cluster share it, so that they do not each ask for one.
pub struct Issuer {
    settings: Settings,
    known: Mutex<Known>,
}

/// The token that there is, or why there is none.
#[derive(Default)]
pub(crate) struct Known {
    token: Option<Token>,
    failure: Option<Failure>,
}

/// A token of an issuer.
#[derive(Debug)]
pub(crate) struct Token {
    value: Secret,
    since: SystemTime,
    ends: SystemTime,
}

struct Failure {
    why: String,
    pause: Duration,
    until: Instant,
}

impl Known {
    /// The token, before half of its time is over; or why there is none, in the pause after a failure; none: the issuer
    /// is to be asked. `refused`: the token that there is was not taken, and is given up if it is older than this.
    pub(crate) fn now(&self, now: SystemTime, refused: Option<Duration>) -> Option<Result<&Token, String>> {
        if let Some(token) = &self.token {
            let age = now.duration_since(token.since).unwrap_or_default();
            let life = token.ends.duration_since(token.since).unwrap_or_default();
            if age < life / 2 && refused.is_none_or(|oldest| age <= oldest) {
                return Some(Ok(token));
            }
        }
        let failure = self.failure.as_ref()?;
        (Instant::now() < failure.until).then(|| Err(failure.why.clone()))
    }

    /// Keeps what the issuer answered.
    ///
    /// # Errors
    /// It gave no token.
    pub(crate) fn learn(&mut self, answer: Result<Token, String>) -> Result<&Token, String> {
        match answer {
            Ok(token) => {
                self.failure = None;
                Ok(self.token.insert(token))
            }
            Err(why) => {
                let longer = |failure: &Failure| (failure.pause * 2).min(LONGEST_PAUSE);
                let pause = self.failure.as_ref().map_or(PAUSE, longer);
                self.failure = Some(Failure {
                    why: why.clone(),
                    pause,
                    until: Instant::now() + pause,
                });
                Err(why)
            }
        }
    }
}

/// What it has does not tell one from another.
impl PartialEq for Issuer {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Issuer {}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Issuer {
    /// One that has not been asked yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            known: Mutex::default(),
        }
    }

    /// Where it is asked.
    pub fn endpoint(&self) -> &Uri {
        &self.settings.endpoint
    }

    /// A token to show: the one that there is, or, after half of its time, another one. Blocks for the issuer, a few seconds
    /// at most. `refused`: a broker did not take the one that there is.
    ///
    /// # Errors
    /// There is no new one, in words without secrets. The issuer is asked again only after a pause.
    pub(super) fn get(&self, now: SystemTime, refused: bool) -> Result<Shown, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.now(now, refused.then_some(REFUSED_AFTER)) {
            return known.map(Token::show);
        }
        let asked = self.ask(now);
        known.learn(asked).map(Token::show)
    }

    fn ask(&self, now: SystemTime) -> Result<Token, String> {
        let answer = call::call(&self.settings, PATIENCE);
        let token = answer.and_then(|answer| read(answer.status, &answer.body, now));
        token.map_err(|why| self.settings.explain(&why))
    }
}

impl Settings {
    /// Says of whom something is told, and nothing that an issuer repeats of what it was told.
    pub(crate) fn explain(&self, why: &str) -> String {
        let host = self
            .endpoint
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        if why.contains(self.client_secret.expose()) {
            return format!(
                "token endpoint {host}: it refuses, and repeats the client's secret while it does"
            );
        }
        format!("token endpoint {host}: {why}")
    }
}

impl Token {
    /// What is shown.
    pub(crate) fn secret(&self) -> &Secret {
        &self.value
    }

    fn show(&self) -> Shown {
        bearer::shown(self.value.clone(), self.ends)
    }
}

/// What an answer says.
///
/// # Errors
/// Why there is no token, in words that may repeat what the issuer said.
pub(crate) fn read(status: u16, body: &[u8], now: SystemTime) -> Result<Token, String> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let text = |key: &str| json.as_ref()?.get(key)?.as_str();
    if (300..400).contains(&status) {
        return Err(format!(
            "it answers {status}, a redirection, which is not followed"
        ));
    }
    if !(200..300).contains(&status) {
        return Err(match (text("error"), text("error_description")) {
            (Some(error), Some(more)) => format!("it answers {status}, {}: {}", plain(error), plain(more)),
            (Some(error), None) => format!("it answers {status}, {}", plain(error)),
            (None, _) => format!("it answers {status}"),
        });
    }
    if json.is_none() {
        return Err(format!("it answers {status}, and what it sends is not JSON"));
    }
    let Some(value) = text("access_token") else {
        return Err(format!("it answers {status}, without an `access_token`"));
    };
    bearer::check(value, now).map_err(|why| format!("its `access_token`: {why}"))?;
    let said = json.as_ref().and_then(|json| json.get("expires_in")?.as_f64());
    let said = said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let said = said.and_then(|life| now.checked_add(life));
    let own = bearer::end(value);
    // Of a token that says itself when it ends, the brokers believe that.
    let ends = said.into_iter().chain(own).min().unwrap_or(now + UNKNOWN);
    if ends <= now {
        return Err("its `access_token` has expired already".to_owned());
    }
    Ok(Token {
        value: Secret::new(value),
        since: now,
        ends,
    })
}

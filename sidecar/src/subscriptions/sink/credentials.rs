//! What a target is shown to know who calls.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use tokio::sync::Mutex;

use super::client::{Body, Client};
use crate::config::Secret;
use crate::kafka::oidc::{self, Known, Token};

/// `authentication`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// `basic`: a name and a password (RFC 7617).
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// `bearer`: a token (RFC 6750).
    Bearer(Secret),
    /// `oauth2`: a token from an issuer, by client credentials (RFC 6749, section 4.4).
    OAuth2(Box<oidc::Settings>),
}

/// A token younger than this is not given up although the target does not take it: the next one would fare no better.
const REFUSED_AFTER: Duration = Duration::from_secs(1);

/// What is shown, kept while it is good.
pub(super) enum Credentials {
    Nothing,
    Fixed(HeaderValue),
    Issued(Box<Issued>),
}

pub(super) struct Issued {
    settings: oidc::Settings,
    client: Client,
    known: Mutex<Known>,
}

impl Credentials {
    /// Of what is configured. `issuer`: a client of the token endpoint.
    ///
    /// # Errors
    /// It cannot be in a header; it is not quoted.
    pub(super) fn new(
        authentication: Option<&Authentication>,
        issuer: impl FnOnce(&oidc::Settings) -> Result<Client, String>,
    ) -> Result<Self, String> {
        Ok(match authentication {
            None => Self::Nothing,
            Some(Authentication::Basic { username, password }) => Self::Fixed(basic(username, password)?),
            Some(Authentication::Bearer(token)) => Self::Fixed(bearer(token)?),
            Some(Authentication::OAuth2(settings)) => Self::Issued(Box::new(Issued {
                client: issuer(settings)?,
                settings: (**settings).clone(),
                known: Mutex::default(),
            })),
        })
    }

    /// Whether there may be another one when a target does not take this.
    pub(super) fn may_change(&self) -> bool {
        matches!(self, Self::Issued(_))
    }

    /// The value of `authorization`. `refused`: the target did not take the last one.
    ///
    /// # Errors
    /// The issuer gives none, in words without secrets.
    pub(super) async fn header(&self, refused: bool) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::Nothing => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::Issued(issued) => issued.header(refused).await.map(Some),
        }
    }
}

impl Issued {
    async fn header(&self, refused: bool) -> Result<HeaderValue, String> {
        // One asks, and whoever needs a token meanwhile waits for that one.
        let mut known = self.known.lock().await;
        let now = SystemTime::now();
        if let Some(known) = known.now(now, refused.then_some(REFUSED_AFTER)) {
            return bearer(known?.secret());
        }
        let asked = self.ask(now).await;
        bearer(known.learn(asked)?.secret())
    }

    async fn ask(&self, now: SystemTime) -> Result<Token, String> {
        let asked = async {
            let mut request = oidc::request(&self.settings)?;
            *request.uri_mut() = self.settings.endpoint.clone();
            let answer = self.client.send(request, crate::fetch::LONGEST).await?;
            match answer.body {
                Body::Whole(body) => oidc::read(answer.status.as_u16(), &body, now),
                Body::TooLong => Err(format!(
                    "its answer has more than {} bytes",
                    crate::fetch::LONGEST
                )),
                Body::Broken(why) => Err(why),
            }
        };
        asked.await.map_err(|why| self.settings.explain(&why))
    }
}

/// `Basic …`
///
/// # Errors
/// There is a `:` in the name.
pub(super) fn basic(username: &str, password: &Secret) -> Result<HeaderValue, String> {
    if username.contains(':') || username.contains(char::is_control) {
        return Err("username: must have no `:` and no control characters in it (RFC 7617)".to_owned());
    }
    let login = STANDARD.encode(format!("{username}:{}", password.expose()));
    sensitive(&format!("Basic {login}"))
}

fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    sensitive(&format!("Bearer {}", token.expose()))
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "is nothing that can be in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

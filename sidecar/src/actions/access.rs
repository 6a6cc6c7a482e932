//! Who asks, for which organisation, and what he may do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::org::{Client, Grant, Grants, Org, User, Who};
use crate::auth::jwt::{Caller as Bearer, Refusal};
use crate::config::{Secret, TopicAllowlist};
use crate::json_api::Error;
use crate::listeners::auth;

/// Names the organisation, where a token is good for several.
const ORG_HEADER: &str = "sluice-org";
/// What tokens begin with that [`issue`] makes.
const TOKEN: &str = "sluice1.";

/// Somebody who may do something in an organisation.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) org: Arc<Org>,
    pub(super) user: User,
    /// What, and of which actions.
    may: Vec<(Grants, TopicAllowlist)>,
}

impl Caller {
    /// Fails unless he may do it at all.
    pub(super) fn check(&self, grant: Grant) -> Result<(), Error> {
        if self.may.iter().any(|(grants, _)| grants.has(grant)) {
            return Ok(());
        }
        Err(Error::NotAllowed(format!(
            "{} may not {grant} in organisation {}: none of its `access` says so",
            self.user.id, self.org.id
        )))
    }

    /// Whether he may do it with this action.
    pub(super) fn may(&self, grant: Grant, action: &str) -> bool {
        let fits = |(grants, actions): &(Grants, TopicAllowlist)| grants.has(grant) && actions.allows(action);
        self.may.iter().any(fits)
    }

    /// Fails unless he may do it with this action.
    pub(super) fn check_action(&self, grant: Grant, action: &str) -> Result<(), Error> {
        self.check(grant)?;
        if self.may(grant, action) {
            return Ok(());
        }
        Err(Error::NotAllowed(format!(
            "{} may not {grant} action {action:?} of organisation {}: the `actions` of its access do not name it",
            self.user.id, self.org.id
        )))
    }
}

/// Who shows the token of a request. Waits for an issuer's keys if there are none yet.
///
/// # Errors
/// Nobody does, or the token is good for several organisations and the request names none.
pub(super) async fn caller(orgs: &BTreeMap<String, Arc<Org>>, headers: &HeaderMap) -> Result<Caller, Error> {
    let wanted = match headers.get(ORG_HEADER) {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| Error::Unreadable(format!("{ORG_HEADER} is no text")))?,
        ),
    };
    let Some(token) = auth::token(headers) else {
        return Err(Error::NotAuthenticated("a bearer token is required".to_owned()));
    };
    let mut found = Vec::new();
    let mut refused: Option<Refusal> = None;
    if token.starts_with(TOKEN) {
        found.extend(of_client(orgs, token, SystemTime::now())?);
    } else {
        let mut verified: Vec<(String, Option<Bearer>)> = Vec::new();
        for org in orgs.values() {
            found.extend(of_org(org, headers, token, &mut verified, &mut refused).await);
        }
    }
    if let Some(wanted) = wanted {
        found.retain(|caller| caller.org.id == wanted);
    }
    match (found.len(), found.pop()) {
        (1, Some(caller)) => Ok(caller),
        (0, _) | (_, None) => Err(match refused {
            Some(Refusal::Keys(why)) => Error::Unavailable(why),
            Some(Refusal::Token(why)) => Error::NotAuthenticated(why),
            None => Error::NotAuthenticated("the bearer token is none that is known here".to_owned()),
        }),
        (_, Some(_)) => Err(Error::Unreadable(format!(
            "the token is good for several organisations: name one in the header {ORG_HEADER}"
        ))),
    }
}

/// Who shows a token, in one organisation.
async fn of_org(
    org: &Arc<Org>,
    headers: &HeaderMap,
    token: &str,
    verified: &mut Vec<(String, Option<Bearer>)>,
    refused: &mut Option<Refusal>,
) -> Option<Caller> {
    let mut user: Option<User> = None;
    let mut may = Vec::new();
    for access in &org.access {
        let him = match &access.who {
            Who::Tokens(tokens, user) => auth::may(headers, tokens).then(|| user.clone()),
            Who::Bearers(bearers) => {
                let provider = &bearers.provider;
                let name = &provider.settings().name;
                if !provider.is_named_by(token) {
                    continue;
                }
                if !verified.iter().any(|(known, _)| known == name) {
                    let bearer = match provider.verify(token).await {
                        Ok(bearer) => Some(bearer),
                        Err(refusal) => {
                            *refused = Some(refusal);
                            None
                        }
                    };
                    verified.push((name.clone(), bearer));
                }
                let bearer = verified.iter().find(|(known, _)| known == name);
                let bearer = bearer.and_then(|(_, bearer)| bearer.as_ref());
                bearer
                    .filter(|bearer| bearers.take(&bearer.claims))
                    .map(|bearer| {
                        let id = bearer.name.clone().unwrap_or_else(|| "somebody".to_owned());
                        User::of_claims(id, &bearer.claims)
                    })
            }
        };
        if let Some(him) = him {
            may.push((access.may, access.actions.clone()));
            user.get_or_insert(him);
        }
    }
    Some(Caller {
        org: Arc::clone(org),
        user: user?,
        may,
    })
}

/// What a token says that [`issue`] made.
#[derive(Serialize, Deserialize)]
struct Said {
    org: String,
    client: String,
    /// Seconds since 1970.
    until: u64,
}

/// Signs what a token says with the client's secret, so that every sidecar of the same configuration takes it, and none does once
/// the secret is another.
fn sign(secret: &Secret, said: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::Unavailable(format!("a token cannot be signed: {error}"));
    let key = PKey::hmac(secret.expose().as_bytes()).map_err(failed)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key).map_err(failed)?;
    signer.update(TOKEN.as_bytes()).map_err(failed)?;
    signer.update(said).map_err(failed)?;
    signer.sign_to_vec().map_err(failed)
}

/// A token for a client, and how long it is good for.
///
/// # Errors
/// There is no such client, or it has another secret.
pub(super) fn issue(
    orgs: &BTreeMap<String, Arc<Org>>,
    client: &str,
    secret: &str,
    now: SystemTime,
) -> Result<(String, Duration), Error> {
    let wrong = || Error::NotAuthenticated("no client has this clientId and clientSecret".to_owned());
    let (org, found) = find(orgs, |org| org.clients.get(client)).ok_or_else(wrong)?;
    if !bool::from(found.secret.expose().as_bytes().ct_eq(secret.as_bytes())) {
        return Err(wrong());
    }
    let until = (now + org.token_lifetime)
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let said = Said {
        org: org.id.clone(),
        client: client.to_owned(),
        until: until.as_secs(),
    };
    let said = serde_json::to_vec(&said).map_err(|error| Error::Unavailable(error.to_string()))?;
    let signature = sign(&found.secret, &said)?;
    let token = format!(
        "{TOKEN}{}.{}",
        URL_SAFE_NO_PAD.encode(said),
        URL_SAFE_NO_PAD.encode(signature)
    );
    Ok((token, org.token_lifetime))
}

fn find<'a>(
    orgs: &'a BTreeMap<String, Arc<Org>>,
    client: impl Fn(&'a Org) -> Option<&'a Client>,
) -> Option<(&'a Arc<Org>, &'a Client)> {
    orgs.values().find_map(|org| Some((org, client(org)?)))
}

/// The client whose token it is.
pub(super) fn of_client(
    orgs: &BTreeMap<String, Arc<Org>>,
    token: &str,
    now: SystemTime,
) -> Result<Option<Caller>, Error> {
    let said = || {
        let (said, signature) = token.strip_prefix(TOKEN)?.split_once('.')?;
        let said = URL_SAFE_NO_PAD.decode(said).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let read: Said = serde_json::from_slice(&said).ok()?;
        Some((said, signature, read))
    };
    let Some((said, signature, read)) = said() else {
        return Ok(None);
    };
    let Some(org) = orgs.get(&read.org) else {
        return Ok(None);
    };
    let Some(client) = org.clients.get(&read.client) else {
        return Ok(None);
    };
    if !bool::from(sign(&client.secret, &said)?.ct_eq(&signature)) {
        return Ok(None);
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if now.as_secs() >= read.until {
        return Err(Error::NotAuthenticated(
            "the token has expired: get another one by POST /v1/auth/access_token".to_owned(),
        ));
    }
    Ok(Some(Caller {
        org: Arc::clone(org),
        user: User {
            id: read.client,
            ..User::default()
        },
        may: vec![(client.may, client.actions.clone())],
    }))
}

//! What a request chooses of what its entry leaves to it: the words, and the rules, are those of the filter's choices.

use axum::http::{HeaderMap, Uri};
use serde_json::{Map, Value};

use super::failure::{Failure, Kind};
use crate::config::{Choice, ChosenFrom, NoChoice, Read, ReadTopics, Said};

/// What of a request says something.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The query, decoded.
    arguments: Vec<(String, String)>,
}

impl<'a> Request<'a> {
    pub(super) fn new(uri: &Uri, headers: &'a HeaderMap) -> Self {
        let query = uri.query().unwrap_or_default();
        let arguments = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self {
            headers,
            arguments: arguments.collect(),
        }
    }

    /// Whether there is a query argument of this name.
    pub(super) fn has(&self, argument: &str) -> bool {
        self.arguments.iter().any(|(name, _)| name == argument)
    }
}

/// What `from` says in the request, or in the caller's token.
fn said(from: &ChosenFrom, request: &Request<'_>, claims: Option<&Map<String, Value>>) -> Option<Vec<u8>> {
    match from {
        ChosenFrom::Header(name) => request.headers.get(name).map(|value| value.as_bytes().to_vec()),
        ChosenFrom::Query(argument) => {
            let found = request.arguments.iter().find(|(name, _)| name == argument);
            found.map(|(_, value)| value.clone().into_bytes())
        }
        ChosenFrom::Claim(name) => {
            let said = claims.and_then(|claims| name.texts(claims).into_iter().next());
            said.map(String::into_bytes)
        }
    }
}

/// The value of `field` that the request chooses. A value that is not listed is 403, and none without a default 400.
pub(super) fn chosen<'c>(
    choice: &'c Choice,
    field: &str,
    request: &Request<'_>,
    claims: Option<&Map<String, Value>>,
) -> Result<&'c str, Failure> {
    let from = &choice.from;
    let chosen = choice.choose(said(from, request, claims).as_deref());
    chosen.map_err(|why| match why {
        NoChoice::Missing => missing(field, from),
        NoChoice::NotListed => Failure::new(
            match field {
                "topic" => Kind::NotAllowed,
                "group" => Kind::GroupNotAllowed,
                _ => Kind::NotAuthorised,
            },
            format!("{field}: what {from} says is not among what the entry allows"),
        ),
    })
}

/// What fails a request that does not say what it has to.
pub(super) fn missing(field: &str, from: &ChosenFrom) -> Failure {
    Failure::invalid(format!(
        "{field}: {from} is missing, and the entry has no default"
    ))
}

/// The value of `field` that the request says, which may be anything that is text; none: it says nothing.
pub(super) fn any(
    from: &ChosenFrom,
    field: &str,
    request: &Request<'_>,
    claims: Option<&Map<String, Value>>,
) -> Result<Option<String>, Failure> {
    let text = said(from, request, claims).map(String::from_utf8).transpose();
    text.map_err(|_| Failure::invalid(format!("{field}: what {from} says is not UTF-8")))
}

/// The query arguments that choose something in `entry`.
pub(super) fn arguments(entry: &Read) -> impl Iterator<Item = &str> {
    let topic = match &entry.topics {
        ReadTopics::Chosen(choice) => Some(&choice.from),
        _ => None,
    };
    let all = [
        topic,
        entry.from.as_ref().map(|choice| &choice.from),
        entry.chosen_reset.as_ref().map(|choice| &choice.from),
        entry.groups.said.as_ref().map(Said::from),
        entry.key.as_ref().map(Said::from),
    ];
    all.into_iter().flatten().filter_map(|from| match from {
        ChosenFrom::Query(name) => Some(name.as_str()),
        ChosenFrom::Header(_) | ChosenFrom::Claim(_) => None,
    })
}

/// Refuses arguments that choose something in another entry than this.
pub(super) fn refuse_strangers<'n>(
    names: impl Iterator<Item = &'n String>,
    entry: &Read,
    request: &Request<'_>,
) -> Result<(), Failure> {
    for name in names.filter(|name| request.has(name)) {
        if !arguments(entry).any(|own| own == name) {
            return Err(Failure::invalid(format!(
                "query: {name} means nothing for this topic: no choice of its entry is made by it"
            )));
        }
    }
    Ok(())
}

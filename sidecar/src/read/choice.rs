//! What a request chooses of what its entry leaves to it: the words, and the rules, are those of the filter's choices.

use axum::http::{HeaderMap, Uri};
use serde_json::{Map, Value};

use super::failure::{Failure, Kind};
use crate::config::{Choice, ChosenFrom, NoChoice, Read, ReadTopics};

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

/// The value of `field` that the request chooses. A value that is not listed is 403, and none without a default 400.
pub(super) fn chosen<'c>(
    choice: &'c Choice,
    field: &str,
    request: &Request<'_>,
    claims: Option<&Map<String, Value>>,
) -> Result<&'c str, Failure> {
    let from = &choice.from;
    let chosen = match from {
        ChosenFrom::Header(name) => choice.choose(request.headers.get(name).map(|value| value.as_bytes())),
        ChosenFrom::Query(argument) => {
            let found = request.arguments.iter().find(|(name, _)| name == argument);
            choice.choose(found.map(|(_, value)| value.as_bytes()))
        }
        ChosenFrom::Claim(name) => {
            let said = claims.and_then(|claims| name.texts(claims).into_iter().next());
            choice.choose(said.as_deref().map(str::as_bytes))
        }
    };
    chosen.map_err(|why| match why {
        NoChoice::Missing => Failure::invalid(format!(
            "{field}: {from} is missing, and the entry has no default"
        )),
        NoChoice::NotListed => Failure::new(
            if field == "topic" {
                Kind::NotAllowed
            } else {
                Kind::NotAuthorised
            },
            format!("{field}: what {from} says is not among what the entry allows"),
        ),
    })
}

/// The choices of an entry, by their fields.
fn choices(entry: &Read) -> impl Iterator<Item = (&'static str, &Choice)> {
    let topic = match &entry.topics {
        ReadTopics::Chosen(choice) => Some(choice),
        _ => None,
    };
    let all = [
        ("topic", topic),
        ("from", entry.from.as_ref()),
        ("auto_offset_reset", entry.chosen_reset.as_ref()),
    ];
    all.into_iter()
        .filter_map(|(field, choice)| Some((field, choice?)))
}

/// The query arguments that choose something in `entry`.
pub(super) fn arguments(entry: &Read) -> impl Iterator<Item = &str> {
    choices(entry).filter_map(|(_, choice)| match &choice.from {
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

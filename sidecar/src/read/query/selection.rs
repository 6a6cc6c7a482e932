//! Which topics are read, and from where on.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::super::access::Granted;
use super::super::cursor::Cursor;
use super::super::failure::{Failure, Kind};
use super::{Asked, MAX_TOPICS};
use crate::config::{self, ChosenFrom, Read};

impl Asked {
    /// The topics, and the entry that says how they are read: that of the first.
    pub(super) async fn topics<'a>(
        &self,
        topic: Option<&str>,
        granted: &Granted<'a>,
    ) -> Result<(Vec<Arc<str>>, &'a Read), Failure> {
        let mut names: Vec<String> = match (topic, &self.topics, &self.topics_pattern) {
            (Some(topic), None, None) => vec![topic.to_owned()],
            (None, Some(list), None) => list.split(',').map(|name| name.trim().to_owned()).collect(),
            (None, None, Some(pattern)) => self.matching(pattern, granted).await?,
            (Some(_), _, _) => {
                return Err(Failure::invalid(
                    "topics and topics_pattern are for /records, /stream and /ws: the path names a topic already",
                ));
            }
            (None, Some(_), Some(_)) => {
                return Err(Failure::invalid("topics and topics_pattern are both there"));
            }
            (None, None, None) => match granted.topic()? {
                Some(topic) => vec![topic],
                None => {
                    return Err(Failure::invalid(
                        "topics is required, as topics=a,b, or topics_pattern",
                    ));
                }
            },
        };
        names.sort();
        names.dedup();
        if names.len() > MAX_TOPICS {
            return Err(Failure::invalid(format!(
                "the request reads {} topics, and may read {MAX_TOPICS}",
                names.len()
            )));
        }
        let mut how: Option<&Read> = None;
        for name in &names {
            config::check_topic(name).map_err(Failure::invalid)?;
            let entry = granted.check(name)?;
            how = how.or(Some(entry));
        }
        let how = how.ok_or_else(|| {
            Failure::new(
                Kind::UnknownTopic,
                "no topic that the caller may read has a name that topics_pattern matches",
            )
        })?;
        Ok((names.into_iter().map(Arc::from).collect(), how))
    }

    /// The topics that match and may be read.
    async fn matching(&self, pattern: &str, granted: &Granted<'_>) -> Result<Vec<String>, Failure> {
        granted.anything()?;
        let pattern = config::topics_pattern(pattern)
            .map_err(|why| Failure::invalid(format!("topics_pattern {why}")))?;
        let all = granted.reader.topics().await?;
        let may = |name: &String| pattern.is_match(name) && granted.entry(name).is_some();
        Ok(all.into_iter().filter(may).collect())
    }

    /// `cursor`, or where a stream ended before.
    pub(super) fn cursor(&self, headers: &HeaderMap) -> Result<Option<Cursor>, Failure> {
        let header = match headers.get("last-event-id") {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .map_err(|_| Failure::invalid("Last-Event-ID is not ASCII"))?,
            ),
        };
        // A browser sends the header when it comes back, with the address that it had at first: the header is the newer.
        let given = [
            ("Last-Event-ID", header),
            ("Last-Event-ID", self.last_event_id.as_deref()),
            ("cursor", self.cursor.as_deref()),
        ];
        for (name, text) in given {
            // An event stream that sends no id is asked for with an empty one.
            if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
                let cursor = Cursor::parse(text);
                return cursor
                    .map(Some)
                    .map_err(|why| Failure::invalid(format!("{name} {why}")));
            }
        }
        Ok(None)
    }

    /// Where reading starts: what the request says, or what it chooses where the entry does not let it say.
    pub(super) fn from<'c>(
        &'c self,
        entry: &'c Read,
        granted: &Granted<'_>,
        topic: &str,
    ) -> Result<Option<&'c str>, Failure> {
        let Some(choice) = &entry.from else {
            return Ok(self.from.as_deref());
        };
        if self.from.is_some() && choice.from != ChosenFrom::Query("from".to_owned()) {
            return Err(Failure::invalid(format!(
                "from: {} chooses it for this topic, and not the argument",
                choice.from
            )));
        }
        granted.chosen(choice, "from", topic).map(Some)
    }
}

//! Arguments that mean nothing to who is answered: they are refused, and not passed over.

use super::super::failure::Failure;
use super::super::item::Format;
use super::{Asked, Way};

impl Asked {
    /// Refuses everything but the cluster's name, and the group where its position is told: no records are asked for.
    pub(in crate::read) fn refuse_all_but_the_cluster(&self, group_too: bool) -> Result<(), Failure> {
        let Self {
            cluster_name: _,
            topics,
            topics_pattern,
            partition,
            limit,
            max_wait,
            max_bytes,
            from,
            cursor,
            format,
            last_event_id,
            heartbeat_interval_in_ms,
            metadata_as_comment,
            headers_as_comment,
            group,
            qos,
            fields,
            view,
            frames,
            max_in_flight,
            paused,
            filters,
        } = self;
        let given = [
            ("topics", topics.is_some()),
            ("topics_pattern", topics_pattern.is_some()),
            ("partition", partition.is_some()),
            ("limit", limit.is_some()),
            ("max_wait", max_wait.is_some()),
            ("max_bytes", max_bytes.is_some()),
            ("from", from.is_some()),
            ("cursor", cursor.is_some()),
            ("format", *format != Format::default()),
            ("Last-Event-ID", last_event_id.is_some()),
            ("heartbeatIntervalInMs", heartbeat_interval_in_ms.is_some()),
            ("metadataAsComment", *metadata_as_comment),
            ("headersAsComment", *headers_as_comment),
            ("group", group.is_some() && !group_too),
            ("qos", qos.is_some()),
            ("fields", fields.is_some()),
            ("view", view.is_some()),
            ("frames", frames.is_some()),
            ("max_in_flight", max_in_flight.is_some()),
            ("paused", paused.is_some()),
            ("key, header, where or jq", !filters.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::invalid(format!("query: {name} means nothing here"))),
            None => Ok(()),
        }
    }

    /// Refuses what means nothing to who is answered in this way.
    pub(in crate::read) fn refuse_strangers(&self, way: Way) -> Result<(), Failure> {
        use Way::{Events, Page, Socket};
        const STREAMS: &str = "is for streams: /stream, or Accept: text/event-stream; or /ws";
        const EVENTS: &str = "is for event streams: /stream, or Accept: text/event-stream";
        const PAGES: &str = "means nothing to a stream, which has no end";
        const SOCKETS: &str = "is for WebSockets: /ws";
        let rows: [(&str, bool, &[Way], &str); 10] = [
            (
                "view",
                self.view.is_some(),
                &[Page],
                "is for reads: read it, and stream from its position on",
            ),
            (
                "heartbeatIntervalInMs",
                self.heartbeat_interval_in_ms.is_some(),
                &[Events, Socket],
                STREAMS,
            ),
            ("metadataAsComment", self.metadata_as_comment, &[Events], EVENTS),
            ("headersAsComment", self.headers_as_comment, &[Events], EVENTS),
            ("limit", self.limit.is_some(), &[Page], PAGES),
            ("max_wait", self.max_wait.is_some(), &[Page], PAGES),
            ("max_bytes", self.max_bytes.is_some(), &[Page], PAGES),
            ("frames", self.frames.is_some(), &[Socket], SOCKETS),
            ("max_in_flight", self.max_in_flight.is_some(), &[Socket], SOCKETS),
            ("paused", self.paused.is_some(), &[Socket], SOCKETS),
        ];
        let stranger = rows
            .into_iter()
            .find(|(_, given, ways, _)| *given && !ways.contains(&way));
        match stranger {
            Some((name, _, _, why)) => Err(Failure::invalid(format!("{name} {why}"))),
            None => Ok(()),
        }
    }

    /// Refuses what means nothing to a view.
    pub(in crate::read) fn refuse_for_view(&self) -> Result<(), Failure> {
        let strangers = [
            ("topics_pattern", self.topics_pattern.is_some()),
            ("partition", self.partition.is_some()),
            ("from", self.from.is_some()),
            ("max_wait", self.max_wait.is_some()),
            ("Last-Event-ID", self.last_event_id.is_some()),
            ("group", self.group.is_some()),
            ("qos", self.qos.is_some()),
        ];
        match strangers.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Failure::invalid(format!(
                "{name} means nothing to a view, which is of all of a topic (to wait, send If-None-Match and Prefer: wait=10)"
            ))),
            None => Ok(()),
        }
    }
}

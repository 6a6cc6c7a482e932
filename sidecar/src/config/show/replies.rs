use humantime::format_duration;

use super::Page;
use crate::config::{Replies, ReplyTopic};

impl Page<'_> {
    pub(super) fn replies(&mut self, replies: &Replies) {
        let Replies {
            max_waiting,
            location,
            token_key,
            topics,
        } = replies;
        self.line("replies.max_waiting", max_waiting);
        self.line("replies.location", location);
        let key = token_key.as_ref().map_or("none", |_| "***");
        self.line("replies.token_key", key);
        if topics.is_empty() {
            self.line("replies.topics", "none");
        }
        for (i, topic) in topics.iter().enumerate() {
            self.reply_topic(&format!("replies.topics[{i}]"), topic);
        }
    }

    fn reply_topic(&mut self, path: &str, entry: &ReplyTopic) {
        let ReplyTopic {
            cluster,
            topic,
            requests,
            max_wait,
            retention,
            correlation_header,
            reply_topic_header,
            status_header,
            content_type_header,
            headers,
        } = entry;
        self.line(&format!("{path}.cluster"), cluster);
        self.line(&format!("{path}.topic"), topic);
        self.list(&format!("{path}.requests"), requests.0.iter().cloned());
        self.line(&format!("{path}.max_wait"), format_duration(*max_wait));
        self.line(&format!("{path}.retention"), format_duration(*retention));
        self.line(&format!("{path}.correlation_header"), correlation_header);
        let name = reply_topic_header.as_deref().unwrap_or("none");
        self.line(&format!("{path}.reply_topic_header"), name);
        self.line(&format!("{path}.status_header"), status_header);
        self.line(&format!("{path}.content_type_header"), content_type_header);
        self.list(&format!("{path}.headers"), headers.iter().cloned());
    }
}

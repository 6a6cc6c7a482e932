use humantime::format_duration;

use super::Page;
use crate::subscriptions::spec::{
    Batch, Buffer, CircuitBreaker, OnFailure, Ordering, RateLimit, Retry, Sink, Spec,
};

impl Page<'_> {
    pub(super) fn subscription(&mut self, path: &str, spec: &Spec) {
        let Spec {
            source,
            sink,
            ordering,
            concurrency,
            batch,
            retry,
            on_failure,
            circuit_breaker,
            rate_limit,
            buffer,
            max_held,
            workflow_retention,
            reply_topic,
            reply_topics,
            paused,
            properties,
            webhook,
        } = spec;
        self.line(&format!("{path}.source"), source);
        self.line(&format!("{path}.sink"), shown(sink));
        let path = format!("{path}.options");
        let ordering = match ordering {
            Ordering::Key => "key",
            Ordering::Partition => "partition",
            Ordering::None => "none",
        };
        self.line(&format!("{path}.ordering"), ordering);
        self.line(&format!("{path}.concurrency"), concurrency);
        match batch {
            None => self.line(&format!("{path}.batch"), "none"),
            Some(Batch {
                max_records,
                max_wait,
            }) => {
                self.line(&format!("{path}.batch.max_records"), max_records);
                self.line(&format!("{path}.batch.max_wait"), format_duration(*max_wait));
            }
        }
        let Retry {
            initial,
            max,
            attempts,
            elapsed,
        } = retry;
        self.line(
            &format!("{path}.retry.initial_interval"),
            format_duration(*initial),
        );
        self.line(&format!("{path}.retry.max_interval"), format_duration(*max));
        let without_end = || "without end".to_owned();
        let attempts = attempts.map_or_else(without_end, |n| n.to_string());
        self.line(&format!("{path}.retry.max_attempts"), attempts);
        let elapsed = elapsed.map_or_else(without_end, |d| format_duration(d).to_string());
        self.line(&format!("{path}.retry.max_elapsed"), elapsed);
        let failing = match on_failure {
            OnFailure::Park => "park",
            OnFailure::DeadLetter { .. } => "dead_letter",
            OnFailure::Skip => "skip",
            OnFailure::Pause => "pause",
        };
        self.line(&format!("{path}.on_failure"), failing);
        if let OnFailure::DeadLetter { topic } = on_failure {
            self.line(&format!("{path}.dead_letter_topic"), topic);
        }
        match circuit_breaker {
            None => self.line(&format!("{path}.circuit_breaker.consecutive_failures"), 0),
            Some(CircuitBreaker {
                failures,
                open_for,
                slow_start,
            }) => {
                let path = format!("{path}.circuit_breaker");
                self.line(&format!("{path}.consecutive_failures"), failures);
                self.line(&format!("{path}.open_for"), format_duration(*open_for));
                self.line(&format!("{path}.slow_start"), format_duration(*slow_start));
            }
        }
        match rate_limit {
            None => self.line(&format!("{path}.rate_limit"), "none"),
            Some(RateLimit { per_second, burst }) => {
                self.line(&format!("{path}.rate_limit.per_second"), per_second);
                self.line(&format!("{path}.rate_limit.burst"), burst);
            }
        }
        let Buffer { records, bytes } = buffer;
        self.line(&format!("{path}.max_buffered_records"), records);
        self.line(&format!("{path}.max_buffered_bytes"), bytes);
        self.line(&format!("{path}.max_held"), max_held);
        self.line(
            &format!("{path}.workflow_retention"),
            format_duration(*workflow_retention),
        );
        self.line(
            &format!("{path}.reply_topic"),
            reply_topic.as_deref().unwrap_or("none"),
        );
        self.list(&format!("{path}.reply_topics"), reply_topics.0.iter().cloned());
        self.line(&format!("{path}.paused"), paused);
        for (name, value) in properties {
            self.line(&format!("{path}.{name}"), value);
        }
        self.sink(&path, webhook);
    }
}

/// A URL may have secrets before its host and after its path: they are not shown.
fn shown(sink: &Sink) -> String {
    let Sink::Url(url) = sink else {
        return sink.to_string();
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, query) = match rest.split_once(['?', '#']) {
        Some((rest, _)) => (rest, "?***"),
        None => (rest, ""),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority.to_owned(), |(_, host)| format!("***@{host}"));
    format!("{scheme}://{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        for (url, expected) in [
            ("https://h/a", "https://h/a"),
            ("https://u:p@h:1/a?token=x", "https://***@h:1/a?***"),
            ("http://h?x", "http://h?***"),
            ("http://h/a#x@y", "http://h/a?***"),
        ] {
            assert_eq!(shown(&Sink::Url(url.to_owned())), expected);
        }
    }
}

//! What may be read, and an issuer's lines.

use super::super::{Bearers, ClaimedTopics, Read, ReadGroups, ReadTopics, Reset, Said};
use super::Page;
use crate::auth::jwt::{Jwks, Settings};
use crate::fetch::Trust;

impl Page<'_> {
    pub(super) fn bearers(&mut self, path: &str, jwt: Option<&Bearers>) {
        let Some(Bearers { provider, claims }) = jwt else {
            return;
        };
        self.line(&format!("{path}.jwt.provider"), &provider.settings().name);
        let claims = claims
            .iter()
            .map(|(name, wanted)| format!("{name} says {}", wanted.join(" and ")));
        self.list(&format!("{path}.jwt.claims"), claims);
    }

    pub(super) fn provider(&mut self, path: &str, settings: &Settings) {
        let Settings {
            name: _,
            issuer,
            audiences,
            jwks,
            algorithms,
            clock_skew,
            name_claim,
        } = settings;
        self.line(&format!("{path}.issuer"), issuer);
        self.list(&format!("{path}.audiences"), audiences.iter().cloned());
        match jwks {
            Jwks::File(file) => self.line(&format!("{path}.jwks.file"), file.display()),
            Jwks::Url {
                url,
                trust: Trust { verify, authorities },
                cache_duration,
            } => {
                // A key may be in its query.
                let host = url.host().unwrap_or_default();
                self.line(&format!("{path}.jwks.url"), format_args!("on {host}"));
                self.line(&format!("{path}.jwks.tls_verify"), verify);
                let whose = authorities.as_ref().map_or("the system's", |_| "its own");
                self.line(&format!("{path}.jwks.truststore"), whose);
                self.line(
                    &format!("{path}.jwks.cache_duration"),
                    humantime::format_duration(*cache_duration),
                );
            }
        }
        self.list(
            &format!("{path}.algorithms"),
            algorithms.iter().map(|algorithm| format!("{algorithm:?}")),
        );
        self.line(
            &format!("{path}.clock_skew"),
            humantime::format_duration(*clock_skew),
        );
        self.line(&format!("{path}.name_claim"), name_claim);
    }

    pub(super) fn read(&mut self, path: &str, read: &Read) {
        let Read {
            cluster,
            topics,
            anonymous,
            tokens,
            named_tokens,
            jwt,
            from,
            chosen_reset,
            remove_confluent_header,
            limit,
            max_wait,
            max_bytes,
            auto_offset_reset,
            encode_message_id,
            check_topic_existence,
            publish,
            allowed_origins,
            groups,
            filter,
            key,
            max_view_keys,
            max_view_bytes,
        } = read;
        self.line(&format!("{path}.cluster"), cluster);
        match topics {
            ReadTopics::Names(list) => self.list(&format!("{path}.topics"), list.0.iter().cloned()),
            // It was wrapped to match whole names.
            ReadTopics::Pattern(pattern) => {
                let text = pattern.as_str().strip_prefix("^(?:");
                let text = text.and_then(|text| text.strip_suffix(")$"));
                self.line(&format!("{path}.topics_pattern"), text.unwrap_or_default());
            }
            ReadTopics::Claimed(ClaimedTopics { fixed, templates }) => {
                let templates = templates.iter().map(ToString::to_string);
                self.list(
                    &format!("{path}.topics"),
                    fixed.0.iter().cloned().chain(templates),
                );
            }
            ReadTopics::Chosen(choice) => self.line(&format!("{path}.topic"), choice),
        }
        self.line(&format!("{path}.anonymous"), anonymous);
        let names = named_tokens.iter().map(|(name, _)| format!("{name}: ***"));
        let nameless = tokens.len().saturating_sub(named_tokens.len());
        let nameless = std::iter::repeat_n("***".to_owned(), nameless);
        self.list(&format!("{path}.tokens"), names.chain(nameless));
        self.line(&format!("{path}.limit"), limit);
        self.line(&format!("{path}.max_wait"), humantime::format_duration(*max_wait));
        self.line(&format!("{path}.max_bytes"), max_bytes);
        let reset = match auto_offset_reset {
            Reset::Latest => "latest",
            Reset::Earliest => "earliest",
            Reset::None => "none",
        };
        match chosen_reset {
            Some(choice) => self.line(&format!("{path}.auto_offset_reset"), choice),
            None => self.line(&format!("{path}.auto_offset_reset"), reset),
        }
        self.bearers(path, jwt.as_ref());
        if let Some(choice) = from {
            self.line(&format!("{path}.from"), choice);
        }
        self.line(
            &format!("{path}.remove_confluent_header"),
            remove_confluent_header,
        );
        self.line(&format!("{path}.encodeMessageId"), encode_message_id);
        self.line(&format!("{path}.check_topic_existence"), check_topic_existence);
        self.line(&format!("{path}.publish"), publish);
        self.list(
            &format!("{path}.allowed_origins"),
            allowed_origins.iter().cloned(),
        );
        let ReadGroups {
            allowed,
            claimed,
            said,
            prefix,
            claimed_prefix,
            qos,
        } = groups;
        let claimed = claimed.iter().map(ToString::to_string);
        self.list(
            &format!("{path}.groups"),
            allowed.0.iter().cloned().chain(claimed),
        );
        self.said(&format!("{path}.group"), said.as_ref());
        if !prefix.is_empty() {
            self.line(&format!("{path}.group.prefix"), prefix);
        }
        if let Some(prefix) = claimed_prefix {
            self.line(&format!("{path}.group.prefix"), prefix);
        }
        self.line(&format!("{path}.qos"), qos.name());
        self.said(&format!("{path}.key"), key.as_ref());
        self.line(&format!("{path}.max_view_keys"), max_view_keys);
        self.line(&format!("{path}.max_view_bytes"), max_view_bytes);
        for (kind, text) in filter.iter().flat_map(|filter| filter.shown()) {
            self.line(&format!("{path}.filter.{kind}"), text);
        }
    }

    fn said(&mut self, path: &str, said: Option<&Said>) {
        match said {
            None => {}
            Some(Said::Listed(choice)) => self.line(path, choice),
            Some(Said::Any(from)) => {
                let (kind, name) = from.named();
                self.line(&format!("{path}.{kind}"), name);
            }
        }
    }
}

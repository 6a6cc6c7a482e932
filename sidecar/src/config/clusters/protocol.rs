//! Which of Kafka's four protocols a cluster speaks. Several fields say something about it, and must agree.

use sluice_settings::Section;

use super::tls::Tls;
use crate::config::properties::Properties;
use crate::config::read::Context;

/// `security.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

/// Kafka's names of them.
pub(super) const NAMES: &[(&str, Protocol)] = &[
    ("PLAINTEXT", Protocol::Plaintext),
    ("SSL", Protocol::Ssl),
    ("SASL_PLAINTEXT", Protocol::SaslPlaintext),
    ("SASL_SSL", Protocol::SaslSsl),
];

/// The protocol of that name, in any case.
pub(super) fn parse(name: &str) -> Option<Protocol> {
    let found = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(found.1)
}

impl Protocol {
    fn new(tls: bool, sasl: bool) -> Self {
        match (tls, sasl) {
            (false, false) => Self::Plaintext,
            (true, false) => Self::Ssl,
            (false, true) => Self::SaslPlaintext,
            (true, true) => Self::SaslSsl,
        }
    }

    fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, one)| *one == self)
            .map_or("", |(name, _)| name)
    }

    fn tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    fn sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

/// What the fields say of the protocol.
pub(super) struct Said<'a> {
    /// `protocol`.
    pub(super) protocol: Option<Protocol>,
    /// The schemes of `brokers`, with their paths.
    pub(super) schemes: &'a [(String, Protocol)],
    /// `security`.
    pub(super) tls: &'a Tls,
    /// Whether there is an `authentication`.
    pub(super) sasl: bool,
}

const PROPERTY: &str = "security.protocol";

/// Sets the property of the protocol that the fields mean, and reports where they contradict each other.
pub(super) fn settle(
    section: &Section<'_>,
    said: Said<'_>,
    properties: &mut Properties,
    context: &Context<'_>,
) {
    let outright = said.outright(section, properties, context);
    let asked_for_tls = said.tls.ssl.unwrap_or_default();
    let protocol = match &outright {
        Some((_, protocol)) => *protocol,
        None => Protocol::new(asked_for_tls, said.sasl),
    };
    let who = outright.as_ref().map(|(path, _)| path.as_str());
    if let (Some(who), Some(ssl)) = (who, said.tls.ssl)
        && ssl != protocol.tls()
    {
        section.problem(
            "security.ssl",
            format!("is {ssl}, and {who} says {}: make them agree", protocol.name()),
        );
    } else if !protocol.tls() {
        for key in &said.tls.only_with_tls {
            let says = who.map_or_else(
                || "nothing asks for TLS: set `security.ssl: true`, or `protocol: SSL`".to_owned(),
                |who| format!("{who} says {}", protocol.name()),
            );
            section.problem(key, format!("means nothing, since {says}"));
        }
    }
    match who {
        Some(who) if said.sasl && !protocol.sasl() => section.problem(
            "authentication",
            format!("means nothing, since {who} says {}", protocol.name()),
        ),
        Some(who) if !said.sasl && protocol.sasl() && !properties.any_starting_with("sasl.") => {
            context.problems.report(
                who,
                format!("says {}, which needs `authentication`", protocol.name()),
            )
        }
        _ => {}
    }
    without_meaning(protocol, said.protocol.is_some(), properties, context);
    if outright.is_none() && protocol != Protocol::Plaintext {
        let key = if asked_for_tls {
            "security.ssl"
        } else {
            "authentication"
        };
        properties.set(section, key, PROPERTY, protocol.name().to_owned());
    } else if properties.get(PROPERTY).is_none() && protocol != Protocol::Plaintext {
        let key = if said.protocol.is_some() {
            "protocol"
        } else {
            "brokers"
        };
        properties.set(section, key, PROPERTY, protocol.name().to_owned());
    }
}

impl Said<'_> {
    /// The path that names a protocol, and which; reports those that name another one.
    fn outright(
        &self,
        section: &Section<'_>,
        properties: &Properties,
        context: &Context<'_>,
    ) -> Option<(String, Protocol)> {
        let mut all = Vec::new();
        all.extend(
            self.protocol
                .map(|protocol| (section.path_of("protocol"), protocol)),
        );
        all.extend(self.schemes.iter().cloned());
        if let Some(set) = properties.get(PROPERTY) {
            if self.protocol.is_some() {
                let path = section.path_of("protocol");
                context.problems.report(
                    &set.path,
                    format!("is set by {path} too, which means the same: keep one"),
                );
            } else {
                all.extend(parse(set.value.expose()).map(|protocol| (set.path.clone(), protocol)));
            }
        }
        let mut all = all.into_iter();
        let first = all.next()?;
        for (path, protocol) in all.filter(|(_, protocol)| *protocol != first.1) {
            context.problems.report(
                path,
                format!(
                    "says {}, and {} says {}",
                    protocol.name(),
                    first.0,
                    first.1.name()
                ),
            );
        }
        Some(first)
    }
}

/// Properties of TLS without TLS, and of SASL without SASL: an error where `protocol` is set, and otherwise, since
/// librdkafka takes them, a warning.
fn without_meaning(protocol: Protocol, is_set: bool, properties: &Properties, context: &Context<'_>) {
    for (prefix, has) in [("ssl.", protocol.tls()), ("sasl.", protocol.sasl())] {
        if has {
            continue;
        }
        for path in properties.starting_with(prefix) {
            let message = format!(
                "means nothing, since the cluster's protocol is {}",
                protocol.name()
            );
            if is_set {
                context.problems.report(path, message);
            } else {
                context.warnings.report(path, message);
            }
        }
    }
}

//! The rows of the table: the ways a request can take.

use clap::ValueEnum;

/// One way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Row {
    /// Envoy answers by itself once it has the body.
    Floor,
    /// The same on the listener that is shipped, with the buffer filter in the place of Sluice's.
    FloorShipped,
    /// The filter builds the record and answers by itself.
    Local,
    /// The stream, with the default envelope.
    Stream,
    /// The stream, with everything in the envelope.
    StreamAll,
    /// The stream, the raw body being the value.
    StreamBody,
    /// `transport: http`, with the default envelope.
    Http,
    /// Envoy routes to the sidecar's REST face.
    Rest,
    /// Envoy routes to a small axum and rdkafka service.
    Service,
    /// No HTTP: a loop that sends a record with rdkafka and awaits its ack.
    Loop,
}

/// Which processes have a part in a row, besides Envoy and the load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// None.
    Nothing,
    /// The sidecar, and the broker behind it.
    Sidecar,
    /// The small service, and the broker behind it.
    Service,
    /// The broker.
    Broker,
}

impl Behind {
    /// Whether a process stands between Envoy and the broker.
    pub(crate) fn has_process(self) -> bool {
        matches!(self, Self::Sidecar | Self::Service)
    }

    /// Whether the record reaches the broker.
    pub(crate) fn has_broker(self) -> bool {
        self != Self::Nothing
    }
}

impl Row {
    /// Every row, in the table's order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Floor,
        Self::FloorShipped,
        Self::Local,
        Self::Stream,
        Self::StreamAll,
        Self::StreamBody,
        Self::Http,
        Self::Rest,
        Self::Service,
        Self::Loop,
    ];

    /// What the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Floor => "floor: buffer filter, direct_response",
            Self::FloorShipped => "floor on the shipped listener",
            Self::Local => "local answer: record built, refused (413)",
            Self::Stream => "stream, default envelope",
            Self::StreamAll => "stream, all forward_*",
            Self::StreamBody => "stream, value: body",
            Self::Http => "transport: http, default envelope",
            Self::Rest => "plain route to the sidecar's REST face",
            Self::Service => "plain route to axum + rdkafka",
            Self::Loop => "bare rdkafka loop, awaits each ack",
        }
    }

    /// The status that every reply must have.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Local => 413,
            _ => 200,
        }
    }

    /// With how many connections it is measured.
    pub(crate) fn connections(self) -> &'static [usize] {
        match self {
            Self::Loop => &[1],
            _ => &[1, 64],
        }
    }

    /// Which processes have a part in it.
    pub(crate) fn behind(self) -> Behind {
        match self {
            Self::Floor | Self::FloorShipped | Self::Local => Behind::Nothing,
            Self::Stream | Self::StreamAll | Self::StreamBody | Self::Http | Self::Rest => Behind::Sidecar,
            Self::Service => Behind::Service,
            Self::Loop => Behind::Broker,
        }
    }

    /// Whether Envoy takes the request.
    pub(crate) fn through_envoy(self) -> bool {
        self != Self::Loop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_every_row_once() {
        assert_eq!(Row::ALL.as_slice(), Row::value_variants());
    }
}

//! What is wrong with the way to a broker, told from what the client library says about it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

/// What kind of thing is wrong, from what tells least to what tells most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// None of the others.
    Other,
    /// No answer in time.
    Timeout,
    /// The broker hung up: another protocol on that port, say.
    Disconnected,
    /// Nobody listens there.
    Refused,
    /// The name has no address.
    Dns,
    /// There is no token to show.
    Token,
    /// There is no Kerberos ticket to show.
    Ticket,
    /// The TLS handshake failed.
    Tls,
    /// The broker wants a client certificate, or does not take the one that it got.
    ClientCertificate,
    /// The broker's certificate has expired, or is not valid yet.
    Expired,
    /// The broker's certificate is for another name.
    TlsName,
    /// Nobody that is trusted vouches for the broker's certificate.
    UnknownAuthority,
    /// The broker does not take the SASL mechanism.
    Mechanism,
    /// The broker does not take the user name and password, or the token.
    Credentials,
}

impl Kind {
    /// The `reason` label of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Dns => "dns",
            Self::Token => "token",
            Self::Ticket => "ticket",
            Self::Tls => "tls",
            Self::ClientCertificate => "client_certificate",
            Self::Expired => "certificate_expired",
            Self::TlsName => "certificate_name",
            Self::UnknownAuthority => "certificate_authority",
            Self::Mechanism => "sasl_mechanism",
            Self::Credentials => "credentials",
        }
    }

    /// Whether trying again does not help before somebody has changed something.
    pub fn is_lasting(self) -> bool {
        self >= Self::Dns
    }

    fn words(self) -> &'static str {
        match self {
            Self::Other => "the connection failed",
            Self::Timeout => "no answer in time",
            Self::Disconnected => "the broker closed the connection",
            Self::Refused => "nobody listens there",
            Self::Dns => "the name cannot be resolved",
            Self::Token => "there is no token to show",
            Self::Ticket => "there is no Kerberos ticket to show",
            Self::Tls => "the TLS handshake failed",
            Self::ClientCertificate => "the broker does not accept the client's certificate, or wants one",
            Self::Expired => "the broker's certificate is out of date",
            Self::TlsName => "the broker's certificate is for another host name",
            Self::UnknownAuthority => "the broker's certificate is from an authority that is not trusted",
            Self::Mechanism => "the broker does not accept the SASL mechanism",
            Self::Credentials => "the broker does not accept the credentials",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of thing.
    pub kind: Kind,
    /// `host:port` of the broker; empty if it is about none.
    pub broker: String,
    /// What the library says.
    pub detail: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.words())?;
        match (self.broker.as_str(), self.detail.as_str()) {
            ("", "") => Ok(()),
            ("", text) | (text, "") => write!(f, " ({text})"),
            (broker, detail) => write!(f, " ({broker}: {detail})"),
        }
    }
}

/// A certificate that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `host:port` of the broker.
    pub(super) broker: String,
    /// OpenSSL's number of the reason (`X509_V_ERR_…`).
    pub(super) error: i32,
    /// Its words.
    pub(super) words: String,
}

impl Trouble {
    /// What the library says in an error event. `verdict` is the last certificate that was not accepted.
    pub(super) fn new(code: Code, text: &str, verdict: Option<&Verdict>) -> Self {
        let (broker, detail) = split(text);
        // The code is now one of TLS, now one of the transport.
        let refused = detail.contains("certificate verify failed");
        if let Some(verdict) = verdict.filter(|verdict| refused && verdict.broker == broker) {
            return Self {
                kind: of_certificate(verdict.error),
                broker,
                detail: verdict.words.clone(),
            };
        }
        Self {
            kind: kind(code, &detail),
            broker,
            detail,
        }
    }

    /// What is wrong with a connection that is not the library's own, in words like the library's.
    pub(super) fn at(broker: &str, code: Code, detail: String, verdict: Option<&Verdict>) -> Self {
        let (kind, detail) = match verdict {
            Some(verdict) => (of_certificate(verdict.error), verdict.words.clone()),
            None => (kind(code, &detail), detail),
        };
        Self {
            kind,
            broker: broker.to_owned(),
            detail,
        }
    }
}

/// Takes the broker's address out of `sasl_ssl://host:port/bootstrap: what happened (after 3ms in state CONNECT)`, where
/// `PLAINTEXT` has no scheme, and leaves out what is about the library's own workings.
fn split(text: &str) -> (String, String) {
    let named = text.split_once(": ").and_then(|(name, rest)| {
        let name = name.split_once("://").map_or(name, |(_scheme, name)| name);
        let (broker, id) = name.split_once('/')?;
        let is_name = !broker.is_empty() && !name.contains(' ') && !id.contains('/');
        is_name.then_some((broker, rest))
    });
    let (broker, rest) = named.unwrap_or(("", text));
    let end = rest.rfind(" (after ").unwrap_or(rest.len());
    (
        broker.to_owned(),
        rest.get(..end).unwrap_or(rest).trim().to_owned(),
    )
}

/// The kind of an error; texts are those of librdkafka 2.12, OpenSSL 3 and Linux.
fn kind(code: Code, detail: &str) -> Kind {
    let says = |text: &str| detail.contains(text);
    match code {
        Code::Resolve => Kind::Dns,
        Code::SSL if says("certificate required") || says("alert") || says("client SSL authentication") => {
            Kind::ClientCertificate
        }
        Code::SSL => Kind::Tls,
        Code::UnsupportedSASLMechanism | Code::UnsupportedFeature => Kind::Mechanism,
        Code::Authentication | Code::SaslAuthenticationFailed
            if says("Unsupported SASL mechanism") || says("not supported by broker") =>
        {
            Kind::Mechanism
        }
        // What the Kerberos library says before the broker is asked.
        Code::Authentication if says("GSSAPI Error") => Kind::Ticket,
        Code::Authentication if says("Failed to acquire SASL OAUTHBEARER token") => Kind::Token,
        Code::Authentication | Code::SaslAuthenticationFailed => Kind::Credentials,
        Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => Kind::Timeout,
        _ if says("certificate verify failed") => Kind::Tls,
        // Hung up on the client's first word: no TLS is spoken there.
        _ if says("SSL handshake failed") => Kind::Tls,
        _ if says("Connection refused") => Kind::Refused,
        _ if says("timed out") || says("timeout") => Kind::Timeout,
        // The alert that refuses a client's certificate comes after the handshake in TLS 1.3.
        _ if says("certificate required") || says("alert bad certificate") || says("alert certificate") => {
            Kind::ClientCertificate
        }
        _ if says("isconnected") || says("Connection reset") || says("Broken pipe") => Kind::Disconnected,
        _ => Kind::Other,
    }
}

/// The kind of a reason for which OpenSSL does not accept a certificate (`x509_vfy.h`).
fn of_certificate(error: i32) -> Kind {
    match error {
        // Not yet valid, and expired.
        9 | 10 => Kind::Expired,
        // Of a host name, an e-mail address, an IP address.
        62..=64 => Kind::TlsName,
        // No issuer found, self-signed, signed by one that is not trusted.
        2 | 18..=21 | 24 | 27 => Kind::UnknownAuthority,
        _ => Kind::Tls,
    }
}

/// For how long what is wrong with one broker is believed. The library repeats itself every 30 s at most.
const BELIEVED: Duration = Duration::from_secs(60);
/// How many brokers are remembered.
const REMEMBERED: usize = 64;

/// What is wrong with each broker.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<String, (Trouble, Instant)>);

impl Troubles {
    /// There is something wrong with a broker now.
    pub(super) fn add(&mut self, trouble: Trouble, now: Instant) {
        self.0
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < BELIEVED);
        if self.0.len() < REMEMBERED || self.0.contains_key(&trouble.broker) {
            self.0.insert(trouble.broker.clone(), (trouble, now));
        }
    }

    /// Nothing is wrong any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What tells most about why nothing answers.
    pub(super) fn most_telling(&self) -> Option<&Trouble> {
        let all = self.0.values();
        all.max_by_key(|(trouble, at)| (trouble.kind, *at))
            .map(|(trouble, _)| trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, text: &str) -> Trouble {
        Trouble::new(code, text, None)
    }

    #[test]
    fn each_error_has_its_kind() {
        let rows = [
            (
                Code::Resolve,
                "a:1: Failed to resolve 'a:1': Name or service not known",
                Kind::Dns,
            ),
            (
                Code::BrokerTransportFailure,
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                Kind::Refused,
            ),
            (
                Code::BrokerTransportFailure,
                "Disconnected while requesting ApiVersion",
                Kind::Disconnected,
            ),
            (
                Code::BrokerTransportFailure,
                "Connection setup timed out in state CONNECT",
                Kind::Timeout,
            ),
            (
                Code::SSL,
                "SSL handshake failed: error:0A00010B:wrong version number",
                Kind::Tls,
            ),
            (
                Code::Authentication,
                "SASL authentication error: Authentication failed: Invalid username or password",
                Kind::Credentials,
            ),
            (
                Code::Authentication,
                "Failed to acquire SASL OAUTHBEARER token: cannot read",
                Kind::Token,
            ),
            (
                Code::Authentication,
                "Failed to initialize SASL authentication: SASL handshake failed (start (-1)): SASL(-1): generic failure: \
                 GSSAPI Error: No credentials were supplied (Client 'a@R' not found in Kerberos database)",
                Kind::Ticket,
            ),
            (
                Code::Authentication,
                "Failed to initialize SASL authentication: SASL Handshake not supported by broker (required by mechanism PLAIN)",
                Kind::Mechanism,
            ),
            (
                Code::UnsupportedSASLMechanism,
                "SASL PLAIN mechanism handshake failed",
                Kind::Mechanism,
            ),
        ];
        for (code, text, kind) in rows {
            let found = of(
                code,
                &format!("sasl_ssl://b:9/bootstrap: {text} (after 3ms in state CONNECT)"),
            );
            assert_eq!(
                (found.kind, found.broker.as_str(), found.detail.as_str()),
                (kind, "b:9", text)
            );
        }
        let bare = of(
            Code::Authentication,
            "Failed to acquire SASL OAUTHBEARER token: x",
        );
        assert_eq!((bare.kind, bare.broker.as_str()), (Kind::Token, ""));
    }

    #[test]
    fn a_certificates_verdict_says_what_the_handshake_does_not() {
        let text = "ssl://b:9/1: SSL handshake failed: error:0A000086: certificate verify failed (after 1ms in state X)";
        let other =
            "ssl://b:9/1: error:0A000086:SSL routines::certificate verify failed (after 1ms in state X)";
        for (error, kind) in [
            (10, Kind::Expired),
            (9, Kind::Expired),
            (62, Kind::TlsName),
            (64, Kind::TlsName),
            (18, Kind::UnknownAuthority),
            (19, Kind::UnknownAuthority),
            (20, Kind::UnknownAuthority),
            (26, Kind::Tls),
        ] {
            let verdict = Verdict {
                broker: "b:9".to_owned(),
                error,
                words: "so it is".to_owned(),
            };
            for (code, text) in [(Code::SSL, text), (Code::BrokerTransportFailure, other)] {
                let found = Trouble::new(code, text, Some(&verdict));
                assert_eq!(found.kind, kind, "{error}");
                assert!(found.to_string().ends_with(" (b:9: so it is)"), "{found}");
            }
        }
        let of_another = Verdict {
            broker: "c:9".to_owned(),
            error: 10,
            words: String::new(),
        };
        assert_eq!(Trouble::new(Code::SSL, text, Some(&of_another)).kind, Kind::Tls);
    }

    #[test]
    fn the_most_telling_one_is_told_as_long_as_it_is_fresh() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let trouble = |kind, broker: &str| Trouble {
            kind,
            broker: broker.to_owned(),
            detail: String::new(),
        };
        let told = |troubles: &Troubles| troubles.most_telling().map(|trouble| trouble.kind);
        troubles.add(trouble(Kind::Credentials, "a:1"), start);
        troubles.add(trouble(Kind::Refused, "b:1"), start);
        assert_eq!(told(&troubles), Some(Kind::Credentials));
        // The broker says something else now.
        troubles.add(trouble(Kind::Timeout, "a:1"), start);
        assert_eq!(told(&troubles), Some(Kind::Refused));
        troubles.add(trouble(Kind::Other, "c:1"), start + BELIEVED);
        assert_eq!(told(&troubles), Some(Kind::Other));
        troubles.clear();
        assert_eq!(told(&troubles), None);
        for i in 0..1000 {
            troubles.add(trouble(Kind::Other, &i.to_string()), start);
        }
        assert_eq!(troubles.0.len(), REMEMBERED);
    }
}

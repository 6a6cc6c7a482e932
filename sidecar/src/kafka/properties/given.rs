//! The properties that a cluster may have which is made by the admin API.

use super::canonical;
use crate::kafka::group::allowed_property;

/// How a client connects and logs in, beside what a member of a group may set ([`allowed_property`]). None of them has
/// librdkafka read a file, load a library, run a command, or call another address than a broker's.
const MORE: &[&str] = &[
    "bootstrap.servers",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "connections.max.idle.ms",
    "enable.ssl.certificate.verification",
    "message.max.bytes",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.sigalgs.list",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Why `name` may not be set by the API; none: it may.
pub fn refuse(name: &str) -> Option<&'static str> {
    let known = canonical(name);
    if allowed_property(known) || MORE.contains(&known) {
        return None;
    }
    Some(match known {
        "ssl.ca.location" => "names a file of the sidecar's: give the certificates themselves, in ssl.ca.pem",
        "ssl.certificate.location" | "ssl.keystore.location" => {
            "names a file of the sidecar's: give the certificate itself, in ssl.certificate.pem"
        }
        "ssl.key.location" => "names a file of the sidecar's: give the key itself, in ssl.key.pem",
        _ => {
            "cannot be set by the API: what may name a file, a library, a command or another address is for the sidecar's own configuration"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::group::ALLOWED_PROPERTIES;
    use crate::kafka::properties::known;

    #[test]
    fn every_property_that_is_allowed_exists_and_none_names_what_it_must_not() {
        let all = known::all();
        for name in MORE.iter().chain(&ALLOWED_PROPERTIES) {
            assert!(
                all.iter().any(|known| known.name == *name),
                "librdkafka has no {name}"
            );
            assert_eq!(canonical(name), *name);
        }
        let allowed: Vec<&str> = all
            .iter()
            .map(|known| known.name.as_str())
            .filter(|name| refuse(name).is_none())
            .collect();
        for mark in [
            "location",
            "path",
            "librar",
            "plugin",
            "cmd",
            "command",
            "engine",
            "provider",
            "url",
            "keytab",
            "_cb",
            "oauthbearer",
            "kerberos",
            "providers",
            "opaque",
            "interceptor",
            "debug",
            "test.mock",
        ] {
            let found = allowed.iter().find(|name| name.contains(mark));
            assert_eq!(found, None, "{mark}");
        }
        // Aliases are allowed with what they mean, and only then.
        assert_eq!(refuse("metadata.broker.list"), None);
        assert!(refuse("auto.commit.enable").is_some());
        assert!(refuse("no.such.property").is_some());
    }
}

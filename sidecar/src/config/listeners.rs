//! `listeners:`.

use std::net::SocketAddr;
use std::path::PathBuf;

use sluice_settings::Section;

use super::read::Context;
use super::secret;
use super::{Address, Listener, Listeners};

/// The longest path that fits into `sockaddr_un` with its final zero.
const MAX_SOCKET_PATH: usize = 107;
/// As many as Envoy opens to a cluster unless it is told otherwise (`circuit_breakers`, `max_connections`).
const MAX_CONNECTIONS: usize = 1024;
/// More proxies than any request goes through.
const MAX_HOPS: i64 = 32;

pub(super) fn read(root: &Section<'_>, context: &Context<'_>) -> Option<Listeners> {
    let section = root.section("listeners");
    let one = |key: &str, default: Address| match section.as_ref().and_then(|s| s.section(key)) {
        Some(listener) => read_one(listener, key, default, context),
        None => Some(Listener {
            address: default,
            tokens: Vec::new(),
            max_connections: MAX_CONNECTIONS,
            xff_num_trusted_hops: 0,
        }),
    };
    let stream = one(
        "stream",
        Address::Unix {
            path: PathBuf::from("/run/sluice/stream.sock"),
            mode: 0o660,
        },
    );
    let data = one("data", Address::Tcp(([127, 0, 0, 1], 9071).into()));
    let admin = one("admin", Address::Tcp(([127, 0, 0, 1], 9070).into()));
    if let Some(section) = section {
        section.finish();
    }
    let listeners = Listeners {
        stream: stream?,
        data: data?,
        admin: admin?,
    };
    let named = [
        ("listeners.stream", &listeners.stream.address),
        ("listeners.data", &listeners.data.address),
        ("listeners.admin", &listeners.admin.address),
    ];
    for (i, (path, address)) in named.iter().enumerate() {
        let same = |(_, other): &&(&str, &Address)| clash(address, other);
        if let Some((other, _)) = named.iter().take(i).find(same) {
            context
                .problems
                .report(*path, format!("listens where {other} does"));
        }
    }
    Some(listeners)
}

/// Port 0 is another one each time.
fn clash(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp(a), Address::Tcp(b)) => a == b && a.port() != 0,
        (Address::Unix { path: a, .. }, Address::Unix { path: b, .. }) => a == b,
        _ => false,
    }
}

fn read_one(section: Section<'_>, key: &str, default: Address, context: &Context<'_>) -> Option<Listener> {
    let path = section.name("path");
    let address = section.string("address");
    let mode = mode(&section);
    let insecure = section.bool("insecure").unwrap_or_default();
    let tokens = secret::tokens(&section, context);
    let max_connections = section.integer("max_connections", 1..=65_536);
    let address = match (path, address) {
        (Some(_), Some(_)) => {
            section.problem("path", "is set beside `address`: a listener has one of them");
            None
        }
        (Some(path), None) => {
            if path.len() > MAX_SOCKET_PATH {
                section.problem(
                    "path",
                    format!(
                        "is {} bytes long; a socket's path has at most {MAX_SOCKET_PATH}",
                        path.len()
                    ),
                );
            }
            Some(Address::Unix {
                path: PathBuf::from(path),
                mode: mode.unwrap_or(0o660),
            })
        }
        (None, Some(text)) => socket_address(&section, "address", &text).map(Address::Tcp),
        // A value of the wrong type has been reported.
        (None, None) if section.raw("path").is_some() || section.raw("address").is_some() => None,
        (None, None) => Some(match default {
            Address::Unix { path, mode: usual } => Address::Unix {
                path,
                mode: mode.unwrap_or(usual),
            },
            tcp @ Address::Tcp(_) => tcp,
        }),
    };
    if let Some(Address::Tcp(address)) = &address {
        if section.raw("mode").is_some() {
            section.problem("mode", "is for a Unix socket, which `path` names");
        }
        if !address.ip().is_loopback() && tokens.is_empty() && section.raw("tokens").is_none() {
            let open = format!("{address} is open to other machines and asks for no token");
            if insecure {
                context.warnings.report(section.path_of("address"), open);
            } else {
                section.problem(
                    "address",
                    format!("{open}: set `tokens`, use a loopback address or a Unix socket, or set `insecure: true`"),
                );
            }
        }
    }
    let hops = section.integer("xff_num_trusted_hops", 0..=MAX_HOPS);
    if key != "data" && section.raw("xff_num_trusted_hops").is_some() {
        section.problem(
            "xff_num_trusted_hops",
            "is for the `data` listener: the others do not ask where a request comes from",
        );
    }
    section.finish();
    Some(Listener {
        address: address?,
        tokens,
        max_connections: max_connections
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(MAX_CONNECTIONS),
        xff_num_trusted_hops: hops.and_then(|n| usize::try_from(n).ok()).unwrap_or_default(),
    })
}

fn mode(section: &Section<'_>) -> Option<u32> {
    let text = match section.raw("mode")? {
        serde_json::Value::String(text) => Some(text.as_str()),
        _ => None,
    };
    let octal = text
        .filter(|text| (3..=4).contains(&text.len()))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| *mode <= 0o777);
    if octal.is_none() {
        section.problem(
            "mode",
            "must be permission bits in octal and in quotes, as \"0660\"",
        );
    }
    octal
}

/// An IP address and a port, or `localhost` and a port.
pub(super) fn socket_address(section: &Section<'_>, key: &str, text: &str) -> Option<SocketAddr> {
    let local = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    let address = local.as_deref().unwrap_or(text).parse().ok();
    if address.is_none() {
        section.problem(
            key,
            format!("{text:?} is not an IP address and a port, as 127.0.0.1:9071 or [::1]:9071"),
        );
    }
    address
}

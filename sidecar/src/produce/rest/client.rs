//! Whose the records of a request are.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use sluice_proto::client;

use crate::listeners::Peer;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The number of the client of a request, for `Record.client`. With `trusted_hops` it is the address that the farthest of so
/// many proxies says that it had the request from: as with Envoy's field of that name, that many from the end of
/// `x-forwarded-for`, to which each adds one. Where there is none, and without such proxies, it is `peer`. 0 if
/// nothing is known of it.
pub(crate) fn number(peer: Option<&Peer>, headers: &HeaderMap, trusted_hops: usize) -> u64 {
    let said = trusted_hops
        .checked_sub(1)
        .and_then(|before| forwarded_for(headers, before));
    match (said, peer) {
        (Some(address), _) | (None, Some(&Peer::Tcp(address))) => client::of_address(address),
        (None, Some(Peer::Unix)) => client::number(b"unix"),
        (None, None) => 0,
    }
}

/// The address in `x-forwarded-for` that has so many after it.
fn forwarded_for(headers: &HeaderMap, before: usize) -> Option<IpAddr> {
    let lines = headers.get_all(FORWARDED_FOR);
    let mut all: Vec<&[u8]> = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .collect();
    all.reverse();
    let text = std::str::from_utf8(all.get(before)?).ok()?.trim();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    text.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(lines: &[&str], trusted_hops: usize) -> u64 {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        number(Some(&Peer::Tcp([127, 0, 0, 1].into())), &headers, trusted_hops)
    }

    fn is(address: &str) -> u64 {
        client::of_address(address.parse().unwrap())
    }

    #[test]
    fn only_what_trusted_proxies_add_counts() {
        let rows: [(&[&str], usize, &str); 11] = [
            (&["10.0.0.1"], 0, "127.0.0.1"),
            (&["10.0.0.1"], 1, "10.0.0.1"),
            // What the client itself wrote before it does not.
            (&["6.6.6.6, 10.0.0.1"], 1, "10.0.0.1"),
            (&["6.6.6.6", "10.0.0.1"], 1, "10.0.0.1"),
            (&["6.6.6.6,10.0.0.1 ,10.0.0.2"], 2, "10.0.0.1"),
            (&["10.0.0.1:4711"], 1, "10.0.0.1"),
            (&["2001:db8::1"], 1, "2001:db8::ffff"),
            (&["[2001:db8::1]:80"], 1, "2001:db8::ffff"),
            // Fewer than there should be, or no address: then it is not known from there.
            (&["10.0.0.1"], 2, "127.0.0.1"),
            (&[], 1, "127.0.0.1"),
            (&["10.0.0.1, unknown"], 1, "127.0.0.1"),
        ];
        for (lines, hops, expected) in rows {
            assert_eq!(of(lines, hops), is(expected), "{lines:?} {hops}");
        }
    }

    #[test]
    fn everybody_on_the_machine_is_one_client() {
        let none = HeaderMap::new();
        let unix = number(Some(&Peer::Unix), &none, 0);
        assert_ne!(unix, 0);
        assert_ne!(unix, is("127.0.0.1"));
        assert_eq!(number(None, &none, 0), 0);
    }
}

//! What `Record.client` is: a number for where a request comes from. Filter and sidecar make it the same way, so that a
//! client is one on whichever way its records come.

use std::net::{IpAddr, SocketAddr};

/// The number of a client: of the address of `source`, which is an address and a port as Envoy writes them, or the path of a
/// socket. 0 if nothing is known of it.
pub fn number(source: &[u8]) -> u64 {
    let parsed = std::str::from_utf8(source)
        .ok()
        .and_then(|text| text.parse().ok());
    match parsed.map(|address: SocketAddr| address.ip()) {
        Some(address) => of_address(address),
        None if source.is_empty() => 0,
        None => hash(source),
    }
}

/// The number of the client with that address. An IPv6 client has a whole /64 to itself, and is all of it. Never 0.
pub fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(address.octets().first_chunk::<8>().unwrap_or(&[0; 8])),
    }
}

/// 64-bit FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), but never 0.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_without_its_port() {
        let same = [
            ("10.0.0.1:1", "10.0.0.1:60000"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:2"),
            ("[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:2"),
            ("/run/client.sock", "/run/client.sock"),
        ];
        for (one, other) in same {
            assert_eq!(number(one.as_bytes()), number(other.as_bytes()), "{one} {other}");
        }
        let all = [
            "10.0.0.1:1",
            "10.0.0.2:1",
            "[2001:db8:1:2::1]:1",
            "[2001:db8:1:3::1]:1",
            "/run/client.sock",
            "\u{e9}",
        ];
        let numbers: std::collections::BTreeSet<_> = all.iter().map(|one| number(one.as_bytes())).collect();
        assert_eq!(numbers.len(), all.len());
        assert!(!numbers.contains(&0));
        assert_eq!(number(b""), 0);
        assert_ne!(number(b"\xff"), 0);
    }
}

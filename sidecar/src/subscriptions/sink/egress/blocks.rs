//! Blocks of addresses that are not the internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What a block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The pod itself.
    Loopback,
    /// A network of one's own.
    Private,
    /// The next machine, and what clouds put there.
    LinkLocal,
    /// A cloud's metadata service, which gives credentials to whoever asks.
    Metadata,
    /// Anything else that no webhook is at.
    Special,
}

impl Kind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata service's",
            Self::Special => "special-purpose",
        }
    }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) net: IpNet,
    pub(super) kind: Kind,
}

const V4: &[([u8; 4], u8, Kind)] = &[
    // AWS, Google Cloud, Azure and most others; ECS and EKS credentials; Alibaba; Azure's wire server; Oracle.
    ([169, 254, 169, 254], 32, Kind::Metadata),
    ([169, 254, 170, 2], 32, Kind::Metadata),
    ([169, 254, 170, 23], 32, Kind::Metadata),
    ([100, 100, 100, 200], 32, Kind::Metadata),
    ([168, 63, 129, 16], 32, Kind::Metadata),
    ([192, 0, 0, 192], 32, Kind::Metadata),
    ([0, 0, 0, 0], 8, Kind::Special),
    ([10, 0, 0, 0], 8, Kind::Private),
    ([100, 64, 0, 0], 10, Kind::Private),
    ([127, 0, 0, 0], 8, Kind::Loopback),
    ([169, 254, 0, 0], 16, Kind::LinkLocal),
    ([172, 16, 0, 0], 12, Kind::Private),
    ([192, 0, 0, 0], 24, Kind::Special),
    ([192, 0, 2, 0], 24, Kind::Special),
    ([192, 88, 99, 0], 24, Kind::Special),
    ([192, 168, 0, 0], 16, Kind::Private),
    ([198, 18, 0, 0], 15, Kind::Special),
    ([198, 51, 100, 0], 24, Kind::Special),
    ([203, 0, 113, 0], 24, Kind::Special),
    ([224, 0, 0, 0], 4, Kind::Special),
    ([240, 0, 0, 0], 4, Kind::Special),
];

const V6: &[([u16; 8], u8, Kind)] = &[
    // AWS: instances, EKS; Google Cloud.
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, Kind::Metadata),
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128, Kind::Metadata),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Kind::Metadata),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Kind::Loopback),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, Kind::Special),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Kind::Special),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Kind::Special),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Kind::Special),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Kind::Special),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Kind::Special),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Kind::Special),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Kind::Special),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Kind::Private),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Kind::LinkLocal),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Kind::Private),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Kind::Special),
];

/// The narrowest block that an address is in; none of one that is public.
pub(super) fn of(address: IpAddr) -> Option<Block> {
    let v4 = V4.iter().filter_map(|(start, length, kind)| {
        let net = Ipv4Net::new(Ipv4Addr::from(*start), *length).ok()?;
        Some(Block {
            net: net.into(),
            kind: *kind,
        })
    });
    let v6 = V6.iter().filter_map(|(start, length, kind)| {
        let net = Ipv6Net::new(Ipv6Addr::from(*start), *length).ok()?;
        Some(Block {
            net: net.into(),
            kind: *kind,
        })
    });
    v4.chain(v6)
        .filter(|block| block.net.contains(&address))
        .max_by_key(|block| block.net.prefix_len())
}

/// The address that packets go to in the end: that within an IPv4-mapped address (RFC 4291), and within one of the
/// well-known prefix of NAT64 (RFC 6052).
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() else {
        return address;
    };
    let bits = (u32::from(high) << 16) | u32::from(low);
    Ipv4Addr::from(bits).into()
}

//! Which targets may be called.
//!
//! Whoever may make subscriptions by the API could otherwise have the sidecar call anything that it reaches: the metadata
//! service of the cloud, other pods, its own admin listener. So what the API names must be in `egress.allow`, and the
//! addresses that a name has are judged when it is connected to: it is resolved once, and what was judged is what is
//! connected to. What the sidecar's own configuration names is the operator's, and may be loopback and private.
//!
//! Address blocks are those of IANA's special-purpose registries
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>, `…/iana-ipv6-special-registry`).

mod blocks;
mod place;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use sluice_settings::Section;

use blocks::Kind;
pub use place::Place;

/// `egress`: what may be called.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    allow: Vec<Entry>,
}

/// One of `egress.allow`.
#[derive(Debug, Clone)]
struct Entry {
    /// `http`, `https`; empty: both.
    schemes: Vec<String>,
    /// Empty: those whose address is in `cidrs`.
    hosts: Vec<Pattern>,
    /// Empty: any.
    ports: Vec<u16>,
    /// Empty: public addresses.
    cidrs: Vec<IpNet>,
}

/// One of an entry's `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// `*`
    Any,
    /// `*.example.com`, kept with its dot.
    Below(String),
    /// A name, or an address.
    Exactly(url::Host<String>),
}

/// Who named a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The sidecar's configuration.
    Config,
    /// Somebody, by the admin API.
    Api,
}

impl Egress {
    /// Reads `egress`. What is wrong is reported.
    pub fn read(section: Section<'_>) -> Self {
        let entries = section.sections("allow").unwrap_or_default();
        let allow = entries.into_iter().filter_map(Entry::read).collect();
        section.finish();
        Self { allow }
    }

    /// Its entries for a person: `https://*.example.com:443 within 10.0.0.0/8`, one for each host.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.allow.iter().flat_map(Entry::words)
    }

    /// Whether a target may be named at all. Of a name it is not known yet what it resolves to: [`Guard`] judges that.
    ///
    /// # Errors
    /// Why not, and what would let it in.
    pub fn check(&self, place: &Place, by: Author) -> Result<(), String> {
        if let Some(address) = place.address() {
            return self.check_address(place, address, by);
        }
        let named = || self.allow.iter().any(|entry| entry.names(place));
        if by == Author::Config || named() {
            return Ok(());
        }
        Err(format!(
            "{place} is in no entry of egress.allow: its host, scheme and port must be, in the sidecar's configuration"
        ))
    }

    /// Whether a target may be called at this address.
    ///
    /// # Errors
    /// Why not, and what would let it in.
    pub fn check_address(&self, place: &Place, address: IpAddr, by: Author) -> Result<(), String> {
        let address = blocks::canonical(address);
        let block = blocks::of(address);
        let harmless = match block.map(|block| block.kind) {
            None | Some(Kind::Loopback | Kind::Private) => by == Author::Config,
            Some(Kind::Metadata | Kind::LinkLocal | Kind::Special) => false,
        };
        if harmless || self.allow.iter().any(|entry| entry.allows(place, address)) {
            return Ok(());
        }
        let what = block.map_or("public", |block| block.kind.words());
        let cure = match block {
            None => "an entry of egress.allow must name it".to_owned(),
            Some(block) => format!(
                "an entry of egress.allow must name it and have `cidrs` within {}",
                block.net
            ),
        };
        Err(format!("{place} is at {address}, a {what} address: {cure}"))
    }

    /// What judges the addresses of `place` when it is connected to.
    pub fn guard(self: &Arc<Self>, place: Place, by: Author) -> Guard {
        Guard {
            egress: Arc::clone(self),
            place,
            by,
        }
    }
}

/// Resolves one place, and gives those of its addresses that may be called.
#[derive(Debug, Clone)]
pub struct Guard {
    egress: Arc<Egress>,
    place: Place,
    by: Author,
}

impl Guard {
    /// What it resolves.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The addresses to connect to; there is at least one.
    ///
    /// # Errors
    /// The name cannot be resolved, or none of its addresses may be called: why the first may not.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = (self.place.host(), self.place.port());
        let found = match self.place.address() {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|error| format!("{host} cannot be resolved: {error}"))?
                .collect(),
        };
        let mut allowed = Vec::with_capacity(found.len());
        let mut refused = None;
        for address in found {
            match self.egress.check_address(&self.place, address.ip(), self.by) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        if allowed.is_empty() {
            return Err(refused.unwrap_or_else(|| format!("{host} has no address")));
        }
        Ok(allowed)
    }
}

impl Entry {
    fn read(section: Section<'_>) -> Option<Self> {
        let mut hosts = Vec::new();
        for (i, text) in section.strings("hosts").unwrap_or_default().iter().enumerate() {
            match Pattern::parse(text) {
                Ok(pattern) => hosts.push(pattern),
                Err(why) => section.problem(&format!("hosts[{i}]"), why),
            }
        }
        let mut cidrs = Vec::new();
        for (i, text) in section.strings("cidrs").unwrap_or_default().iter().enumerate() {
            let net = text.parse::<IpNet>();
            match net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => cidrs.push(net.trunc()),
                Err(_) => section.problem(
                    &format!("cidrs[{i}]"),
                    format!("{text:?} is no address range; write it as 10.0.0.0/8 or fd00::/8"),
                ),
            }
        }
        let mut schemes = section.strings("schemes").unwrap_or_default();
        for (i, scheme) in schemes.iter_mut().enumerate() {
            scheme.make_ascii_lowercase();
            if scheme != "http" && scheme != "https" {
                section.problem(&format!("schemes[{i}]"), "must be http or https");
            }
        }
        let mut ports = Vec::new();
        for (i, port) in section.list("ports").unwrap_or_default().iter().enumerate() {
            match port.as_f64().filter(|port| port.fract() == 0.0) {
                Some(port) if (1.0..=65535.0).contains(&port) => ports.push(narrow(port)),
                _ => section.problem(&format!("ports[{i}]"), "must be a number from 1 to 65535"),
            }
        }
        if section.raw("hosts").is_none() && section.raw("cidrs").is_none() {
            section.problem(
                "hosts",
                "is required, or `cidrs`: what nothing names is not let out",
            );
        }
        section.finish();
        (!hosts.is_empty() || !cidrs.is_empty()).then_some(Self {
            schemes,
            hosts,
            ports,
            cidrs,
        })
    }

    fn words(&self) -> Vec<String> {
        let scheme = match &self.schemes[..] {
            [] => "*".to_owned(),
            schemes => schemes.join("|"),
        };
        let ports: Vec<String> = match &self.ports[..] {
            [] => vec!["*".to_owned()],
            ports => ports.iter().map(u16::to_string).collect(),
        };
        let cidrs: Vec<String> = self.cidrs.iter().map(IpNet::to_string).collect();
        let within = if cidrs.is_empty() {
            String::new()
        } else {
            format!(" within {}", cidrs.join("|"))
        };
        let all = [Pattern::Any];
        let hosts = if self.hosts.is_empty() {
            &all
        } else {
            &self.hosts[..]
        };
        let one = |host: &Pattern| format!("{scheme}://{host}:{}{within}", ports.join("|"));
        hosts.iter().map(one).collect()
    }

    /// Whether scheme, port and host are in it, so far as the name says.
    fn names(&self, place: &Place) -> bool {
        let scheme = self.schemes.is_empty() || self.schemes.iter().any(|scheme| scheme == place.scheme());
        let port = self.ports.is_empty() || self.ports.contains(&place.port());
        let host = self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.takes(place));
        scheme && port && host
    }

    fn allows(&self, place: &Place, address: IpAddr) -> bool {
        if !self.names(place) {
            return false;
        }
        // An address that is written out is meant.
        let exactly = |pattern: &Pattern| pattern.is_address(address);
        if place.address().is_some() && self.hosts.iter().any(exactly) {
            return true;
        }
        match blocks::of(address) {
            None => self.cidrs.is_empty() || self.cidrs.iter().any(|net| net.contains(&address)),
            // `0.0.0.0/0` means the internet, not what is beside the sidecar: a range opens those blocks only that it is
            // within.
            Some(block) => self
                .cidrs
                .iter()
                .any(|net| net.contains(&address) && block.net.contains(net)),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the caller has checked the range"
)]
fn narrow(port: f64) -> u16 {
    port as u16
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(name) => write!(f, "*{name}"),
            Self::Exactly(host) => host.fmt(f),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || {
            format!(
                "{text:?} is no host; write it as hooks.example.com, *.example.com, an address (IPv6 in brackets), or *"
            )
        };
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(wrong());
        }
        let host = place::host(name).ok_or_else(wrong)?;
        match (below, host) {
            (true, url::Host::Domain(name)) => Ok(Self::Below(format!(".{name}"))),
            (true, _) => Err(wrong()),
            (false, host) => Ok(Self::Exactly(host)),
        }
    }

    fn takes(&self, place: &Place) -> bool {
        match (self, place.name()) {
            (Self::Any, name) => name.is_some(),
            (Self::Below(suffix), Some(name)) => name.len() > suffix.len() && name.ends_with(suffix),
            (Self::Below(_), None) => false,
            (Self::Exactly(url::Host::Domain(own)), name) => name == Some(own),
            (Self::Exactly(_), _) => place.address().is_some_and(|address| self.is_address(address)),
        }
    }

    fn is_address(&self, address: IpAddr) -> bool {
        let own = match self {
            Self::Exactly(url::Host::Ipv4(own)) => IpAddr::V4(*own),
            Self::Exactly(url::Host::Ipv6(own)) => IpAddr::V6(*own),
            _ => return false,
        };
        blocks::canonical(own) == blocks::canonical(address)
    }
}

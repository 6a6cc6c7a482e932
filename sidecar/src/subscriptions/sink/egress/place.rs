//! Where a target is.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// Scheme, host and port of a target, as the URL standard reads them: names in lower case and as IDNA has them,
/// addresses as addresses however they were written (`http://0x7f.1/`, `http://2130706433/`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    scheme: String,
    host: Host<String>,
    port: u16,
}

impl Place {
    /// Where a URL leads.
    ///
    /// # Errors
    /// It is not `http` or `https`, has no host, or has a user's name or a password.
    pub fn of(url: &Url) -> Result<Self, String> {
        let scheme = url.scheme();
        if scheme != "http" && scheme != "https" {
            return Err(format!(
                "{scheme}:// cannot be called: only http:// and https:// can"
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user's name or password in it: use `authentication`".to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => host(name),
            Some(Host::Ipv4(address)) => Some(Host::Ipv4(address)),
            Some(Host::Ipv6(address)) => Some(Host::Ipv6(address)),
            None => None,
        };
        let host = host.ok_or("has no host")?;
        let port = url.port_or_known_default().filter(|port| *port != 0);
        Ok(Self {
            scheme: scheme.to_owned(),
            host,
            port: port.ok_or("has no port")?,
        })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.scheme == "https"
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as text; IPv6 without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The host, if it is a name.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// The host, if it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

/// `https://hooks.example.com:443`: nothing of it is secret.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// A host as the URL standard reads it, and without the dot at the end of an absolute name: it is the same name.
pub(super) fn host(text: &str) -> Option<Host<String>> {
    match Host::parse(text).ok()? {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            // Of `1.2.3.4.` only the dot made a name, and the resolver reads the rest as an address.
            (!name.is_empty() && !name.starts_with('.') && !name.ends_with('.'))
                .then(|| Host::parse(name).ok())
                .flatten()
        }
        other => Some(other),
    }
}

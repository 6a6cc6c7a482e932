//! Connections: names resolved and judged, proxies, TLS.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_openssl::client::legacy::{HttpsConnector, HttpsLayer};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use tower::{Layer, Service, ServiceExt};

use super::io::Io;
use super::{Proxy, Settings, Tls, chain, words};
use crate::subscriptions::sink::egress::Guard;

type Tcp = HttpConnector<Resolver>;
type Making<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

const ALPN_HTTP2_OR_1: &[u8] = b"\x02h2\x08http/1.1";
const ALPN_HTTP1: &[u8] = b"\x08http/1.1";

/// Connects to one target.
#[derive(Clone)]
pub(crate) struct Connector {
    way: Way,
    patience: Duration,
}

#[derive(Clone)]
enum Way {
    Direct(HttpsConnector<Tcp>),
    Proxied(Box<Proxied>),
}

#[derive(Clone)]
struct Proxied {
    proxy: HttpsConnector<Tcp>,
    at: Uri,
    /// What is spoken through it to targets whose scheme is `https`.
    target: HttpsConnector<Tunnel<HttpsConnector<Tcp>>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(guard: Guard, settings: &Settings, proxy: Option<Proxy>) -> Result<Self, String> {
        let patience = settings.connect_timeout;
        let tls = layer(&settings.tls, ALPN_HTTP2_OR_1)?;
        let way = match proxy {
            None => Way::Direct(tls.layer(tcp(guard, patience))),
            Some(proxy) => {
                let at = proxy.guard.place().to_string();
                let at: Uri = at
                    .parse()
                    .map_err(|_| "the proxy's address is no URI".to_owned())?;
                // What is shown to the target is not shown to the proxy.
                let own = Tls {
                    certificate: None,
                    key: None,
                    ..settings.tls.clone()
                };
                let reach = layer(&own, ALPN_HTTP1)?.layer(tcp(proxy.guard, patience));
                let mut tunnel = Tunnel::new(at.clone(), reach.clone());
                if let Some(shown) = &proxy.authorization {
                    tunnel = tunnel.with_auth(shown.clone());
                }
                Way::Proxied(Box::new(Proxied {
                    proxy: reach,
                    at,
                    target: tls.layer(tunnel),
                }))
            }
        };
        Ok(Self { way, patience })
    }
}

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = Unreachable;
    type Future = Making<Io, Unreachable>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Self { way, patience } = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(patience, way.connect(to)).await {
                Ok(made) => made.map_err(|why| Unreachable(format!("cannot connect: {why}"))),
                Err(_) => Err(Unreachable(format!("no connection within {}", words(patience)))),
            }
        })
    }
}

impl Way {
    async fn connect(self, to: Uri) -> Result<Io, String> {
        let told = |error: Box<dyn Error + Send + Sync>| chain(&*error);
        match self {
            Self::Direct(connector) => Ok(Io {
                stream: Box::new(connector.oneshot(to).await.map_err(told)?),
                forwards: false,
            }),
            Self::Proxied(way) if to.scheme_str() == Some("https") => Ok(Io {
                stream: Box::new(way.target.oneshot(to).await.map_err(told)?),
                forwards: false,
            }),
            Self::Proxied(way) => Ok(Io {
                stream: Box::new(way.proxy.oneshot(way.at.clone()).await.map_err(told)?),
                forwards: true,
            }),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unreachable {}

fn tcp(guard: Guard, patience: Duration) -> Tcp {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { guard });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared out among a name's addresses, so that one that is not there leaves time for the next.
    tcp.set_connect_timeout(Some(patience));
    tcp
}

/// Gives hyper the addresses that were judged. An address that is written out does not come by here: `Egress::check` has judged it.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    guard: Guard,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Making<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.guard.clone();
        Box::pin(async move {
            // What was judged is what is connected to, so this must be the name that was judged.
            let same = name
                .as_str()
                .trim_end_matches('.')
                .eq_ignore_ascii_case(&guard.place().host());
            if !same {
                return Err(io::Error::other("is not the target that was allowed"));
            }
            let addresses = guard.resolve().await.map_err(io::Error::other)?;
            Ok(addresses.into_iter())
        })
    }
}

fn layer(tls: &Tls, protocols: &[u8]) -> Result<HttpsLayer, String> {
    let cannot = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(cannot)?;
    builder.set_alpn_protos(protocols).map_err(cannot)?;
    if let Some(pem) = &tls.ca {
        let mut store = X509StoreBuilder::new().map_err(cannot)?;
        for certificate in certificates(pem, "tls.ca")? {
            store.add_cert(certificate).map_err(cannot)?;
        }
        builder.set_cert_store(store.build());
    }
    if !tls.verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        show(&mut builder, certificate, key.expose())?;
    }
    let mut layer = HttpsLayer::with_connector(builder).map_err(cannot)?;
    let verify = tls.verify;
    layer.set_callback(move |own, uri| {
        own.set_verify_hostname(verify);
        // OpenSSL knows addresses without the brackets that a URI has them in.
        let address = uri
            .host()
            .and_then(|host| host.strip_prefix('[')?.strip_suffix(']'));
        if let Some(Ok(address)) = address.map(str::parse::<IpAddr>) {
            own.set_use_server_name_indication(false);
            own.set_verify_hostname(false);
            if verify {
                own.param_mut().set_ip(address)?;
            }
        }
        Ok(())
    });
    Ok(layer)
}

fn certificates(pem: &str, field: &str) -> Result<Vec<X509>, String> {
    let found = X509::stack_from_pem(pem.as_bytes()).unwrap_or_default();
    if found.is_empty() {
        return Err(format!("{field}: has no certificate in PEM"));
    }
    Ok(found)
}

fn show(builder: &mut SslConnectorBuilder, certificate: &str, key: &str) -> Result<(), String> {
    let mut chain = certificates(certificate, "tls.certificate")?.into_iter();
    let refused = |_: ErrorStack| "tls.certificate: OpenSSL does not take it".to_owned();
    if let Some(own) = chain.next() {
        builder.set_certificate(&own).map_err(refused)?;
    }
    for between in chain {
        builder.add_extra_chain_cert(between).map_err(refused)?;
    }
    // An empty passphrase: otherwise OpenSSL asks at the terminal for that of an encrypted key.
    let key = PKey::private_key_from_pem_passphrase(key.as_bytes(), b"")
        .map_err(|_| "tls.key: is no unencrypted private key in PEM".to_owned())?;
    builder
        .set_private_key(&key)
        .and_then(|()| builder.check_private_key())
        .map_err(|_| "tls.key: is not the key of tls.certificate".to_owned())
}

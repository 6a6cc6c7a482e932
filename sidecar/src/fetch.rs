//! One HTTP request to a server of somebody else's: a token endpoint, one that publishes keys, or a deployment. Redirections are not
//! followed, and the answer is bounded in size; how long it may take is the caller's to say.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::http::HeaderValue;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// A longer answer is none, in bytes.
pub(crate) const LONGEST: usize = 256 * 1024;

/// How a server's certificate is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Whether it is verified.
    pub verify: bool,
    /// Who may vouch for it, in PEM; the system's authorities if `None`.
    pub authorities: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Whether `text` is the address of something that can be fetched: `http` or `https`, with a host and without a user.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn address(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|_| "is no URL".to_owned())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err("must begin with `https://` and a host name".to_owned());
    }
    Ok(uri)
}

/// Whether `uri` is `http`, and its host is another machine: anybody on the way reads it, and writes it.
pub(crate) fn is_open_to_others(uri: &Uri) -> bool {
    let host = host(uri);
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    uri.scheme_str() == Some("http") && !here
}

/// The host, without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// Sends `request`, whose target is a path, to the server of `uri`, and reads the answer.
///
/// # Errors
/// What went wrong, in words that have nothing of the request.
pub(crate) async fn fetch(uri: &Uri, trust: &Trust, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let port = uri.port_u16().unwrap_or(if is_secure(uri) { 443 } else { 80 });
    let addresses: Vec<_> = tokio::net::lookup_host((host(uri), port))
        .await
        .map_err(|error| format!("the name cannot be resolved: {error}"))?
        .collect();
    fetch_from(&addresses, uri, trust, request, LONGEST).await
}

fn is_secure(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// As [`fetch`], from the first of these addresses that takes a connection, whatever the name of the server in `uri` stands for.
/// The answer has `longest` bytes at most.
///
/// # Errors
/// As there.
pub(crate) async fn fetch_from(
    addresses: &[SocketAddr],
    uri: &Uri,
    trust: &Trust,
    mut request: Request<Full<Bytes>>,
    longest: usize,
) -> Result<Answer, String> {
    let authority = uri
        .authority()
        .map(|authority| authority.as_str())
        .unwrap_or_default();
    let named = HeaderValue::from_str(authority).map_err(|_| "its name cannot be sent".to_owned())?;
    request.headers_mut().insert(HOST, named);
    let tcp = TcpStream::connect(addresses).await;
    let tcp = tcp.map_err(|error| format!("cannot connect: {error}"))?;
    let stream: Box<dyn Stream> = if is_secure(uri) {
        Box::new(encrypted(trust, host(uri), tcp).await?)
    } else {
        Box::new(tcp)
    };
    exchange(request, stream, longest).await
}

async fn encrypted(trust: &Trust, host: &str, tcp: TcpStream) -> Result<SslStream<TcpStream>, String> {
    let cannot = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(cannot)?;
    if let Some(pem) = &trust.authorities {
        let mut store = X509StoreBuilder::new().map_err(cannot)?;
        for certificate in X509::stack_from_pem(pem.as_bytes()).map_err(cannot)? {
            store.add_cert(certificate).map_err(cannot)?;
        }
        builder.set_cert_store(store.build());
    }
    if !trust.verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let mut own = builder.build().configure().map_err(cannot)?;
    own.set_verify_hostname(trust.verify);
    let ssl = own.into_ssl(host).map_err(cannot)?;
    let mut stream = SslStream::new(ssl, tcp).map_err(cannot)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verdict = stream.ssl().verify_result();
        return Err(if verdict.as_raw() == 0 {
            format!("the TLS handshake failed: {error}")
        } else {
            format!("its certificate is not accepted: {}", verdict.error_string())
        });
    }
    Ok(stream)
}

async fn exchange(
    request: Request<Full<Bytes>>,
    stream: Box<dyn Stream>,
    longest: usize,
) -> Result<Answer, String> {
    fn broken(error: impl Display) -> String {
        format!("the call failed: {error}")
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // What it ends with, the answer ends with too.
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), longest).collect().await;
    driving.abort();
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            format!("its answer has more than {longest} bytes")
        } else {
            broken(error)
        }
    })?;
    Ok(Answer {
        status,
        body: body.to_bytes(),
    })
}

/// The beginning of what somebody else wrote, on one line.
pub(crate) fn plain(text: &str) -> String {
    const MOST: usize = 200;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MOST).map(clean).collect()
}

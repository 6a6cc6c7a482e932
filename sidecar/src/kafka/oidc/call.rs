//! One request to a token endpoint.

use std::fmt::Display;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::Settings;

/// A longer answer is none.
const LONGEST: usize = 256 * 1024;

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Asks, on a thread of its own: whoever calls may be within a runtime, which must not be blocked twice. Blocks for `within`
/// at most.
///
/// # Errors
/// What went wrong, in words without secrets.
pub(super) fn call(settings: &Settings, within: Duration) -> Result<Answer, String> {
    let settings = settings.clone();
    let asking = std::thread::Builder::new()
        .name("token-endpoint".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("cannot ask: {error}"))?;
            let answer = runtime.block_on(async { tokio::time::timeout(within, ask(&settings)).await });
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", within.as_secs())))
        });
    let asking = asking.map_err(|error| format!("cannot start a thread: {error}"))?;
    asking
        .join()
        .unwrap_or_else(|_| Err("the attempt failed".to_owned()))
}

async fn ask(settings: &Settings) -> Result<Answer, String> {
    let uri = &settings.endpoint;
    let secure = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| format!("the name cannot be resolved: {error}"))?
        .collect();
    let tcp = TcpStream::connect(addresses.as_slice()).await;
    let tcp = tcp.map_err(|error| format!("cannot connect: {error}"))?;
    let stream: Box<dyn Stream> = if secure {
        Box::new(encrypted(settings, host, tcp).await?)
    } else {
        Box::new(tcp)
    };
    exchange(request(settings)?, stream).await
}

async fn encrypted(settings: &Settings, host: &str, tcp: TcpStream) -> Result<SslStream<TcpStream>, String> {
    let cannot = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(cannot)?;
    if let Some(pem) = &settings.authorities {
        let mut store = X509StoreBuilder::new().map_err(cannot)?;
        for certificate in X509::stack_from_pem(pem.as_bytes()).map_err(cannot)? {
            store.add_cert(certificate).map_err(cannot)?;
        }
        builder.set_cert_store(store.build());
    }
    if !settings.verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let mut own = builder.build().configure().map_err(cannot)?;
    own.set_verify_hostname(settings.verify);
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

/// Client and secret as RFC 6749 has them (section 2.3.1): each encoded like a form, since a `:` may be in either.
fn request(settings: &Settings) -> Result<Request<Full<Bytes>>, String> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let login = format!(
        "{}:{}",
        encoded(&settings.client_id),
        encoded(settings.client_secret.expose())
    );
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !settings.scopes.is_empty() {
        form.append_pair("scope", &settings.scopes.join(" "));
    }
    let uri = &settings.endpoint;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map(|host| host.as_str()).unwrap_or_default();
    Request::post(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(login)))
        .body(Full::new(Bytes::from(form.finish())))
        .map_err(|_| "no request can be made of its address".to_owned())
}

async fn exchange(request: Request<Full<Bytes>>, stream: Box<dyn Stream>) -> Result<Answer, String> {
    fn broken(error: impl Display) -> String {
        format!("the call failed: {error}")
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // What it ends with, the answer ends with too.
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    driving.abort();
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            format!("its answer has more than {LONGEST} bytes")
        } else {
            broken(error)
        }
    })?;
    Ok(Answer {
        status,
        body: body.to_bytes(),
    })
}

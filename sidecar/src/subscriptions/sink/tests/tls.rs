use std::pin::Pin;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslVerifyMode, select_next_proto};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use super::world::*;
use crate::subscriptions::event::Deliver;

/// A key, and a certificate that vouches for itself and for whatever has its name.
pub(super) struct Own {
    key: PKey<Private>,
    certificate: X509,
}

impl Own {
    pub(super) fn new(name: &str) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let mut serial = BigNum::new().unwrap();
        serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
        builder
            .set_serial_number(&serial.to_asn1_integer().unwrap())
            .unwrap();
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        let subject = subject.build();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder
            .set_not_before(&Asn1Time::days_from_now(0).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::days_from_now(2).unwrap())
            .unwrap();
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
        let names = SubjectAlternativeName::new()
            .ip("127.0.0.1")
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self {
            key,
            certificate: builder.build(),
        }
    }

    pub(super) fn certificate(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    /// A server's side of TLS with this; `client`: whom it wants to see.
    pub(super) fn acceptor(&self, protocols: &'static [u8], client: Option<&Self>) -> SslAcceptor {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&self.key).unwrap();
        acceptor.set_certificate(&self.certificate).unwrap();
        acceptor.set_alpn_select_callback(move |_, offered| {
            select_next_proto(protocols, offered).ok_or(AlpnError::NOACK)
        });
        if let Some(client) = client {
            acceptor
                .cert_store_mut()
                .add_cert(client.certificate.clone())
                .unwrap();
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        acceptor.build()
    }

    fn key(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }
}

/// A connection whose handshake is to come.
pub(super) fn accepted(acceptor: &SslAcceptor, stream: TcpStream) -> SslStream<TcpStream> {
    SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap()
}

/// A server that speaks TLS, and HTTP/2 where `protocols` has it; `client`: whom it wants to see.
pub(super) async fn secure(own: &Own, protocols: &'static [u8], client: Option<&Own>) -> Server {
    let acceptor = own.acceptor(protocols, client);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (app, sent) = app(|_, _| ());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = accepted(&acceptor, stream);
            let app = app.clone();
            tokio::spawn(async move {
                if Pin::new(&mut stream).accept().await.is_ok() {
                    let service = TowerToHyperService::new(app);
                    let server = auto::Builder::new(TokioExecutor::new());
                    server
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .unwrap_or_default();
                }
            });
        }
    });
    Server { address, sent }
}

const HTTP2: &[u8] = b"\x02h2\x08http/1.1";
pub(super) const HTTP1: &[u8] = b"\x08http/1.1";

#[tokio::test]
async fn http2_is_spoken_where_tls_agrees_on_it() {
    let own = Own::new("server");
    for (protocols, version) in [
        (HTTP2, axum::http::Version::HTTP_2),
        (HTTP1, axum::http::Version::HTTP_11),
    ] {
        let server = secure(&own, protocols, None).await;
        let url = format!("https://{}/path", server.address);
        let webhook = webhook(
            &url,
            &json!({"tls": {"ca": own.certificate()}, "connect_timeout": "20s"}),
        );
        let mut made = record(Some("1"));
        made.headers = vec![
            (b"connection".to_vec(), Some(b"x".to_vec())),
            (b"te".to_vec(), Some(b"x".to_vec())),
        ];
        assert_eq!(webhook.deliver(&[event(made)]).await, DONE);
        let sent = server.last();
        assert_eq!((sent.version, sent.text()), (version, "1"));
        assert_eq!(sent.header("kafka.topic"), "orders");
    }
}

#[tokio::test]
async fn a_certificate_is_verified_unless_that_is_turned_off() {
    let own = Own::new("server");
    let server = secure(&own, HTTP2, None).await;
    let url = format!("https://{}/", server.address);
    let why = retried(
        webhook(&url, &json!({"connect_timeout": "20s"}))
            .deliver(&[valued("1")])
            .await,
    );
    assert!(
        why.contains("cannot connect") && why.contains("certificate"),
        "{why}"
    );
    let other = webhook(
        &url,
        &json!({"tls": {"ca": Own::new("other").certificate()}, "connect_timeout": "20s"}),
    );
    assert!(retried(other.deliver(&[valued("1")]).await).contains("certificate"));
    // Its certificate is of 127.0.0.1 only.
    let url = format!("https://localhost:{}/", server.address.port());
    let named = webhook(
        &url,
        &json!({"tls": {"ca": own.certificate()}, "connect_timeout": "20s"}),
    );
    assert!(retried(named.deliver(&[valued("1")]).await).contains("certificate"));
    assert!(server.all().is_empty());
    let careless = webhook(&url, &json!({"tls": {"verify": false}, "connect_timeout": "20s"}));
    assert_eq!(careless.deliver(&[valued("1")]).await, DONE);
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let (own, client) = (Own::new("server"), Own::new("client"));
    let server = secure(&own, HTTP1, Some(&client)).await;
    let url = format!("https://{}/", server.address);
    let without = webhook(
        &url,
        &json!({"tls": {"ca": own.certificate()}, "connect_timeout": "20s"}),
    );
    retried(without.deliver(&[valued("1")]).await);
    let tls = json!({"ca": own.certificate(), "certificate": client.certificate(), "key": client.key()});
    let with = webhook(&url, &json!({"tls": tls, "connect_timeout": "20s"}));
    assert_eq!(with.deliver(&[valued("1")]).await, DONE);
    assert_eq!(server.all().len(), 1);
}

#[test]
fn certificates_and_keys_belong_together() {
    use crate::metrics::SinkMetrics;
    use crate::subscriptions::sink::egress::Egress;
    use crate::subscriptions::sink::{Target, Webhook};
    let (one, two) = (Own::new("one"), Own::new("two"));
    for (tls, wanted) in [
        (
            json!({"certificate": one.certificate(), "key": two.key()}),
            "tls.key: is not the key of tls.certificate",
        ),
        (
            json!({"certificate": one.certificate(), "key": "x"}),
            "tls.key: is no unencrypted private key",
        ),
        (
            json!({"certificate": "x", "key": one.key()}),
            "tls.certificate: has no certificate in PEM",
        ),
        (json!({"ca": "x"}), "tls.ca: has no certificate in PEM"),
    ] {
        let target = Target::webhook("https://x/").unwrap();
        let options = options(&json!({"tls": tls}));
        let made = Webhook::new(
            target,
            &options,
            USAGE,
            &Egress::default().into(),
            SinkMetrics::default(),
        );
        let why = made.err().unwrap();
        assert!(why.contains(wanted), "{why}");
        assert!(!format!("{options:?}").contains(&one.key()), "a key is printed");
    }
}

//! An OpenID Connect issuer: signs tokens for who has the secret, and publishes the key.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::json;
use sluice_e2e::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::papers::base64url;

/// How it behaves.
#[derive(Debug, Clone)]
pub(super) struct Manners {
    /// What the client must show, as it arrives: `Basic …`.
    pub(super) login: String,
    /// How long tokens are good for, in seconds.
    pub(super) lifetime: u64,
    /// It takes requests and does not answer them.
    pub(super) hangs: bool,
}

#[derive(Debug)]
struct Shared {
    key: PKey<Private>,
    manners: Mutex<Manners>,
    asked: Mutex<Vec<String>>,
}

/// A running one. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Issuer {
    port: u16,
    jwks: PathBuf,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    /// Starts one that writes its key (RFC 7517) into `dir`.
    pub(super) async fn start(dir: &Path, manners: Manners) -> Result<Self> {
        let rsa = Rsa::generate(2048)?;
        let (n, e) = (base64url(&rsa.n().to_vec()), base64url(&rsa.e().to_vec()));
        let set =
            json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "test", "n": n, "e": e}]});
        let jwks = dir.join("jwks.json");
        std::fs::write(&jwks, set.to_string())?;
        let shared = Arc::new(Shared {
            key: PKey::from_rsa(rsa)?,
            manners: Mutex::new(manners),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            jwks,
            shared,
            task,
        })
    }

    /// The token endpoint.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// The broker properties of the listener `name` that takes its tokens, and only those.
    pub(super) fn broker_properties(&self, name: &str) -> Vec<(String, String)> {
        let package = "org.apache.kafka.common.security.oauthbearer";
        let handler = format!("listener.name.{name}.oauthbearer.sasl.server.callback.handler.class");
        [
            (handler, format!("{package}.OAuthBearerValidatorCallbackHandler")),
            ("sasl.oauthbearer.jwks.endpoint.url".to_owned(), self.keys_url()),
            (
                "sasl.oauthbearer.expected.audience".to_owned(),
                "kafka".to_owned(),
            ),
            (
                "sasl.oauthbearer.expected.issuer".to_owned(),
                "test-issuer".to_owned(),
            ),
        ]
        .into()
    }

    /// The system property without which Kafka 4 does not look at that file.
    pub(super) fn jvm(&self) -> String {
        format!(
            "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}",
            self.keys_url()
        )
    }

    fn keys_url(&self) -> String {
        format!("file:{}", self.jwks.display())
    }

    /// Has it behave otherwise.
    pub(super) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.shared.manners.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The bodies of the requests so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.shared
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A token for somebody, good for so many seconds from now on.
    pub(super) fn token(&self, subject: &str, seconds: i64) -> Result<String> {
        self.shared.token(subject, seconds)
    }
}

impl Shared {
    fn token(&self, subject: &str, seconds: i64) -> Result<String> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let claims = json!({
            "iss": "test-issuer", "aud": "kafka", "sub": subject, "iat": now + seconds.min(0), "exp": now + seconds,
        });
        let head = base64url(br#"{"alg":"RS256","kid":"test"}"#);
        let signed = format!("{head}.{}", base64url(claims.to_string().as_bytes()));
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        signer.update(signed.as_bytes())?;
        Ok(format!("{signed}.{}", base64url(&signer.sign_to_vec()?)))
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<(u16, String)> {
        let login = request.headers().get("authorization").cloned();
        let body = request.into_body().collect().await?.to_bytes();
        let manners = self
            .manners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let text = String::from_utf8(body.to_vec())?;
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
        if manners.hangs {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        if login.context("no Authorization")?.as_bytes() != manners.login.as_bytes() {
            return Ok((401, json!({"error": "invalid_client"}).to_string()));
        }
        let lifetime = i64::try_from(manners.lifetime)?;
        let token = self.token("alice", lifetime)?;
        let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime});
        Ok((200, answer.to_string()))
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let answer = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move {
                let (status, body) = shared
                    .answer(request)
                    .await
                    .unwrap_or_else(|error| (500, error.to_string()));
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = status.try_into().unwrap_or_default();
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            // A client that hangs up is no concern of the issuer's.
            drop(builder.serve_connection(TokioIo::new(stream), answer).await);
        });
    }
}

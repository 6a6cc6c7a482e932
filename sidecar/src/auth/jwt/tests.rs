//! With keys and tokens of the test's own; the end-to-end tests have tokens of another implementation.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Uri;
use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::fetch::Trust;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A key that signs, by its algorithm and id.
struct Signing {
    algorithm: &'static str,
    id: &'static str,
    key: PKey<Private>,
}

impl Signing {
    fn new(algorithm: &'static str, id: &'static str) -> Self {
        let ec = |curve| {
            let group = EcGroup::from_curve_name(curve).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        let key = match algorithm {
            "ES256" => ec(Nid::X9_62_PRIME256V1),
            "ES384" => ec(Nid::SECP384R1),
            "EdDSA" => PKey::generate_ed25519().unwrap(),
            _ => PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        };
        Self { algorithm, id, key }
    }

    fn jwk(&self) -> Value {
        let mut jwk = match self.algorithm {
            "EdDSA" => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.key.raw_public_key().unwrap())})
            }
            "ES256" | "ES384" => {
                let own = self.key.ec_key().unwrap();
                let (mut x, mut y) = (
                    openssl::bn::BigNum::new().unwrap(),
                    openssl::bn::BigNum::new().unwrap(),
                );
                let mut context = BigNumContext::new().unwrap();
                own.public_key()
                    .affine_coordinates(own.group(), &mut x, &mut y, &mut context)
                    .unwrap();
                let (crv, size) = if self.algorithm == "ES256" {
                    ("P-256", 32)
                } else {
                    ("P-384", 48)
                };
                json!({"kty": "EC", "crv": crv, "x": encode(x.to_vec_padded(size).unwrap()),
                    "y": encode(y.to_vec_padded(size).unwrap())})
            }
            _ => {
                let own = self.key.rsa().unwrap();
                json!({"kty": "RSA", "n": encode(own.n().to_vec()), "e": encode(own.e().to_vec())})
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap();
        let digest = match algorithm.get(2..) {
            Some("384") => MessageDigest::sha384(),
            Some("512") => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        };
        let bytes = message.as_bytes();
        let signature = match &algorithm[..2] {
            "ES" => {
                let own = self.key.ec_key().unwrap();
                let half = if algorithm == "ES256" { 32 } else { 48 };
                let signed = EcdsaSig::sign(&hash(digest, bytes).unwrap(), &own).unwrap();
                let half = |number: &openssl::bn::BigNumRef| number.to_vec_padded(half).unwrap();
                [half(signed.r()), half(signed.s())].concat()
            }
            "Ed" => Signer::new_without_digest(&self.key)
                .unwrap()
                .sign_oneshot_to_vec(bytes)
                .unwrap(),
            padding => {
                let mut signer = Signer::new(digest, &self.key).unwrap();
                if padding == "PS" {
                    signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
                    signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
                }
                signer.sign_oneshot_to_vec(bytes).unwrap()
            }
        };
        format!("{message}.{}", encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign_as(
            &json!({"alg": self.algorithm, "typ": "JWT", "kid": self.id}),
            claims,
        )
    }
}

fn set(keys: &[&Signing]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

fn good() -> Value {
    json!({"iss": "https://issuer", "aud": ["other", "sluice"], "sub": "alice", "exp": now() + 300})
}

fn settings(jwks: Jwks) -> Settings {
    Settings {
        name: "corporate".to_owned(),
        issuer: "https://issuer".to_owned(),
        audiences: vec!["sluice".to_owned()],
        jwks,
        algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
        clock_skew: Duration::from_secs(5),
        name_claim: Name::parse("sub").unwrap(),
    }
}

fn in_file(keys: &[&Signing]) -> (tempfile::NamedTempFile, Settings) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), set(keys)).unwrap();
    let settings = settings(Jwks::File(file.path().to_owned()));
    (file, settings)
}

async fn refused(provider: &Provider, token: &str) -> String {
    match provider.verify(token).await {
        Err(Refusal::Token(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_algorithm_is_taken_and_only_with_its_own_key() {
    let keys = ["RS256", "ES256", "ES384", "EdDSA"].map(|name| Signing::new(name, name));
    let (_file, settings) = in_file(&keys.each_ref());
    let provider = Provider::new(settings);
    for (name, _) in ALGORITHMS {
        let signer = match &name[..2] {
            "RS" | "PS" => &keys[0],
            _ => keys.iter().find(|key| key.algorithm == *name).unwrap(),
        };
        let token = signer.sign_as(&json!({"alg": name, "kid": signer.id}), &good());
        let caller = provider
            .verify(&token)
            .await
            .unwrap_or_else(|why| panic!("{name}: {why:?}"));
        assert_eq!(caller.name.as_deref(), Some("alice"), "{name}");
        assert!(caller.left() > Duration::from_secs(290) && caller.left() < Duration::from_secs(310));
        // Without a key's name, whichever fits.
        let unnamed = signer.sign_as(&json!({"alg": name}), &good());
        assert!(provider.verify(&unnamed).await.is_ok(), "{name}");
        let stranger = Signing::new(signer.algorithm, signer.id);
        let forged = stranger.sign_as(&json!({"alg": name, "kid": signer.id}), &good());
        assert!(
            refused(&provider, &forged).await.contains("signature is wrong"),
            "{name}"
        );
        // A signature that is cut off, or longer, is wrong, or cannot be read.
        for odd in [token[..token.len() - 4].to_owned(), format!("{token}AAAA")] {
            let why = refused(&provider, &odd).await;
            assert!(
                why.contains("signature is wrong") || why.contains("can be read"),
                "{why}"
            );
        }
    }
}

#[tokio::test]
async fn what_proves_nothing_is_refused() {
    let key = Signing::new("RS256", "k");
    let (_file, settings) = in_file(&[&key]);
    let provider = Provider::new(Settings {
        algorithms: vec![Algorithm::RS256],
        ..settings
    });
    let claims = encode(good().to_string());
    let none = format!("{}.{claims}.", encode(json!({"alg": "none"}).to_string()));
    assert!(refused(&provider, &none).await.contains("no JWT"));
    // The public key as the secret of an HMAC, in each of its forms.
    let public = key.key.public_key_to_pem().unwrap();
    for secret in [
        public,
        key.key.public_key_to_der().unwrap(),
        key.jwk().to_string().into_bytes(),
    ] {
        let message = format!(
            "{}.{claims}",
            encode(json!({"alg": "HS256", "kid": "k"}).to_string())
        );
        let secret = PKey::hmac(&secret).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &secret).unwrap();
        let signature = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
        let forged = format!("{message}.{}", encode(signature));
        assert!(
            refused(&provider, &forged)
                .await
                .contains("HS256, which jwt.corporate.algorithms does not list")
        );
    }
    let other = key.sign_as(&json!({"alg": "PS256", "kid": "k"}), &good());
    assert!(refused(&provider, &other).await.contains("PS256"));
    let unknown = Signing::new("RS256", "other");
    assert!(
        refused(&provider, &unknown.token(&good()))
            .await
            .contains("does not publish")
    );
    // A key that the token brings itself.
    let own = unknown.sign_as(
        &json!({"alg": "RS256", "kid": "k", "jwk": unknown.jwk()}),
        &good(),
    );
    assert!(refused(&provider, &own).await.contains("signature is wrong"));
    let critical = key.sign_as(
        &json!({"alg": "RS256", "kid": "k", "crit": ["b64"], "b64": false}),
        &good(),
    );
    assert!(refused(&provider, &critical).await.contains("critical"));
    for odd in ["", "a", "a.b", "..", "a.b.c", "a.b.c.d", "e30.e30.e30"] {
        assert!(refused(&provider, odd).await.contains("no JWT"), "{odd}");
    }
    let mut long = good();
    long["x"] = json!("x".repeat(LONGEST));
    assert!(refused(&provider, &key.token(&long)).await.contains("16384"));
}

#[tokio::test]
async fn what_a_token_says_of_itself_is_checked() {
    let key = Signing::new("ES256", "k");
    let (_file, settings) = in_file(&[&key]);
    let provider = Provider::new(settings.clone());
    let with = |name: &str, value: Value| {
        let mut claims = good();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        key.token(&claims)
    };
    for (name, value, what) in [
        ("exp", json!(now() - 7), "expired"),
        ("exp", Value::Null, "no exp"),
        ("exp", json!("soon"), "no exp"),
        ("exp", json!(-1), "no exp"),
        ("nbf", json!(now() + 60), "not good yet"),
        ("iss", json!("https://issuer/"), "another issuer"),
        ("iss", Value::Null, "no iss"),
        ("aud", json!("other"), "none of sluice"),
        ("aud", json!(["other"]), "none of sluice"),
        ("aud", Value::Null, "no aud"),
    ] {
        let why = refused(&provider, &with(name, value.clone())).await;
        assert!(why.contains(what), "{name} {value}: {why}");
    }
    // Within the clock skew, and what is missing of what need not be there.
    for (name, value) in [
        ("exp", json!(now() - 2)),
        ("exp", json!(now() as f64 + 0.5)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(now() + 3)),
        ("aud", json!("sluice")),
        ("sub", Value::Null),
    ] {
        let taken = provider.verify(&with(name, value.clone())).await;
        assert!(taken.is_ok(), "{name} {value}: {taken:?}");
    }
    let anybodys = Provider::new(Settings {
        audiences: Vec::new(),
        ..settings.clone()
    });
    assert!(anybodys.verify(&with("aud", Value::Null)).await.is_ok());
    let named = Provider::new(Settings {
        name_claim: Name::parse("email").unwrap(),
        ..settings
    });
    let caller = named.verify(&with("email", json!("a@b"))).await.unwrap();
    assert_eq!(caller.name.as_deref(), Some("a@b"));
    assert!(named.is_named_by(&with("aud", Value::Null)));
    assert!(!named.is_named_by(&with("iss", json!("x"))) && !named.is_named_by("a.b.c"));
}

#[tokio::test]
async fn a_file_is_read_again_and_the_last_good_keys_stay() {
    let (old, new) = (Signing::new("ES256", "old"), Signing::new("ES256", "new"));
    let (file, settings) = in_file(&[&old]);
    let provider = Provider::new(settings);
    assert!(provider.verify(&old.token(&good())).await.is_ok());
    std::fs::write(file.path(), "no keys").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(provider.verify(&old.token(&good())).await.is_ok());
    std::fs::write(file.path(), set(&[&new])).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while provider.verify(&new.token(&good())).await.is_err() {
        assert!(std::time::Instant::now() < until, "it is never read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(provider.verify(&old.token(&good())).await.is_err());
}

/// Serves what `body` holds, or 500 when it is empty; counts.
async fn serve(body: Arc<std::sync::Mutex<String>>) -> (Uri, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let handle = move || {
        count.fetch_add(1, Ordering::SeqCst);
        let body = body.lock().unwrap().clone();
        async move {
            if body.is_empty() {
                (StatusCode::INTERNAL_SERVER_ERROR, body)
            } else {
                (StatusCode::OK, body)
            }
        }
    };
    let app = Router::new().route("/keys", get(handle));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}/keys").parse().unwrap(), asked)
}

fn at(url: Uri, cache_duration: Duration) -> Settings {
    settings(Jwks::Url {
        url,
        trust: Trust {
            verify: true,
            authorities: None,
        },
        cache_duration,
    })
}

#[tokio::test]
async fn an_issuer_is_asked_once_and_again_for_a_key_that_it_did_not_have() {
    let (old, new) = (Signing::new("ES256", "old"), Signing::new("ES256", "new"));
    let body = Arc::new(std::sync::Mutex::new(String::new()));
    let (url, asked) = serve(Arc::clone(&body)).await;
    let provider = Provider::new(at(url, Duration::from_secs(3600)));
    let away = provider.verify(&old.token(&good())).await.unwrap_err();
    let Refusal::Keys(why) = &away else {
        panic!("{away:?}")
    };
    assert!(why.contains("jwt.corporate") && why.contains("500"), "{why}");
    // Not asked again at once.
    assert_eq!(provider.verify(&old.token(&good())).await.unwrap_err(), away);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    *body.lock().unwrap() = set(&[&old]);
    tokio::time::sleep(source::RETRY).await;
    for _ in 0..3 {
        assert!(provider.verify(&old.token(&good())).await.is_ok());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // However many tokens name keys that nobody has, the issuer is asked once in a while.
    *body.lock().unwrap() = set(&[&old, &new]);
    for _ in 0..5 {
        assert!(
            refused(&provider, &new.token(&good()))
                .await
                .contains("does not publish")
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    provider.keys.forget_when();
    assert!(provider.verify(&new.token(&good())).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    // While it is away the keys that there are stay, and nobody knows of others.
    *body.lock().unwrap() = String::new();
    provider.keys.forget_when();
    let other = Signing::new("ES256", "other");
    assert!(matches!(
        provider.verify(&other.token(&good())).await,
        Err(Refusal::Keys(_))
    ));
    assert!(provider.verify(&new.token(&good())).await.is_ok());
}

#[tokio::test]
async fn keys_that_have_become_old_are_fetched_beside() {
    let (old, new) = (Signing::new("ES256", "same"), Signing::new("ES256", "same"));
    let body = Arc::new(std::sync::Mutex::new(set(&[&old])));
    let (url, asked) = serve(Arc::clone(&body)).await;
    let provider = Provider::new(at(url, Duration::ZERO));
    assert!(provider.verify(&old.token(&good())).await.is_ok());
    *body.lock().unwrap() = set(&[&new]);
    provider.keys.forget_when();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while provider.verify(&new.token(&good())).await.is_err() {
        assert!(std::time::Instant::now() < until, "they are never fetched");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_set_without_a_key_that_can_be_used_is_none() {
    let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let short = Signing {
        algorithm: "RS256",
        id: "k",
        key: short,
    };
    let one = |jwk: Value| json!({ "keys": [jwk] }).to_string();
    let altered = |name: &str, value: Value| {
        let mut jwk = Signing::new("ES256", "k").jwk();
        jwk[name] = value;
        one(jwk)
    };
    for (text, what) in [
        ("x".to_owned(), "no JSON"),
        ("{}".to_owned(), "no list `keys`"),
        (one(short.jwk()), "1024 bits"),
        (one(json!({"kty": "oct", "k": "AAAA"})), "none of the kinds"),
        (one(json!({"kty": "RSA", "n": "AQAB", "e": "AQ"})), "bits"),
        (
            one(json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})),
            "no Ed25519 key",
        ),
        (altered("use", json!("enc")), "not `sig`"),
        (altered("key_ops", json!(["sign"])), "without `verify`"),
        (altered("crv", json!("P-521")), "neither P-256 nor P-384"),
        (altered("crv", json!("P-384")), "no point of its curve"),
        (altered("x", json!("AAAA")), "no point of its curve"),
        (altered("x", json!("!")), "base64url"),
        (altered("alg", json!("ES384")), "its `alg`"),
        (altered("alg", json!("HS256")), "its `alg`"),
        (json!({"keys": []}).to_string(), "none of its 0 keys"),
        (json!({"keys": vec![0; 101]}).to_string(), "may have 100"),
    ] {
        let why = KeySet::parse(text.as_bytes()).unwrap_err();
        assert!(why.contains(what), "{text}: {why}");
    }
    let both = json!({"keys": [{"kty": "new"}, Signing::new("ES256", "k").jwk()]});
    assert_eq!(KeySet::parse(both.to_string().as_bytes()).unwrap().count(), 1);
}

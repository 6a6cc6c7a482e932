//! Who may read by a token that another implementation made: checked by the sidecar, and by Envoy in front of it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod};
use serde_json::{Value, json};
use sluice_e2e::certificates::Authority;
use sluice_e2e::client::{Client, Reply, full};
use sluice_e2e::envoy::{Envoy, produce, reads};
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Context, Result, ensure, parts, ports, wait};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::{next, values};

const ISSUER: &str = "https://issuer.example";
const ORG: &str = "the-first-32-bytes-of-this-are-the-key-and-this-is-not";
const PATIENCE: Duration = Duration::from_secs(60);

/// A key of the issuer's.
struct Key {
    algorithm: &'static str,
    file: PathBuf,
    kid: &'static str,
    jwk: Value,
}

async fn python(arguments: &[&str]) -> Result<String> {
    let script = parts::root().join("e2e/jwt/tokens.py");
    let output = Command::new(parts::pyjwt()?).arg(script).args(arguments).output();
    let output = output.await.context("PyJWT")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl Key {
    async fn new(s: &Scenario, algorithm: &'static str, kid: &'static str) -> Result<Self> {
        let file = s.dir().join(format!("{kid}.pem"));
        let path = file.to_str().context("a path that is not UTF-8")?;
        let jwk = python(&["key", algorithm, path, kid]).await?;
        Ok(Self {
            algorithm,
            kid,
            jwk: serde_json::from_str(&jwk)?,
            file,
        })
    }

    /// A token that says this besides, for so many seconds.
    async fn token(&self, claims: Value, seconds: u64) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut all = json!({"iss": ISSUER, "aud": "sluice", "sub": "alice", "exp": now + seconds});
        if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
            all.extend(claims);
        }
        let path = self.file.to_str().context("a path that is not UTF-8")?;
        python(&["sign", self.algorithm, path, self.kid, &all.to_string()]).await
    }
}

fn set(keys: &[&Key]) -> String {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

async fn get(client: &Client, path: &str, token: &str, headers: &[(&str, &str)]) -> Result<Reply> {
    let mut request = client.request(Method::GET, path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(full(""))?).await
}

/// What an issuer publishes, over TLS; it ends when it is dropped.
struct Published {
    port: u16,
    keys: Arc<Mutex<String>>,
    asked: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Published {
    async fn start(s: &Scenario, authority: &Authority, keys: String) -> Result<Self> {
        let identity = authority.issue("issuer", &["127.0.0.1"], -1..30)?;
        let certificate = identity.write_certificate(&s.dir().join("issuer.pem"))?;
        let key = identity.write_key(&s.dir().join("issuer-key.pem"), None)?;
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_certificate_chain_file(certificate)?;
        acceptor.set_private_key_file(key, SslFiletype::PEM)?;
        let acceptor = acceptor.build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (keys, asked) = (Arc::new(Mutex::new(keys)), Arc::new(Mutex::new(0)));
        let shared = (Arc::clone(&keys), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), shared.clone());
                tokio::spawn(serve(tcp, acceptor, shared));
            }
        });
        Ok(Self {
            port,
            keys,
            asked,
            task,
        })
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/keys", self.port)
    }

    fn publish(&self, keys: String) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Shared = (Arc<Mutex<String>>, Arc<Mutex<usize>>);

async fn serve(tcp: tokio::net::TcpStream, acceptor: SslAcceptor, (keys, asked): Shared) {
    let Ok(mut tls) = Ssl::new(acceptor.context()).and_then(|ssl| tokio_openssl::SslStream::new(ssl, tcp))
    else {
        return;
    };
    if std::pin::Pin::new(&mut tls).accept().await.is_err() {
        return;
    }
    let answer = move |_: Request<Incoming>| {
        *asked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let body = keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body))) }
    };
    let served = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(tls), service_fn(answer))
        .await;
    drop(served);
}

async fn fill(kafka: &Kafka, topics: &[&str]) -> Result<()> {
    for topic in topics {
        kafka.create_topic(topic, 1).await?;
        kafka.console_produce(topic, &[("k", topic)]).await?;
    }
    Ok(())
}

#[test]
fn claims_of_a_token_of_another_implementation_choose_through_envoy() -> Result<()> {
    scenario("reading-tokens", async |s| {
        let kafka = kafka::shared().await?;
        let prefix = s.topic("t");
        let (acme, globex) = (format!("{prefix}.acme.a"), format!("{prefix}.globex.a"));
        fill(kafka, &[&acme, &globex]).await?;
        let mut keys = Vec::new();
        for (algorithm, kid) in [
            ("RS256", "rs"),
            ("PS256", "ps"),
            ("ES256", "es"),
            ("ES384", "es3"),
            ("EdDSA", "ed"),
        ] {
            keys.push(Key::new(s, algorithm, kid).await?);
        }
        let all: Vec<&Key> = keys.iter().collect();
        let authority = Authority::new("test authority")?;
        let published = Published::start(s, &authority, set(&all)).await?;
        let trust = authority.write(&s.dir().join("ca.pem"))?;
        let jwks = json!({"url": published.url(), "truststore": {"location": trust}});
        let provider = json!({
            "issuer": ISSUER, "audiences": ["sluice"], "jwks": jwks, "clock_skew": 0,
            "algorithms": ["RS256", "PS256", "ES256", "ES384", "EdDSA"],
        });
        let mut untrusted = provider.clone();
        if let Some(fields) = untrusted.as_object_mut() {
            fields.insert("jwks".to_owned(), json!({"url": published.url()}));
            fields.insert("issuer".to_owned(), json!("https://other.example"));
        }
        let entry = json!({
            "topics": [format!("{prefix}.{{claims.org}}.*")], "encodeMessageId": false, "max_wait": 0,
            "jwt": {"provider": "corporate", "claims": {"scope": "read"}},
        });
        let stranger = json!({"topics": [globex], "jwt": {"provider": "untrusted"}});
        let parts = Parts::new(&kafka.bootstrap(), vec![reads()?])
            .sidecar("jwt", json!({"corporate": provider, "untrusted": untrusted}))
            .sidecar("reads", json!([entry, stranger]));
        let rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        let own = format!("/topics/{acme}/records?from=earliest");
        let other = format!("/topics/{globex}/records?from=earliest");
        for key in &keys {
            let token = key
                .token(json!({"org": "acme", "scope": "read write"}), 600)
                .await?;
            let found = get(&client, &own, &token, &[]).await?.expect(200)?.json()?;
            ensure!(values(&found) == [acme.as_str()], "{}: {found}", key.algorithm);
            let refused = get(&client, &other, &token, &[]).await?;
            refused.expect_error(403, "topic_not_allowed")?;
            ensure!(refused.header("www-authenticate").contains("insufficient_scope"));
        }
        ensure!(published.asked() == 1, "asked {} times", published.asked());
        let rsa = keys.first().context("no key")?;
        for org in ["*", "acme.a", "acme*", ""] {
            let token = rsa.token(json!({"org": org, "scope": "read"}), 600).await?;
            get(&client, &own, &token, &[])
                .await?
                .expect_error(403, "topic_not_allowed")?;
        }
        let token = rsa.token(json!({"org": "acme"}), 600).await?;
        get(&client, &own, &token, &[])
            .await?
            .expect_error(403, "topic_not_allowed")?;
        let refused = get(&client, &own, "", &[]).await?;
        refused.expect_error(401, "not_authenticated")?;
        ensure!(refused.header("www-authenticate") == "Bearer");
        let late = json!({"org": "acme", "scope": "read", "exp": 1_700_000_000});
        let refused = get(&client, &own, &rsa.token(late, 0).await?, &[]).await?;
        refused.expect_error(401, "not_authenticated")?;
        ensure!(
            refused
                .header("www-authenticate")
                .contains("the token has expired")
        );
        // A certificate that nobody vouches for: whether the token is good, nobody knows.
        let token = rsa.token(json!({"iss": "https://other.example"}), 600).await?;
        let unknown = get(&client, &other, &token, &[]).await?;
        unknown.expect_error(503, "unavailable")?;
        ensure!(
            unknown.text().contains("certificate is not accepted"),
            "{}",
            unknown.text()
        );

        // A key that the issuer did not have before.
        let new = Key::new(s, "ES256", "new").await?;
        let token = new.token(json!({"org": "acme", "scope": "read"}), 600).await?;
        published.publish(set(&[&new]));
        wait::until("the new key is known", PATIENCE, async || {
            get(&client, &own, &token, &[]).await?.expect(200)?;
            Ok(())
        })
        .await?;
        // A stream ends with its token, and goes on with another.
        let short = new.token(json!({"org": "acme", "scope": "read"}), 5).await?;
        let stream = format!("/topics/{acme}/stream?from=earliest");
        let ended = get(&client.within(PATIENCE), &stream, &short, &[]).await?.text();
        ensure!(
            ended.contains("event: message") && ended.contains("event: error") && ended.contains("expired"),
            "{ended}"
        );
        Ok(())
    })
}

#[test]
fn what_envoy_knows_of_the_caller_chooses_and_nobody_can_forge_it() -> Result<()> {
    scenario("reading-metadata", async |s| {
        let kafka = kafka::shared().await?;
        let prefix = s.topic("t");
        let (acme, globex) = (format!("{prefix}.acme"), format!("{prefix}.globex"));
        fill(kafka, &[&acme, &globex]).await?;
        let entry = json!({
            "topic": {"header": "x-sluice-topic", "allowed": [acme, globex]},
            "from": {"header": "x-sluice-from", "allowed": ["earliest", "latest"], "default": "latest"},
            "key": {"header": "x-sluice-key", "allowed": ["k", "other"], "default": "k"},
            "anonymous": true, "encodeMessageId": false, "max_wait": 0,
        });
        let (shared, group, other_group) = (s.topic("shared"), s.topic("a"), s.topic("b"));
        fill(kafka, &[&shared]).await?;
        let grouped = json!({
            "topics": [shared], "anonymous": true,
            "group": {"header": "x-sluice-group", "allowed": [group, other_group], "default": other_group},
        });
        let parts = Parts::new(&kafka.bootstrap(), vec![reads()?]).sidecar("reads", json!([entry, grouped]));
        let rig = Rig::start(s, parts).await?;
        let key = Key::new(s, "RS256", "rs").await?;
        let jwks = s.dir().join("jwks.json");
        std::fs::write(&jwks, set(&[&key]))?;

        // The shipped example, with the key in a file.
        let text = std::fs::read_to_string(parts::root().join("examples/reading-by-metadata.yaml"))?;
        let mut config: Value = serde_saphyr::from_str(&text)?;
        let (port, admin) = (ports::pick()?, ports::pick()?);
        let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let provider = format!("{manager}/http_filters/0/typed_config/providers/corporate");
        let sidecar =
            "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        let changes = [
            ("/admin/address".to_owned(), address(admin)),
            ("/static_resources/listeners/0/address".to_owned(), address(port)),
            (sidecar.to_owned(), address(rig.sidecar.data())),
            (
                provider,
                json!({
                    "issuer": ISSUER, "audiences": ["sluice"], "payload_in_metadata": "token",
                    "local_jwks": {"filename": jwks},
                }),
            ),
        ];
        for (pointer, new) in changes {
            *config
                .pointer_mut(&pointer)
                .with_context(|| format!("nothing at {pointer}"))? = new;
        }
        if let Some(clusters) = config
            .pointer_mut("/static_resources/clusters")
            .and_then(Value::as_array_mut)
        {
            clusters.retain(|cluster| cluster.get("name") != Some(&json!("issuer")));
        }
        let path = s.dir().join("readers.json");
        std::fs::write(&path, config.to_string())?;
        let envoy = Envoy::start_file(s.dir(), &path, port, admin).await?;
        let client = envoy.h1();

        let token = key.token(json!({"topic": acme, "from": "earliest"}), 600).await?;
        let found = get(&client, "/records", &token, &[]).await?.expect(200)?.json()?;
        ensure!(values(&found) == [acme.as_str()], "{found}");
        // Whatever the client says besides, in headers or in the path.
        let forged = [("x-sluice-topic", globex.as_str()), ("x-sluice-from", "latest")];
        let found = get(&client, "/records", &token, &forged)
            .await?
            .expect(200)?
            .json()?;
        ensure!(values(&found) == [acme.as_str()], "{found}");
        let other = format!("/topics/{globex}/records");
        get(&client, &other, &token, &forged)
            .await?
            .expect_error(403, "topic_not_allowed")?;
        // A token without the claims leaves nothing of what the client says.
        let bare = key.token(json!({}), 600).await?;
        let refused = get(&client, "/records", &bare, &forged).await?;
        refused.expect_error(400, "invalid_request")?;
        ensure!(
            refused.text().contains("x-sluice-topic is missing"),
            "{}",
            refused.text()
        );
        let unlisted = key.token(json!({"topic": "else"}), 600).await?;
        get(&client, "/records", &unlisted, &[])
            .await?
            .expect_error(403, "topic_not_allowed")?;
        let only = key.token(json!({"topic": globex}), 600).await?;
        let found = get(&client, "/records", &only, &[]).await?.expect(200)?.json()?;
        ensure!(
            values(&found).is_empty() && next(&found).contains("%230"),
            "{found}"
        );
        get(&client, "/records", "", &forged).await?.expect(401)?;

        // The key of its records, and its group.
        let keyed = key
            .token(json!({"topic": acme, "from": "earliest", "key": "other"}), 600)
            .await?;
        let found = get(&client, "/records", &keyed, &[("x-sluice-key", "k")]).await?;
        let found = found.expect(200)?.json()?;
        ensure!(values(&found).is_empty(), "{found}");
        let described = format!("/topics/{shared}");
        let member = key.token(json!({"group": group}), 600).await?;
        for (token, expected) in [(&member, &group), (&bare, &other_group)] {
            let forged = [("x-sluice-group", group.as_str())];
            let found = get(&client, &described, token, &forged)
                .await?
                .expect(200)?
                .json()?;
            ensure!(found.get("group") == Some(&json!(expected)), "{found}");
        }
        get(&client, &format!("{described}?group={other_group}"), &member, &[])
            .await?
            .expect_error(403, "group_not_allowed")?;
        Ok(())
    })
}

#[test]
fn who_asks_for_a_record_is_in_it_by_what_envoy_verified() -> Result<()> {
    scenario("templates-jwt", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("runs");
        kafka.create_topic(&topic, 1).await?;
        let key = Key::new(s, "RS256", "rs").await?;
        let jwks = s.dir().join("jwks.json");
        std::fs::write(&jwks, set(&[&key]))?;
        let jwt_authn = json!({
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"corporate": {
                    "issuer": ISSUER, "audiences": ["sluice"], "payload_in_metadata": "claims",
                    "local_jwks": {"filename": jwks},
                }},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "corporate"}}],
            },
        });
        let claim = |name: &str| json!({"metadata": ["envoy.filters.http.jwt_authn", "claims", name]});
        let settings = json!({
            "topic": topic,
            "payload": {
                "action": "deploy",
                "n": 1,
                "by": "{{ .trigger.by }}",
                "operation": "{{ .trigger.operation }}",
                "seen": "{{ .request.headers.authorization }}",
                "token": "{{ .secrets[\"api\"] }}",
                "properties": {"{{ spreadValue() }}": "{{ .inputs }}"},
            },
            "template": {"key": "{{ .inputs.service }}", "headers": {"by": "{{ .trigger.by.user.email }}"}},
            "encrypt": {"secret": "org", "inputs": ["/password"]},
            "trigger": {"operation": "CREATE", "by": {"user.email": claim("email"), "orgId": claim("org")}},
        });
        let wrong = json!({"topic": topic, "payload": {"a": "{{ nope }}"}});
        let routes = vec![produce("/wrong", wrong), produce("/", settings)];
        let mut parts = Parts::new(&kafka.bootstrap(), routes).sidecar(
            "secrets",
            json!({
                "api": {"value": "hush", "topics": [topic]},
                "org": {"value": ORG, "topics": [topic]},
            }),
        );
        parts.before = vec![jwt_authn];
        let rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        let token = key
            .token(json!({"email": "alice@example.com", "org": "ACME"}), 600)
            .await?;
        let post = async |path: &str, body: &str| {
            let request = client
                .request(Method::POST, path)
                .header("content-type", "application/json")
                .header("x-user", "mallory")
                .header("authorization", format!("Bearer {token}"));
            client.send(request.body(full(body.to_owned()))?).await
        };
        let body = r#"{"service": "shop", "version": 7, "password": "geheim ä"}"#;
        post("/", body).await?.expect(200)?;
        let record = kafka.only_record(&topic).await?;
        // Another implementation than the one that encrypted it.
        let sealed = record.json()?.pointer("/properties/password").cloned();
        let sealed = sealed.as_ref().and_then(Value::as_str).context("no password")?;
        ensure!(python(&["open", ORG, sealed]).await? == "geheim ä");
        let expected = json!({
            "action": "deploy", "n": 1, "operation": "CREATE", "seen": null,
            "by": {"user": {"email": "alice@example.com"}, "orgId": "ACME"},
            "token": "hush",
            "properties": {"service": "shop", "version": 7, "password": sealed},
        });
        ensure!(record.json()? == expected, "{}", record.text()?);
        ensure!(record.key.as_deref() == Some(&b"shop"[..]), "{:?}", record.key);
        let refused = post("/", "[1]").await?;
        refused.expect_error(400, "invalid_request")?;
        ensure!(refused.text().contains("spreadValue()"), "{}", refused.text());
        let wrong = post("/wrong", "{}").await?;
        wrong.expect_error(500, "route_misconfigured")?;
        ensure!(wrong.text().contains("calls nope"), "{}", wrong.text());
        let other = client.post("/", "application/json", "{}").await?;
        other.expect(401)?;
        kafka.only_record(&topic).await?;
        Ok(())
    })
}

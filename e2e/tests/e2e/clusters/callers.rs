//! Callers with tokens of their own: Kafka sees each one's principal.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use sluice_e2e::client::{Client, Reply, full};
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::kafka::{Door, Kafka};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Result, ensure, wait};

use super::LIMIT;
use super::issuer::{Issuer, Manners};
use super::papers::{Papers, token};

const PATIENCE: Duration = Duration::from_secs(60);

async fn post(client: &Client, path: &str, authorization: &str) -> Result<Reply> {
    let mut request = client.request(Method::POST, path);
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    client.send(request.body(full("x"))?).await
}

#[test]
fn each_caller_is_who_its_token_says() -> Result<()> {
    scenario_within(LIMIT, "clusters-callers", async |s| {
        let papers = Papers::new(s)?;
        let manners = Manners {
            login: "nobody asks".to_owned(),
            lifetime: 60,
            hangs: false,
        };
        let issuer = Issuer::start(s.dir(), manners).await?;
        let mut setup = papers.setup()?;
        // For its ACLs.
        setup
            .users
            .push(("somebody".to_owned(), "some-secret".to_owned()));
        setup.properties.extend(issuer.broker_properties("sasltls"));
        setup.jvm.push(issuer.jvm());
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        kafka.allow("alice", "Write", &topic).await?;
        let settings = json!({"topic": topic, "value": "body", "forward_bearer_token": true});
        let mut parts = Parts::new(
            "",
            vec![
                produce("/call", by_call(settings.clone())),
                produce("/kept", json!({"topic": topic, "value": "body"})),
                produce("/", settings),
            ],
        );
        parts.sidecar = json!({"clusters": {"main": {
            "bootstrap_servers": kafka.door(Door::SaslTls),
            "security": papers.tls(),
            "authentication": {"mechanism": "OAUTHBEARER", "credentials": "from_request"},
            "allowed_topics": [topic],
        }}});
        let rig = Rig::start(s, parts).await?;
        let (http, rest) = (rig.envoy.h1(), rig.sidecar.rest());
        let direct = format!("/topics/{topic}/records");
        let ways = [(&http, "/"), (&http, "/call"), (&rest, direct.as_str())];
        let bearer = |token: &str| format!("Bearer {token}");
        let (alice, bob) = (issuer.token("alice", 600)?, issuer.token("bob", 600)?);
        for (client, path) in ways {
            post(client, path, &bearer(&alice)).await?.expect(200)?;
            post(client, path, &bearer(&bob))
                .await?
                .expect_error(403, "not_authorised")?;
            post(client, path, &bearer(&alice)).await?.expect(200)?;
            for (what, authorization, words) in [
                ("no token", String::new(), "the request has none"),
                ("another scheme", "Basic YTpi".to_owned(), "the request has none"),
                (
                    "an old one",
                    bearer(&issuer.token("alice", -5)?),
                    "the token expired at",
                ),
                // Kafka says so: nobody signed it.
                (
                    "a made-up one",
                    bearer(&token(600)?),
                    "the brokers do not accept the caller's token",
                ),
            ] {
                let reply = post(client, path, &authorization).await?;
                let error = reply.expect_error(401, "caller_not_authenticated")?.text();
                ensure!(error.contains(words), "{path}: {what}: {error}");
                ensure!(
                    reply.header("www-authenticate") == "Bearer",
                    "{path}: {:?}",
                    reply.headers
                );
            }
        }
        // A route that does not pass it on.
        post(&http, "/kept", &bearer(&alice))
            .await?
            .expect_error(401, "caller_not_authenticated")?;
        ensure!(kafka.records(&topic).await?.len() == 6);

        // One whose time ends meanwhile.
        let short = issuer.token("alice", 8)?;
        post(&http, "/", &bearer(&short)).await?.expect(200)?;
        wait::until("it has ended", PATIENCE, async || {
            let reply = post(&http, "/", &bearer(&short)).await?;
            reply.expect_error(401, "caller_not_authenticated").map(|_| ())
        })
        .await?;
        post(&http, "/", &bearer(&alice)).await?.expect(200)?;
        let log = rig.sidecar.log()?;
        let metrics = rig.sidecar.admin().get("/metrics").await?.text();
        let ready = rig.sidecar.admin().get("/readyz").await?.text();
        for token in [&alice, &bob, &short] {
            let part = token
                .rsplit('.')
                .find(|part| !part.is_empty())
                .unwrap_or_default();
            let told = [&log, &metrics, &ready].iter().any(|text| text.contains(part));
            ensure!(!told, "a token is told");
        }
        ensure!(rig.sidecar.metric("sluice_callers", "cluster=\"main\"").await? >= 1.0);
        Ok(())
    })
}

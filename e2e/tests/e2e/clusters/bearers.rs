//! Bearer tokens of an OpenID Connect issuer, which real brokers check; and what goes with a token.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::kafka::{Door, Kafka};
use sluice_e2e::load::{Load, truthful};
use sluice_e2e::rig::Rig;
use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::{Context, Result, ensure, ports, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::LIMIT;
use super::issuer::{Issuer, Manners};
use super::papers::{Papers, clusters, sluice, token};

const PATIENCE: Duration = Duration::from_secs(60);
/// `sluice:se%3Acret` in base64: both encoded like a form, as RFC 6749 has it.
const LOGIN: &str = "Basic c2x1aWNlOnNlJTNBY3JldA==";
const SECRET: &str = "se:cret";

/// A Kafka that takes the tokens of an issuer, and ends connections with their tokens.
async fn start(s: &Scenario, papers: &Papers, lifetime: u64) -> Result<(Issuer, Kafka)> {
    let manners = Manners {
        login: LOGIN.to_owned(),
        lifetime,
        hangs: false,
    };
    let issuer = Issuer::start(s.dir(), manners).await?;
    let mut setup = papers.setup()?.property("connections.max.reauth.ms", "3600000");
    setup.properties.extend(issuer.broker_properties("sasltls"));
    setup.jvm.push(issuer.jvm());
    let kafka = Kafka::start(s.dir(), &setup).await?;
    Ok((issuer, kafka))
}

#[test]
fn client_credentials() -> Result<()> {
    scenario_within(LIMIT, "clusters-oidc", async |s| {
        let papers = Papers::new(s)?;
        let (issuer, kafka) = start(s, &papers, 12).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let fields = json!({
            "token_endpoint_url": issuer.endpoint(), "client_id": "sluice", "client_secret": SECRET,
            "scopes": ["write", "read"],
        });
        let line = format!(
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=\"sluice\" \
             clientSecret=\"{SECRET}\" scope=\"jaas\";"
        );
        let all = [
            (
                "oidc",
                json!({"bootstrap_servers": kafka.door(Door::SaslTls), "security": papers.tls(),
                "authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": fields}}),
            ),
            (
                "jaas",
                json!({"bootstrap_servers": kafka.door(Door::SaslTls), "security": papers.tls(),
                "authentication": {"sasl_jaas_config": line},
                "properties": {"sasl.oauthbearer.token.endpoint.url": issuer.endpoint()}}),
            ),
        ];
        // What nobody signed is not taken there.
        let unsigned = json!({"bootstrap_servers": kafka.door(Door::SaslTls), "security": papers.tls(),
            "authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": {"token": token(600)?}}});
        let fixed = json!({"bootstrap_servers": kafka.door(Door::SaslTls), "security": papers.tls(),
            "authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": {"token": issuer.token("alice", 600)?}}});
        let [oidc, jaas] = all;
        let all = [oidc, jaas, ("fixed", fixed), ("unsigned", unsigned)];
        let rig = Rig::start(s, clusters(&all, &topic, 5000)).await?;
        let http = rig.envoy.h1();
        for name in ["oidc", "jaas", "fixed"] {
            let sent = http.post(&format!("/{name}/"), "", name).await?;
            sent.expect(200).with_context(|| name.to_owned())?;
        }
        let refused = http.post("/unsigned/", "", "x").await?;
        let error = refused.expect_error(503, "cluster_unavailable")?.text();
        ensure!(error.contains("does not accept the credentials"), "{error}");
        let asked = issuer.asked();
        for scope in ["write+read", "jaas"] {
            let body = format!("grant_type=client_credentials&scope={scope}");
            ensure!(asked.contains(&body), "{asked:?}");
        }

        // Several lives of a token: each is renewed before it ends, and no record waits.
        let load = Load::start(&http, "/oidc/", 4, Duration::from_millis(20));
        let asked = || {
            let asked = issuer.asked();
            asked.iter().filter(|body| body.contains("write")).count()
        };
        let first = asked();
        wait::until("the first token is replaced twice", PATIENCE, async || {
            ensure!(asked() >= first + 2, "{first}");
            Ok(())
        })
        .await?;
        // Nor does one while the issuer hangs, as long as the token is good.
        issuer.behave(|manners| manners.lifetime = 300);
        let before = asked();
        wait::until("a longer token is fetched", PATIENCE, async || {
            ensure!(asked() > before, "{before}");
            Ok(())
        })
        .await?;
        issuer.behave(|manners| manners.hangs = true);
        load.wait_for(200, 200).await?;
        let sent = load.finish().await?;
        ensure!(
            sent.iter().all(|sent| sent.status == 200),
            "{:?}",
            sent.iter().find(|s| s.status != 200)
        );
        let slowest = sent.iter().map(|sent| sent.took).max().unwrap_or_default();
        ensure!(slowest < Duration::from_secs(2), "{slowest:?}");
        let count = issuer.asked().len();
        ensure!((4..30).contains(&count), "asked {count} times");
        let mut records = kafka.records(&topic).await?;
        records.retain(|record| record.text().is_ok_and(|text| text.starts_with("value-")));
        truthful(&sent, &records)?;
        let log = rig.sidecar.log()?;
        ensure!(
            !log.contains(SECRET) && !log.contains("se%3Acret"),
            "a secret is told"
        );
        Ok(())
    })
}

/// The issuer does not answer, does not know the client, and then does: each is told, and the last needs no restart.
#[test]
fn an_issuer_that_gives_no_token() -> Result<()> {
    scenario_within(LIMIT, "clusters-issuer", async |s| {
        let papers = Papers::new(s)?;
        let (issuer, kafka) = start(s, &papers, 600).await?;
        issuer.behave(|manners| manners.login = "another".to_owned());
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let from = |endpoint: String| {
            json!({"bootstrap_servers": kafka.door(Door::SaslTls), "security": papers.tls(), "authentication": {
                "mechanism": "OAUTHBEARER", "oauthbearer": {
                    "token_endpoint_url": endpoint, "client_id": "sluice", "client_secret": SECRET,
                },
            }})
        };
        let dead = format!("http://127.0.0.1:{}/", ports::pick()?);
        let all = [
            ("unknown", from(issuer.endpoint())),
            ("dead", from(dead)),
            ("nameless", from("http://no-such-host.invalid/".to_owned())),
            ("plain", from(issuer.endpoint().replace("http:", "https:"))),
        ];
        let words = [
            "it answers 401, invalid_client",
            "cannot connect",
            "the name cannot be resolved",
            "the TLS handshake failed",
        ];
        let rig = Rig::start(s, clusters(&all, &topic, 3000)).await?;
        let http = rig.envoy.h1();
        for ((name, _), words) in all.iter().zip(words) {
            let reply = http.post(&format!("/{name}/"), "", "x").await?;
            let error = reply.expect_error(503, "cluster_unavailable")?.text();
            ensure!(error.contains(words), "{name}: {error}");
            let labels = format!("cluster=\"{name}\",producer=\"default\",reason=\"token\"");
            let counted = rig
                .sidecar
                .metric("sluice_connection_failures_total", &labels)
                .await?;
            ensure!(counted > 0.0, "{name}: {counted}");
        }
        let (code, _, err) = sluice(s, &["check-config", "--connect"]).await?;
        ensure!(code == Some(1), "{err}");
        for ((name, _), words) in all.iter().zip(words) {
            let line = err
                .lines()
                .find(|line| line.starts_with(&format!("clusters.{name}: ")));
            ensure!(line.is_some_and(|line| line.contains(words)), "{name}: {line:?}");
        }
        issuer.behave(|manners| manners.login = LOGIN.to_owned());
        wait::until("it is mended", PATIENCE, async || {
            http.post("/unknown/", "", "mended").await?.expect(200)?;
            Ok(())
        })
        .await?;
        let told = [err, rig.sidecar.log()?].concat();
        ensure!(!told.contains(SECRET), "a secret is told");
        Ok(())
    })
}

/// What is between client and broker reads what the client says first (RFC 7628).
#[test]
fn extensions_reach_the_broker() -> Result<()> {
    scenario_within(LIMIT, "clusters-extensions", async |s| {
        let papers = Papers::new(s)?;
        let package = "org.apache.kafka.common.security.oauthbearer";
        let setup = papers
            .setup()?
            .property("listener.name.sasl.sasl.enabled.mechanisms", "OAUTHBEARER")
            .property(
                "listener.name.sasl.oauthbearer.sasl.jaas.config",
                &format!(
                    "{package}.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";"
                ),
            );
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let between = TcpListener::bind("127.0.0.1:0").await?;
        let front = between.local_addr()?.to_string();
        let door = kafka.door(Door::Sasl);
        let said = tokio::spawn(async move {
            let (mut client, _) = between.accept().await?;
            let mut broker = TcpStream::connect(door).await?;
            let (mut from_client, mut to_client) = client.split();
            let (mut from_broker, mut to_broker) = broker.split();
            let mut said = Vec::new();
            let mut bytes = [0; 4096];
            let reading = async {
                loop {
                    let count = from_client.read(&mut bytes).await?;
                    said.extend(bytes.iter().take(count));
                    to_broker
                        .write_all(bytes.get(..count).unwrap_or_default())
                        .await?;
                    if count == 0 || said.windows(2).any(|two| two == b"\x01\x01") {
                        return Ok::<_, sluice_e2e::Error>(());
                    }
                }
            };
            tokio::select! {
                done = reading => done?,
                copied = tokio::io::copy(&mut from_broker, &mut to_client) => drop(copied?),
            }
            Ok::<_, sluice_e2e::Error>(said)
        });
        let all = [(
            "main",
            json!({"bootstrap_servers": front, "authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": {
                "token": token(600)?, "extensions": {"logicalCluster": "lkc-1", "identityPoolId": "pool-2"},
            }}}),
        )];
        let _rig = Rig::start(s, clusters(&all, &topic, 4000)).await?;
        let said = tokio::time::timeout(PATIENCE, said).await???;
        let said = String::from_utf8_lossy(&said);
        let bearer = format!(
            "\x01auth=Bearer {}\x01",
            token(600)?.split('.').next().unwrap_or_default()
        );
        ensure!(said.contains(bearer.trim_end_matches('\x01')), "{said:?}");
        for extension in ["\x01logicalCluster=lkc-1\x01", "\x01identityPoolId=pool-2\x01"] {
            ensure!(said.contains(extension), "{said:?}");
        }
        Ok(())
    })
}

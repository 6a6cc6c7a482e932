//! Every secret field has a sentinel in it, and nothing that the sidecar or a command says has one: no output, no answer,
//! no metric.

use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::command::{Kafka, sluice};
use crate::serve::{ports, post_with, serve};

/// Stands in every field that is free text; followed by letters that say which.
const SENTINEL: &str = "Sentinel0";
/// The passwords of the stores in `testdata/keystores`.
const PASSWORDS: [&str; 2] = ["store-secret", "key-secret"];

fn keystores() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/keystores")
        .display()
        .to_string()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(&keystores()).join(name)).unwrap()
}

/// What must not be said: the sentinels, and each line of the keys, as they are read and as they are converted.
fn secrets() -> Vec<String> {
    let keys = ["key.pem", "key-encrypted.pem"].map(read).concat();
    let lines = keys.lines().filter(|line| line.len() > 40).map(str::to_owned);
    let short = [SENTINEL].into_iter().chain(PASSWORDS).map(str::to_owned);
    short.chain(lines).collect()
}

/// A configuration whose clusters have a secret in every field that takes one, each way that it can be written.
fn config(data: u16, broker: u16) -> serde_json::Value {
    let dir = keystores();
    let store = |name: &str| format!("{dir}/{name}");
    let server = format!("127.0.0.1:{broker}");
    let login = |mechanism: &str, which: &str| json!({"mechanism": mechanism, "user": format!("user{SENTINEL}"), "password": format!("{SENTINEL}{which}")});
    let trust = json!({"location": store("trust.p12"), "password": "store-secret"});
    let cluster = |more: serde_json::Value| {
        let mut cluster = json!({"bootstrap_servers": server, "allowed_topics": ["orders"]});
        let map = cluster.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        cluster
    };
    json!({
        "listeners": {
            "stream": {"path": "stream.sock"},
            "data": {"address": format!("127.0.0.1:{data}")},
        },
        "answer_timeout": "1500ms",
        "certificates": {"mine": {
            "cert": {"file": store("chain.pem")}, "key": read("key-encrypted.pem"), "key_password": "key-secret",
        }},
        "clusters": {
            "plain": cluster(json!({"authentication": login("PLAIN", "a"), "properties": {"debug": "all"}})),
            "scram": cluster(json!({"authentication": login("SCRAM-SHA-512", "b"), "security": {
                "ssl": true, "truststore": trust,
                "keystore": {
                    "type": "JKS", "location": store("two-passwords.jks"), "password": "store-secret",
                    "key_password": "key-secret",
                },
            }, "properties": {"debug": "all"}})),
            "inline": cluster(json!({"security": {
                "ssl": true, "truststore": trust,
                "keystore": {"certificate_chain": {"file": store("chain.pem")}, "key": read("key.pem")},
            }})),
            "whole": cluster(json!({"security": {"ssl": true, "keystore": {"content": read("both.pem")}}})),
            "certificate": cluster(json!({"security": {"ssl": true, "certificate_id": "mine"}})),
            "token": cluster(json!({"authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": {
                "token": format!("{SENTINEL}c"), "extensions": {"more": format!("{SENTINEL}d")},
            }}, "properties": {"debug": "all"}})),
            "issuer": cluster(json!({"authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": {
                "token_endpoint_url": format!("http://127.0.0.1:{broker}/token"), "client_id": "me",
                "client_secret": format!("{SENTINEL}h"),
            }}, "properties": {"debug": "all"}})),
            "jaas-issuer": cluster(json!({"authentication": {"sasl_jaas_config": format!(
                "OAuthBearerLoginModule required clientId=me clientSecret=\"{SENTINEL}i\";"
            )}, "properties": {"sasl.oauthbearer.token.endpoint.url": format!("http://127.0.0.1:{broker}/token")}})),
            "callers": cluster(json!({
                "authentication": {"mechanism": "OAUTHBEARER", "credentials": "from_request"}, "properties": {"debug": "all"},
            })),
            "file": cluster(json!({"authentication": {"mechanism": "OAUTHBEARER", "oauthbearer": {
                "token_file": "token",
            }}})),
            "jaas": cluster(json!({"authentication": {"sasl_jaas_config": format!(
                "PlainLoginModule required username=\"user{SENTINEL}\" password=\"{SENTINEL}e\";"
            )}})),
            "delegation": cluster(json!({"authentication": {
                "mechanism": "SCRAM-SHA-256", "user": format!("user{SENTINEL}"), "password": format!("{SENTINEL}h"),
                "tokenauth": true,
            }, "properties": {"debug": "all"}})),
            "aws": cluster(json!({"security": {"ssl": true}, "authentication": {
                "mechanism": "AWS_MSK_IAM", "aws_msk_iam": {
                    "region": "eu-west-1", "access_key_id": format!("user{SENTINEL}"),
                    "secret_access_key": format!("{SENTINEL}i"), "session_token": format!("{SENTINEL}j"),
                },
            }, "properties": {"debug": "all"}})),
            "aws-role": cluster(json!({"security": {"ssl": true}, "authentication": {
                "mechanism": "AWS_MSK_IAM", "aws_msk_iam": {
                    "region": "eu-west-1", "access_key_id": format!("user{SENTINEL}"),
                    "secret_access_key": format!("{SENTINEL}k"), "role_arn": "arn:aws:iam::1:role/r",
                    "role_external_id": format!("{SENTINEL}l"), "sts_endpoint": format!("http://{server}"),
                },
            }, "properties": {"debug": "all"}})),
            "property": cluster(json!({"properties": {
                "security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": format!("user{SENTINEL}"),
                "sasl.password": {"env": "PASSWORD"}, "ssl.key.pem": read("key-encrypted.pem"),
                "ssl.key.password": "key-secret", "ssl.certificate.pem": read("chain.pem"), "debug": "all",
            }})),
        },
    })
}

async fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_secret_is_ever_told() {
    let kafka = Kafka::start("").await;
    let [data, admin] = ports();
    // The dev broker knows neither TLS nor SASL: every way fails, after the client has done what it can.
    let broker = kafka.brokers().rsplit_once(':').unwrap().1.parse().unwrap();
    let tree = config(data, broker);
    kafka.write("token", &format!("{SENTINEL}f\n"));
    let password = format!("{SENTINEL}g");
    let variables = [
        ("PASSWORD", password.as_str()),
        ("RUST_LOG", "trace,hyper=info,h2=info"),
    ];
    let mut told: Vec<(String, String)> = Vec::new();

    let (kafka, running) = serve(kafka, &tree.to_string(), admin, &variables).await;
    let names: Vec<String> = tree["clusters"].as_object().unwrap().keys().cloned().collect();
    for name in &names {
        let answer = post_with(
            data,
            &format!("/topics/orders/records?cluster_name={name}"),
            &format!("authorization: Bearer {SENTINEL}j\r\n"),
            "hello",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{name}: {answer}");
        told.push((format!("answer of {name}"), answer));
    }
    for path in ["/metrics", "/readyz"] {
        told.push((path.to_owned(), get(admin, path).await));
    }
    running.terminate().await;
    let ended = running.finish().await;
    assert!(
        ended.err.contains("DEBUG") && ended.err.contains("SASL"),
        "{}",
        ended.err
    );
    told.push(("serve".to_owned(), ended.out + &ended.err));

    // The same by the commands. Whatever takes a value from a variable has it in the configuration now.
    let mut tree = tree;
    tree["clusters"]["property"]["properties"]["sasl.password"] = json!(password);
    kafka.write("own.yaml", &tree.to_string());
    let mut commands = vec![
        vec!["check-config"],
        vec!["check-config", "--show"],
        vec!["check-config", "--connect"],
    ];
    for name in &names {
        commands.push(vec!["topics", "list", "--cluster", name]);
        commands.push(vec!["send", "orders", "x", "--cluster", name]);
        commands.push(vec!["tail", "orders", "--cluster", name]);
    }
    // Several at once, since each waits for its 5 s; and no more, since each that runs must get on before its deadline.
    for some in commands.chunks(8) {
        let runs = some.iter().map(|command| {
            let command = [command.as_slice(), &["--config", "own.yaml"]].concat();
            let kafka = &kafka;
            async move { (command.join(" "), sluice(kafka, &command).await) }
        });
        for (command, output) in futures(runs).await {
            let failed = !command.contains("check-config") || command.contains("--connect");
            assert_eq!(output.code, Some(i32::from(failed)), "{command}: {output:?}");
            told.push((command, output.out + &output.err));
        }
    }

    // And where the configuration is wrong: each value in its place, and of the wrong kind.
    for (pointer, value) in [
        (
            "/clusters/plain/authentication/password",
            json!({SENTINEL: SENTINEL}),
        ),
        ("/clusters/plain/authentication/password", json!([SENTINEL])),
        ("/clusters/plain/authentication/mechanism", json!("OAUTHBEARER")),
        ("/clusters/scram/security/truststore/password", json!(SENTINEL)),
        ("/clusters/scram/security/keystore/password", json!(SENTINEL)),
        ("/clusters/scram/security/keystore/key_password", json!(SENTINEL)),
        (
            "/clusters/inline/security/keystore/key",
            json!(format!("-----BEGIN PRIVATE KEY-----\n{SENTINEL}")),
        ),
        ("/clusters/whole/security/keystore/content", json!(SENTINEL)),
        (
            "/clusters/token/authentication/oauthbearer/token",
            json!(format!("{SENTINEL} {SENTINEL}")),
        ),
        (
            "/clusters/token/authentication/oauthbearer/extensions",
            json!({"auth": SENTINEL}),
        ),
        ("/clusters/jaas/authentication/sasl_jaas_config", json!(SENTINEL)),
        (
            "/clusters/jaas/authentication/sasl_jaas_config",
            json!(format!(
                "PlainLoginModule required username=a {SENTINEL}={SENTINEL} password={SENTINEL};"
            )),
        ),
        ("/certificates/mine/key", json!(SENTINEL)),
        ("/certificates/mine/key_password", json!(SENTINEL)),
        ("/clusters/property/properties/ssl.key.password", json!(SENTINEL)),
    ] {
        let mut wrong = tree.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        kafka.write("wrong.yaml", &wrong.to_string());
        for command in ["check-config", "serve"] {
            let output = sluice(&kafka, &[command, "--config", "wrong.yaml"]).await;
            assert_eq!(output.code, Some(64), "{pointer}: {output:?}");
            // A key that nobody knows is no secret; what it is set to is.
            let said = output
                .err
                .replace(&format!("password.{SENTINEL}: unknown field"), "");
            told.push((format!("{command} with a wrong {pointer}"), output.out + &said));
        }
    }

    let secrets = secrets();
    assert!(secrets.len() > 40, "{}", secrets.len());
    for (who, said) in told {
        for secret in &secrets {
            let at = said.lines().find(|line| line.contains(secret.as_str()));
            assert!(at.is_none(), "{who} tells a secret: {at:?}");
        }
    }
}

/// All of them at once.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

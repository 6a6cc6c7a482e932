//! What is signed, verified by the libraries that receivers use: `standardwebhooks` of PyPI and of npm, which `make webhooks`
//! fetches; and, as Port has no library, by Python's own `hmac`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use sluice::kafka::reader::Record;
use sluice::metrics::SinkMetrics;
use sluice::subscriptions::event::{Deliver, Event, Outcome};
use sluice::subscriptions::sink::egress::{Author, Egress};
use sluice::subscriptions::sink::{Inline, Options, Target, Usage, Webhook};
use sluice_settings::{Problems, Section};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// A receiver, and where it is. It ends when this is dropped.
struct Receiver {
    process: Child,
    url: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn receiver(command: &mut Command, secret: &str) -> Receiver {
    command.arg(secret).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: `make webhooks` fetches what this needs"));
    let mut port = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    assert!(
        !port.is_empty(),
        "{command:?} has ended: `make webhooks` fetches what it needs"
    );
    Receiver {
        process,
        url: format!("http://127.0.0.1:{}/", port.trim()),
    }
}

fn python(secret: &str) -> Receiver {
    script("verify.py", secret)
}

fn port(secret: &str) -> Receiver {
    script("verify_port.py", secret)
}

fn script(name: &str, secret: &str) -> Receiver {
    let program = root().join("target/webhooks/venv/bin/python");
    receiver(
        Command::new(program).arg(root().join("e2e/webhooks").join(name)),
        secret,
    )
}

fn node(secret: &str) -> Receiver {
    let modules = root().join("target/webhooks/node_modules");
    let mut command = Command::new("node");
    receiver(
        command
            .env("NODE_PATH", modules)
            .arg(root().join("e2e/webhooks/verify.cjs")),
        secret,
    )
}

async fn deliver(url: &str, signature: &Value) -> Outcome {
    let tree = json!({"signature": signature, "connect_timeout": "30s", "read_timeout": "30s"});
    let problems = Problems::default();
    let section = Section::root(&tree, &problems);
    let options = Options::read(&section, &Inline(&problems));
    assert_eq!(problems.into_vec(), []);
    let usage = Usage {
        author: Author::Config,
        batches: false,
        replies: false,
        raw: false,
    };
    let target = Target::webhook(url).unwrap();
    let webhook = Webhook::new(
        target,
        &options,
        usage,
        &Arc::new(Egress::default()),
        SinkMetrics::default(),
    )
    .unwrap();
    let record = Record {
        topic: "shop.orders".into(),
        partition: 3,
        offset: 7,
        timestamp: None,
        key: None,
        headers: Vec::new(),
        value: Some("{\"id\": 1.10, \"name\": \"é\"}".into()),
        shown: Default::default(),
        shown_unframed: Default::default(),
    };
    let event = Event {
        subscription: "sub_1".into(),
        record: Arc::new(record),
        attempts: 0,
    };
    webhook.deliver(&[event]).await
}

fn is_refused(outcome: &Outcome) {
    let refused = matches!(
        outcome,
        Outcome::Poison {
            status: Some(400),
            ..
        }
    );
    assert!(refused, "{outcome:?}");
}

/// Each receiver knows one secret: what is signed with it is taken, what is signed with another is not, and while secrets
/// are changed receivers of both take it.
async fn verify(start: fn(&str) -> Receiver) {
    let (old, new) = (start(SECRET), start(OTHER));
    let taken = Outcome::Done { reply: None };
    assert_eq!(deliver(&old.url, &json!({"secrets": [SECRET]})).await, taken);
    is_refused(&deliver(&new.url, &json!({"secrets": [SECRET]})).await);
    for receiver in [&old, &new] {
        assert_eq!(
            deliver(&receiver.url, &json!({"secrets": [OTHER, SECRET]})).await,
            taken
        );
    }
}

#[tokio::test]
async fn the_python_library_verifies_what_is_signed() {
    verify(python).await;
}

#[tokio::test]
async fn the_javascript_library_verifies_what_is_signed() {
    verify(node).await;
}

#[tokio::test]
async fn ports_signature_is_verified_by_itself_and_beside_the_others() {
    const PORT: &str = "the client secret, é";
    let (own, other) = (port(PORT), port("another"));
    let both = json!({"port_secret": PORT, "secrets": [SECRET]});
    for signature in [&json!({"port_secret": PORT}), &both] {
        assert_eq!(deliver(&own.url, signature).await, Outcome::Done { reply: None });
        is_refused(&deliver(&other.url, signature).await);
    }
    let standard = python(SECRET);
    assert_eq!(deliver(&standard.url, &both).await, Outcome::Done { reply: None });
    is_refused(&deliver(&own.url, &json!({"secrets": [SECRET]})).await);
}

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_settings::{Problems, Section};

use super::super::*;
use super::world::*;
use crate::config::Cluster;
use crate::subscriptions::connect::{Directory, Handler, Sinks};
use crate::subscriptions::engine::Connect;
use crate::subscriptions::spec::{Scope, Spec};

const API: Usage = Usage {
    author: Author::Api,
    ..USAGE
};

fn egress(tree: &Value) -> Arc<Egress> {
    let problems = Problems::default();
    let egress = Egress::read(Section::root(tree, &problems));
    assert_eq!(problems.into_vec(), []);
    Arc::new(egress)
}

fn make(url: &str, tree: &Value, egress: &Arc<Egress>, usage: Usage) -> Result<Webhook, String> {
    Webhook::new(
        Target::webhook(url)?,
        &options(tree),
        usage,
        egress,
        SinkMetrics::default(),
    )
}

#[test]
fn target_proxy_and_token_endpoint_must_be_allowed() {
    let public = egress(&json!({"allow": [{"hosts": ["*.example.com"]}]}));
    let oauth2 = |url: &str| json!({"authentication": {"oauth2": {"token_endpoint_url": url, "client_id": "me", "client_secret": "x"}}});
    let good = "https://hooks.example.com/";
    for (url, tree, wanted) in [
        (
            "https://example.org/",
            json!({}),
            "sink: https://example.org:443 is in no entry",
        ),
        (
            "http://169.254.169.254/latest",
            json!({}),
            "sink: http://169.254.169.254:80 is at",
        ),
        (
            good,
            json!({"proxy": {"url": "http://127.0.0.1:3128"}}),
            "proxy.url: http://127.0.0.1:3128 is at",
        ),
        (
            good,
            oauth2("http://[::1]/token"),
            "authentication.oauth2.token_endpoint_url: http://[::1]:80 is at",
        ),
    ] {
        let why = make(url, &tree, &public, API).err().unwrap();
        assert!(why.starts_with(wanted), "{why}");
    }
    for tree in [
        json!({}),
        json!({"proxy": {"url": "http://proxy.example.com:3128"}}),
        oauth2("https://id.example.com/t"),
    ] {
        make(good, &tree, &public, API).unwrap();
    }
}

#[tokio::test]
async fn what_a_name_leads_to_is_judged_when_it_is_called() {
    let server = takes_all().await;
    let url = format!("http://localhost:{}/", server.address.port());
    let named = egress(&json!({"allow": [{"hosts": ["localhost"]}]}));
    let why = retried(
        make(&url, &json!({}), &named, API)
            .unwrap()
            .deliver(&[valued("1")])
            .await,
    );
    assert!(
        why.contains("a loopback address") && why.contains("egress.allow"),
        "{why}"
    );
    assert!(server.all().is_empty());
    let opened = egress(&json!({"allow": [{"hosts": ["localhost"], "cidrs": ["127.0.0.0/8", "::1/128"]}]}));
    assert_eq!(
        make(&url, &json!({}), &opened, API)
            .unwrap()
            .deliver(&[valued("1")])
            .await,
        DONE
    );
}

#[test]
fn what_differs_by_record_takes_no_batches() {
    let batches = Usage {
        batches: true,
        ..USAGE
    };
    let nothing = egress(&json!({}));
    let why = make("http://x/{{ .id }}", &json!({}), &nothing, batches)
        .err()
        .unwrap();
    assert!(why.contains("a batch has one URL"), "{why}");
    let keyed = Target::handler("http://x", "S", "h", true).unwrap();
    let made = Webhook::new(
        keyed,
        &options(&json!({})),
        batches,
        &nothing,
        SinkMetrics::default(),
    );
    assert!(made.err().unwrap().contains("one event at a time"));
    for bad in [
        "http://{{ .id }}/",
        "{{ .id }}://x/",
        "http://x:{{ .id }}/",
        "http://x?{{ .id }}",
    ] {
        let why = Target::webhook(bad).unwrap_err();
        assert!(why.contains("scheme, host or port"), "{bad}: {why}");
    }
    assert!(Target::webhook("http://x/{{ nonsense( }}").is_err());
    let shown = |url: &str| Target::webhook(url).unwrap().shown().to_owned();
    assert_eq!(shown("http://x/a/{{ .id }}/b?c=d"), "http://x:80/a/…");
    assert_eq!(shown("http://x/a?c={{ .id }}"), "http://x:80/a");
}

/// One service with one handler, which takes anything; `mine` is the configuration's.
struct One(String);

impl Directory for One {
    fn handler(&self, service: &str, handler: &str) -> Result<Handler, String> {
        if (service, handler) != ("Greeter", "greet") {
            return Err(format!("no service is named {service:?}"));
        }
        let target = Target::handler(&self.0, service, handler, false)?;
        Ok(Handler { target, raw: true })
    }

    fn author(&self, id: &str) -> Author {
        if id == "mine" { Author::Config } else { Author::Api }
    }
}

#[tokio::test]
async fn what_the_configuration_has_is_the_operators_to_choose() {
    let server = takes_all().await;
    let sinks = Sinks {
        egress: Arc::default(),
        metrics: Arc::default(),
        directory: Arc::new(One(server.url(""))),
    };
    let connect = |id: &str, sink: &str| {
        let tree = json!({"source": "kafka://main/t", "sink": sink});
        let problems = Problems::default();
        let clusters = BTreeMap::from([("main".to_owned(), Cluster::default())]);
        let scope = Scope {
            clusters: &clusters,
            held_topic: "held",
            secrets: &Inline(&problems),
        };
        let spec = Spec::read(Section::root(&tree, &problems), &[], scope);
        sinks.connect(id, &spec.unwrap())
    };
    let url = server.url("/");
    let why = connect("sub_1", &url).err().unwrap();
    assert!(why.contains("sink: ") && why.contains("egress.allow"), "{why}");
    let webhook = connect("mine", &url).unwrap();
    assert_eq!(webhook.deliver(&[valued("1")]).await, DONE);
    let handler = connect("mine", "service://Greeter/greet").unwrap();
    assert_eq!(handler.deliver(&[valued("not json")]).await, DONE);
    assert_eq!(server.last().uri, "/Greeter/greet");
    let why = connect("mine", "service://Other/greet").err().unwrap();
    assert!(why.contains("no service is named"), "{why}");
}

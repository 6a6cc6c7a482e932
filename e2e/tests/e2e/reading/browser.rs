//! The example page in a real browser, through real Envoy.

use serde_json::{Value, json};
use sluice_e2e::browser::Browser;
use sluice_e2e::envoy::{produce, reads, sockets};
use sluice_e2e::kafka;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, ensure, parts, wait};

use super::PATIENCE;

/// What the page shows: its state, and the values in order.
async fn shown(browser: &mut Browser) -> Result<(String, Vec<String>)> {
    let script = "JSON.stringify([document.getElementById('state').textContent, \
                  [...document.querySelectorAll('#records li')].map((line) => line.lastChild.textContent)])";
    let text = browser.evaluate(script).await?;
    Ok(serde_json::from_str(text.as_str().context("nothing is shown")?)?)
}

async fn shows(browser: &mut Browser, expected: &[String]) -> Result<()> {
    wait::until("the page shows it", PATIENCE, async || {
        let (state, mut values) = shown(browser).await?;
        values.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        ensure!(state == "live" && values == expected, "{state}: {values:?}");
        Ok(())
    })
    .await
}

#[test]
fn the_example_page_shows_every_record_once_whatever_happens_to_the_sidecar() -> Result<()> {
    scenario("reading-browser", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let page: Value = json!({
            "match": {"path": "/page"},
            "direct_response": {
                "status": 200,
                "body": {"filename": parts::root().join("examples/reading/index.html")},
            },
            "response_headers_to_add": [{
                "header": {"key": "content-type", "value": "text/html"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }],
        });
        let routes = vec![
            reads()?,
            page,
            // Not everything: browsers ask for /favicon.ico.
            produce("/written", json!({"topic": topic, "value": "body"})),
        ];
        let settings = Parts::new(&kafka.bootstrap(), routes)
            .sidecar("reads", json!([{"topics": [topic], "anonymous": true}]));
        let mut rig = Rig::start(s, settings).await?;
        let client = rig.envoy.h1();
        let mut written = Vec::new();
        let write = async |written: &mut Vec<String>, count: usize| -> Result<()> {
            for _ in 0..count {
                let value = format!("<b>{}</b>", written.len());
                client
                    .post("/written", "text/plain", value.clone())
                    .await?
                    .expect(200)?;
                written.push(value);
            }
            Ok(())
        };
        write(&mut written, 20).await?;
        let mut browser = Browser::start(s.dir()).await?;
        // The page comes from one origin and the records from another: the shipped route's CORS policy lets it.
        let port = rig.envoy.port();
        let url = format!(
            "http://localhost:{port}/page?topic={topic}&from=earliest&sluice=http%3A%2F%2F127.0.0.1%3A{port}"
        );
        browser.open(&url).await?;
        shows(&mut browser, &written).await?;
        write(&mut written, 20).await?;
        shows(&mut browser, &written).await?;
        // An orderly restart ends the stream, and the browser comes back by itself or finds nobody for a moment.
        rig.sidecar.stop(PATIENCE).await?;
        rig.sidecar.restart().await?;
        write(&mut written, 20).await?;
        shows(&mut browser, &written).await?;
        rig.sidecar.kill()?;
        // Long enough for the page to be answered with an error.
        wait::until("the page has noticed", PATIENCE, async || {
            let (state, _) = shown(&mut browser).await?;
            ensure!(state == "connecting", "{state}");
            Ok(())
        })
        .await?;
        rig.sidecar.restart().await?;
        write(&mut written, 20).await?;
        shows(&mut browser, &written).await?;
        // Values are text to the page.
        ensure!(
            browser
                .evaluate("document.querySelectorAll('#records b').length")
                .await?
                == json!(0)
        );
        rig.envoy.healthy()
    })
}

/// What a browser lets a page do with a WebSocket, and keeps it from: no header but the protocols, and a token among them.
#[test]
fn a_browsers_websocket_reads_and_writes_with_its_token() -> Result<()> {
    scenario("reading-browser-socket", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let page: Value = json!({
            "match": {"path": "/page"},
            "direct_response": {"status": 200, "body": {"inline_string": "<p>"}},
            "response_headers_to_add": [{
                "header": {"key": "content-type", "value": "text/html"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }],
        });
        let routes = vec![
            sockets()?,
            page,
            produce("/written", json!({"topic": topic, "value": "body"})),
        ];
        let entry = json!({
            "topics": [topic], "tokens": ["let-me-in"], "publish": true, "encodeMessageId": false
        });
        let parts = Parts::new(&kafka.bootstrap(), routes).sidecar("reads", json!([entry]));
        let mut rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        client
            .post("/written", "text/plain", "before")
            .await?
            .expect(200)?;
        let mut browser = Browser::start(s.dir()).await?;
        let port = rig.envoy.port();
        browser.open(&format!("http://localhost:{port}/page")).await?;
        let open = |name: &str, host: &str, token: &str| {
            format!(
                "window.{name} = {{said: [], end: null}}; {name}.socket = new WebSocket(
                     'ws://{host}:{port}/topics/{topic}/ws?from=earliest', ['sluice.v1', 'bearer.{token}']);
                 {name}.socket.onmessage = ({{data}}) => {name}.said.push(JSON.parse(data));
                 {name}.socket.onclose = ({{code}}) => {name}.end = code; 0"
            )
        };
        browser.evaluate(&open("good", "localhost", "let-me-in")).await?;
        // Another host's page, and no token that is known: browsers say no more than that it is closed.
        browser
            .evaluate(&open("foreign", "127.0.0.1", "let-me-in"))
            .await?;
        browser.evaluate(&open("stranger", "localhost", "wrong")).await?;
        for name in ["foreign", "stranger"] {
            wait::until("it is refused", PATIENCE, async || {
                let end = browser.evaluate(&format!("{name}.end")).await?;
                ensure!(end == json!(1006), "{name}: {end}");
                Ok(())
            })
            .await?;
        }
        said(
            &mut browser,
            "message",
            &json!({"value": "before", "cursor": format!("{topic}@0#0")}),
        )
        .await?;
        said(&mut browser, "caught-up", &json!({})).await?;
        let publish = "good.socket.send(JSON.stringify({type: 'publish', id: 7, value: 'from the page'})); 0";
        browser.evaluate(publish).await?;
        let answer = json!({"id": 7, "status": 200, "partition": 0, "offset": 1});
        said(&mut browser, "published", &answer).await?;
        let own = json!({"value": "from the page", "offset": 1});
        said(&mut browser, "message", &own).await?;
        let protocol = browser.evaluate("good.socket.protocol").await?;
        ensure!(protocol == json!("sluice.v1"), "{protocol}");
        let records = kafka.wait_for_records(&topic, 2).await?;
        let last = records.last().context("nothing is written")?;
        ensure!(last.text()? == "from the page", "{last:?}");
        // What an orderly end says reaches the page.
        rig.sidecar.stop(PATIENCE).await?;
        said(
            &mut browser,
            "closing",
            &json!({"cursor": format!("{topic}@0#1")}),
        )
        .await?;
        wait::until("it is closed", PATIENCE, async || {
            let end = browser.evaluate("good.end").await?;
            ensure!(end == json!(1001), "{end}");
            Ok(())
        })
        .await?;
        rig.envoy.healthy()
    })
}

/// Waits until the page has been told something of this kind, with these members.
async fn said(browser: &mut Browser, kind: &str, members: &Value) -> Result<()> {
    wait::until("the page is told", PATIENCE, async || {
        let all = browser.evaluate("JSON.stringify(good.said)").await?;
        let all: Vec<Value> = serde_json::from_str(all.as_str().context("nothing is said")?)?;
        let of_kind = |one: &&Value| one.get("type").is_some_and(|found| found == kind);
        let fits = |one: &Value| {
            let members = members.as_object();
            members.is_none_or(|all| all.iter().all(|(name, value)| one.get(name) == Some(value)))
        };
        ensure!(
            all.iter().filter(of_kind).any(fits),
            "no {kind} with {members}: {all:?}"
        );
        Ok(())
    })
    .await
}

//! The example page in a real browser, through real Envoy.

use serde_json::{Value, json};
use sluice_e2e::browser::Browser;
use sluice_e2e::envoy::{produce, reads};
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

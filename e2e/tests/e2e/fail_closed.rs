//! Where there is no filter, nothing looks like a success.

use serde_json::json;
use sluice_e2e::envoy::{Config, Envoy, forward, produce};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Result, ensure, parts};

fn config(s: &Scenario) -> Config {
    let stream = s.dir().join("none.sock");
    let mut config = Config::new(stream.strip_prefix(parts::root()).unwrap_or(&stream), 1);
    config.routes = vec![
        produce("/orders", json!({"topic": "orders"})),
        forward("/app", json!({}), "gone"),
    ];
    config.upstreams = vec![("gone".to_owned(), 1)];
    config
}

#[test]
fn a_filter_that_is_not_there_is_a_503_in_our_shape() -> Result<()> {
    scenario("closed-missing", async |s| {
        // A filter chain without ours, as a mistaken edit would leave it.
        let mut config = config(s);
        config.without_filter = true;
        let envoy = Envoy::start(s.dir(), &config).await?;
        for client in [envoy.h1(), envoy.h2()] {
            let reply = client.post("/orders", "application/json", "{}").await?;
            ensure!(
                reply
                    .expect_error(503, "filter_unavailable")?
                    .header("retry-after")
                    == "1"
            );
            // An upstream's failure is told apart.
            client
                .post("/app", "", "x")
                .await?
                .expect_error(503, "upstream_unavailable")?;
        }
        Ok(())
    })
}

#[test]
fn a_filter_that_does_not_load_lets_nothing_through() -> Result<()> {
    scenario("closed-broken", async |s| {
        let mut config = config(s);
        let broken = s.dir().join("broken.wasm");
        std::fs::write(&broken, b"\0asm\x01\0\0\0")?;
        config.wasm = Some(broken);
        // Envoy takes no listener with it, so nobody listens; or it serves, and refuses.
        match Envoy::start(s.dir(), &config).await {
            Err(_) => Ok(()),
            Ok(envoy) => {
                let reply = envoy.h1().post("/orders", "", "x").await?;
                ensure!(reply.status >= 500, "{}", reply.status);
                Ok(())
            }
        }
    })
}

#[test]
fn envoy_accepts_what_is_shipped() -> Result<()> {
    Envoy::validate(&parts::root().join("envoy.yaml"))
}

//! Request and reply through real Envoy: franz-go answers what the filter, or the REST face, had written.

mod handled;

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::client::{Client, Reply, full};
use sluice_e2e::envoy::{by_call, produce, reads};
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Context, Result, ensure, franz, wait};
use tokio::process::Child;

const PATIENCE: Duration = Duration::from_secs(60);

/// A topic of requests that franz-go answers, one of replies, and what they are configured with.
struct World {
    kafka: &'static Kafka,
    requests: String,
    replies: String,
    _responder: Child,
}

impl World {
    async fn new(s: &Scenario) -> Result<Self> {
        let kafka = kafka::shared().await?;
        let (requests, replies) = (s.topic("requests"), s.topic("replies"));
        kafka.create_topic(&requests, 3).await?;
        kafka.create_topic(&replies, 3).await?;
        let responder = franz::respond(&kafka.bootstrap(), &requests)?;
        Ok(Self {
            kafka,
            requests,
            replies,
            _responder: responder,
        })
    }

    /// Sidecar and Envoy, whose routes wait for replies.
    async fn rig(&self, s: &Scenario) -> Result<Rig> {
        let reply = |more: Value| {
            let mut reply = json!({"topic": self.replies});
            if let (Some(reply), Some(more)) = (reply.as_object_mut(), more.as_object()) {
                reply.extend(more.clone());
            }
            json!({"topic": self.requests, "value": "body", "reply": reply})
        };
        let routes = vec![
            produce("/ask", reply(json!({"max_wait": "45s"}))),
            produce("/short", reply(json!({"wait": "1s"}))),
            produce("/never", reply(json!({"wait": 0}))),
            produce("/own", reply(json!({"correlation_id": {"header": "x-id"}}))),
            produce("/call", by_call(reply(json!({"max_wait": "45s"})))),
            produce("/stray", reply(json!({"topic": self.requests}))),
            produce("/quick", json!({"topic": self.requests, "value": "body"})),
            reads()?,
        ];
        let replies = json!({
            "max_waiting": 50, "token_key": "a key that several sidecars have",
            "topics": [{"topic": self.replies, "requests": [self.requests], "headers": ["x-trace"]}],
        });
        let parts = Parts::new(&self.kafka.bootstrap(), routes).sidecar("replies", replies);
        Rig::start(s, parts).await
    }
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<Reply> {
    let mut request = client.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    client
        .clone()
        .within(PATIENCE)
        .send(request.body(full(body))?)
        .await
}

async fn ask(client: &Client, path: &str, prefer: &str, order: &Value) -> Result<Reply> {
    let headers = [("content-type", "application/json"), ("prefer", prefer)];
    send(client, Method::POST, path, &headers, order).await
}

async fn poll(client: &Client, location: &str, prefer: &str) -> Result<Reply> {
    send(client, Method::GET, location, &[("prefer", prefer)], &Value::Null).await
}

#[test]
fn a_route_with_reply_answers_with_what_another_client_replies() -> Result<()> {
    scenario("replies-answered", async |s| {
        let world = World::new(s).await?;
        let mut rig = world.rig(s).await?;
        let client = rig.envoy.h1();
        let order = json!({
            "do": "reply", "value": {"ok": true},
            "headers": {"http-status": "201", "x-trace": "t-1", "x-other": "no", "transfer-encoding": "chunked"},
        });
        for path in ["/ask", "/call"] {
            let reply = ask(&client, path, "wait=40", &order).await?;
            reply.expect(201)?;
            ensure!(reply.json()? == json!({"ok": true}), "{reply:?}");
            ensure!(reply.header("content-type") == "application/json", "{reply:?}");
            ensure!(
                reply.header("x-trace") == "t-1" && reply.header("x-other").is_empty(),
                "{reply:?}"
            );
            ensure!(reply.header("preference-applied") == "wait=40", "{reply:?}");
            ensure!(reply.header("x-kafka-topic") == world.requests, "{reply:?}");
            ensure!(reply.header("x-correlation-id").starts_with("sl-"), "{reply:?}");
        }
        // The client's own id, and the REST face.
        let headers = [("content-type", "application/json"), ("x-id", "order-17")];
        let own = send(&client, Method::POST, "/own", &headers, &order).await?;
        own.expect(201)?;
        ensure!(own.header("x-correlation-id") == "order-17", "{own:?}");
        let path = format!("/topics/{}/records", world.requests);
        let rest = ask(&rig.sidecar.rest(), &path, "wait=40", &order).await?;
        rest.expect(201)?;
        // Twice, with replies to others before it, and with headers that are none.
        let twice = json!({"do": "twice", "value": "first"});
        let reply = ask(&client, "/ask", "wait=40", &twice).await?;
        ensure!(reply.expect(200)?.json()? == json!("first"), "{reply:?}");
        let stranger = json!({"do": "stranger", "value": 7});
        let reply = ask(&client, "/ask", "wait=40", &stranger).await?;
        ensure!(reply.expect(200)?.json()? == json!(7), "{reply:?}");
        let garbage = json!({"do": "garbage", "value": "g"});
        let reply = ask(&client, "/ask", "wait=40", &garbage).await?;
        ensure!(
            reply.expect(200)?.header("content-type") == "application/json",
            "{reply:?}"
        );
        ensure!(
            reply.header("x-trace").is_empty() && reply.header("x").is_empty(),
            "{reply:?}"
        );
        // Of a topic that the sidecar does not know replies of.
        let stray = ask(&client, "/stray", "wait=40", &order).await?;
        stray.expect_error(500, "route_misconfigured")?;
        let labels = format!("topic=\"{}\",outcome=\"answered\"", world.replies);
        let labels = format!("cluster=\"main\",{labels}");
        wait::until("counted", PATIENCE, async || {
            let answered = rig.sidecar.metric("sluice_reply_requests_total", &labels).await?;
            ensure!((answered - 7.0).abs() < 0.1, "{answered} answered");
            Ok(())
        })
        .await?;
        rig.envoy.healthy()
    })
}

#[test]
fn who_waits_holds_up_nobody_and_a_late_reply_is_found_at_any_sidecar() -> Result<()> {
    scenario("replies-late", async |s| {
        let world = World::new(s).await?;
        let mut one = world.rig(s).await?;
        let mut two = world.rig(&s.within("two")?).await?;
        let (here, there) = (one.envoy.h2(), two.envoy.h1());
        let never = json!({"do": "silent"});
        let slow = ask(&here, "/ask", "wait=44", &never);
        let begun = Instant::now();
        let beside = async {
            let quick = (0..100).map(|_| {
                let here = &here;
                async move {
                    ask(here, "/quick", "", &json!({"do": "silent"}))
                        .await?
                        .expect(200)
                        .map(drop)
                }
            });
            for outcome in futures(quick).await {
                outcome?;
            }
            let took = begun.elapsed();
            ensure!(
                took < Duration::from_secs(30),
                "100 requests beside one that waits took {took:?}"
            );
            // Late: it is not there in time, and then it is.
            let order = json!({"do": "reply", "after_ms": 4000, "value": {"late": true}, "headers": {"http-status": "203"}});
            let late = ask(&here, "/short", "", &order).await?;
            late.expect(504)?;
            let body = late.json()?;
            ensure!(body["code"] == "no_reply", "{body}");
            let location = late.header("location").to_owned();
            ensure!(body["location"] == json!(location), "{late:?}");
            let id = body["correlation_id"].as_str().context("no correlation id")?;
            ensure!(
                !id.is_empty() && late.header("x-correlation-id") == id,
                "{late:?}"
            );
            // At once, by preference and by the route.
            let mut locations = vec![location];
            for (path, prefer) in [("/ask", "respond-async"), ("/never", "")] {
                let pending = ask(&there, path, prefer, &order).await?;
                pending.expect(202)?;
                locations.push(pending.header("location").to_owned());
            }
            for location in &locations {
                for client in [&here, &there] {
                    let found = poll(client, location, "wait=40").await?;
                    found.expect(203)?;
                    ensure!(found.json()? == json!({"late": true}), "{found:?}");
                    poll(client, location, "").await?.expect(203)?;
                }
                poll(&here, &format!("{location}x"), "").await?.expect(404)?;
            }
            Ok::<_, sluice_e2e::Error>(())
        };
        let (slow, beside) = tokio::join!(slow, beside);
        beside?;
        let slow = slow?;
        slow.expect(504)?;
        ensure!(
            begun.elapsed() >= Duration::from_secs(44),
            "{:?}",
            begun.elapsed()
        );
        one.envoy.healthy()?;
        two.envoy.healthy()
    })
}

#[test]
fn a_poll_goes_on_after_the_sidecar_was_started_again_and_who_leaves_frees_a_place() -> Result<()> {
    scenario("replies-restart", async |s| {
        let world = World::new(s).await?;
        let mut rig = world.rig(s).await?;
        let client = rig.envoy.h1();
        // As many as may wait, all of which leave.
        let waits = (0..50).map(|_| {
            let client = client.clone().within(Duration::from_secs(3));
            async move {
                let request = client.request(Method::POST, "/ask").header("prefer", "wait=40");
                client.send(request.body(full("{\"do\": \"silent\"}"))?).await
            }
        });
        let gone = futures(waits).await;
        ensure!(gone.iter().all(Result::is_err), "{gone:?}");
        wait::until("places are free", PATIENCE, async || {
            let waiting = rig.sidecar.metric("sluice_reply_waiting", "").await?;
            ensure!(waiting < 0.5, "{waiting} wait");
            Ok(())
        })
        .await?;
        let order = json!({"do": "reply", "after_ms": 3000, "value": "here"});
        let pending = ask(&client, "/ask", "respond-async", &order).await?;
        pending.expect(202)?;
        let location = pending.header("location").to_owned();
        let polling = {
            let (client, location) = (client.clone(), location.clone());
            tokio::spawn(async move { poll(&client, &location, "wait=40").await })
        };
        wait::until("the poll waits", PATIENCE, async || {
            let waiting = rig.sidecar.metric("sluice_reply_waiting", "").await?;
            ensure!(waiting > 0.5, "nobody waits");
            Ok(())
        })
        .await?;
        rig.sidecar.stop(PATIENCE).await?;
        // It was told to come again, or had its reply in the moment before.
        let told = polling.await??;
        ensure!([200, 202].contains(&told.status), "{told:?}");
        rig.sidecar.restart().await?;
        let found = wait::until("found", PATIENCE, async || {
            let found = poll(&client, &location, "wait=10").await?;
            found.expect(200)?;
            found.json()
        })
        .await?;
        ensure!(found == json!("here"), "{found}");
        rig.envoy.healthy()
    })
}

/// All of them at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::future::join_all(all).await
}

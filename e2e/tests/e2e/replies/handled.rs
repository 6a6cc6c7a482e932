//! Requests whose replies are what an HTTP handler answers to a subscription.

use std::convert::Infallible;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

use super::*;

/// A handler, and the port that it is on. It answers with what the request's body says: a status, a media type and a text.
async fn handler() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                // A sidecar that ends breaks its connections.
                drop(
                    server
                        .serve_connection(TokioIo::new(stream), service_fn(handle))
                        .await,
                );
            });
        }
    });
    Ok(port)
}

async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let order: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| {
        let said = order.get(name).and_then(Value::as_str);
        said.unwrap_or_default().to_owned()
    };
    let status = order.get("status").and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    let made = Response::builder()
        .status(status.unwrap_or(500))
        .header("content-type", text("type"))
        .header("x-trace", "of the handler")
        .header("x-other", "no")
        .body(Full::from(text("text")));
    Ok(made.unwrap_or_default())
}

/// Sidecar and Envoy: a route that waits for replies, and a subscription that gives them with `options` more.
async fn rig(s: &Scenario, (requests, replies): (&str, &str), names: Value, options: Value) -> Result<Rig> {
    let kafka = kafka::shared().await?;
    let mut all = json!({
        "auto.offset.reset": "earliest", "retry": {"initial_interval": "50ms"}, "reply_statuses": ["4xx"],
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), options.as_object()) {
        all.extend(more.clone());
    }
    let mut topic = json!({"topic": replies, "requests": [requests], "headers": ["x-trace"]});
    if let (Some(topic), Some(names)) = (topic.as_object_mut(), names.as_object()) {
        topic.extend(names.clone());
    }
    let route = json!({"topic": requests, "value": "body", "reply": {"topic": replies, "max_wait": "45s"}});
    let parts = Parts::new(&kafka.bootstrap(), vec![produce("/ask", route)])
        .sidecar("replies", json!({"topics": [topic]}))
        .sidecar(
            &format!("subscriptions/{requests}"),
            json!({
                "source": format!("kafka://main/{requests}"),
                "sink": format!("http://127.0.0.1:{}/", handler().await?),
                "options": all,
            }),
        );
    Rig::start(s, parts).await
}

/// Each of these is what the handler answers, and the client gets.
async fn answered(client: &Client) -> Result<()> {
    for (status, media_type, text) in [
        (201, "text/csv", "a,b"),
        (200, "application/json", "{\"ok\":true}"),
        (404, "application/problem+json", "{\"title\":\"no such order\"}"),
    ] {
        let order = json!({"status": status, "type": media_type, "text": text});
        let reply = ask(client, "/ask", "wait=40", &order).await?;
        reply.expect(status)?;
        ensure!(reply.header("content-type") == media_type, "{reply:?}");
        ensure!(reply.text() == text, "{reply:?}");
        ensure!(
            reply.header("x-trace") == "of the handler" && reply.header("x-other").is_empty(),
            "{reply:?}"
        );
        ensure!(reply.header("x-correlation-id").starts_with("sl-"), "{reply:?}");
    }
    Ok(())
}

#[test]
fn a_handler_of_a_subscription_answers_who_waits() -> Result<()> {
    scenario("replies-handled", async |s| {
        let kafka = kafka::shared().await?;
        let (requests, replies) = (s.topic("requests"), s.topic("replies"));
        kafka.create_topic(&requests, 3).await?;
        kafka.create_topic(&replies, 3).await?;
        let mut rig = rig(
            s,
            (&requests, &replies),
            json!({}),
            json!({"reply_topic": replies}),
        )
        .await?;
        answered(&rig.envoy.h1()).await?;
        rig.envoy.healthy()
    })
}

#[test]
fn a_record_names_the_topic_of_its_answer_where_it_may() -> Result<()> {
    scenario("replies-named", async |s| {
        let kafka = kafka::shared().await?;
        let (requests, replies) = (s.topic("requests"), s.topic("replies"));
        kafka.create_topic(&requests, 3).await?;
        kafka.create_topic(&replies, 3).await?;
        let names = json!({
            "correlation_header": "Correlation", "reply_topic_header": "Reply-To", "status_header": "status",
            "content_type_header": "type",
        });
        let one = rig(
            s,
            (&requests, &replies),
            names.clone(),
            json!({"reply_topics": [replies]}),
        )
        .await?;
        answered(&one.envoy.h1()).await?;
        drop(one);
        // A topic that the subscription does not let records name is not written, and the subscription says so.
        let other = s.within("other")?;
        let options = json!({"reply_topics": ["another.*"], "group.id": s.topic("another")});
        let two = rig(&other, (&requests, &replies), names, options).await?;
        let order = json!({"status": 200, "type": "text/plain", "text": "x"});
        let late = ask(&two.envoy.h1(), "/ask", "wait=2", &order).await?;
        late.expect_error(504, "no_reply")?;
        let admin = two.sidecar.admin();
        wait::until("said", PATIENCE, async || {
            let told = admin
                .get(&format!("/subscriptions/{requests}"))
                .await?
                .expect(200)?
                .json()?;
            let error = told["last_error"]["error"].as_str().context("no error yet")?;
            ensure!(error.contains("is not in reply_topics"), "{error}");
            Ok(())
        })
        .await
    })
}

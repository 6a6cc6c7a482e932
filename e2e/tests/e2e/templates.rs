//! Records whose topics expressions choose, and templates of the sidecar's, by every way to it.

use serde_json::{Value, json};
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[test]
fn expressions_choose_topics_and_templates_of_the_sidecars_are_applied() -> Result<()> {
    scenario("templates", async |s| {
        let kafka = kafka::shared().await?;
        let [own, eu, us, hidden] = ["own", "eu", "us", "hidden"].map(|name| s.topic(name));
        for topic in [&own, &eu, &us, &hidden] {
            kafka.create_topic(topic, 1).await?;
        }
        let choose = json!({
            "topic": own, "allowed_topics": [eu, us, hidden], "payload": "{{ .inputs }}",
            "template": {"topic": "{{ .inputs.topic }}"},
        });
        let named = json!({"topic": own, "template": {"name": "deploy"}, "trigger": {"origin": "UI"}});
        let routes = vec![
            produce("/choose", choose.clone()),
            produce("/call/choose", by_call(choose)),
            produce("/named", named.clone()),
            produce("/call/named", by_call(named)),
        ];
        let deploy = json!({
            "payload": {"service": "{{ .inputs.service }}", "origin": "{{ .trigger.origin }}", "by": "{{ .trigger.by.user.id }}"},
            "template": {"key": "{{ .inputs.service }}", "topic": "{{ .inputs.topic }}"},
            "allowed_topics": [us],
            "trigger": {"trust_request": true, "by": {"user.id": {"header": "x-user"}}},
        });
        let parts = Parts::new(&kafka.bootstrap(), routes)
            .sidecar("clusters/main/allowed_topics", json!([own, eu, us]))
            .sidecar("templates/named/deploy", deploy)
            .sidecar("writes", json!([{"topics": [own], "template": "deploy"}]));
        let mut rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        for (nth, path) in ["/choose", "/call/choose"].into_iter().enumerate() {
            let chosen = client.post(path, FORM, format!("topic={us}&n={nth}")).await?;
            ensure!(chosen.expect(200)?.header("x-kafka-topic") == us, "{chosen:?}");
            let records = kafka.wait_for_records(&us, nth + 1).await?;
            ensure!(records[nth].json()? == json!({"topic": us, "n": nth.to_string()}));
            let without = client.post(path, JSON, "{}").await?;
            ensure!(without.expect(200)?.header("x-kafka-topic") == own, "{without:?}");
            let refused = client.post(path, JSON, r#"{"topic": "elsewhere"}"#).await?;
            let refused = refused.expect_error(403, "topic_not_allowed")?.text();
            for words in ["{{ .inputs.topic }}", &own, &eu, &us] {
                ensure!(refused.contains(words), "{refused}");
            }
            // The route lists it, and the sidecar does not.
            let refused = client.post(path, FORM, format!("topic={hidden}")).await?;
            refused.expect_error(403, "topic_not_allowed")?;
        }
        kafka.wait_for_records(&own, 2).await?;

        for (nth, path) in ["/named", "/call/named"].into_iter().enumerate() {
            let made = client.post(path, JSON, r#"{"service": "cart"}"#).await?;
            ensure!(made.expect(200)?.header("x-kafka-topic") == own, "{made:?}");
            let records = kafka.wait_for_records(&own, 3 + nth).await?;
            let last = &records[2 + nth];
            ensure!(
                last.json()? == json!({"service": "cart", "origin": "UI", "by": null}),
                "{last:?}"
            );
            ensure!(last.key.as_deref() == Some(b"cart"), "{last:?}");
        }
        let rest = rig.sidecar.rest();
        let path = format!("/topics/{own}/records");
        let request = rest
            .request(hyper::Method::POST, &path)
            .header("content-type", FORM)
            .header("x-user", "ada");
        let body = format!("service=shop&topic={us}");
        let made = rest.send(request.body(sluice_e2e::client::full(body))?).await?;
        ensure!(made.expect(200)?.header("x-kafka-topic") == us, "{made:?}");
        let records = kafka.wait_for_records(&us, 3).await?;
        let expected: Value = json!({"service": "shop", "origin": "API", "by": "ada"});
        ensure!(records[2].json()? == expected, "{:?}", records[2]);
        rig.envoy.healthy()
    })
}

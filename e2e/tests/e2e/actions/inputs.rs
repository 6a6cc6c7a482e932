//! What is given to actions: checked, encrypted, put into records, and nowhere else.

use serde_json::{Value, json};
use sluice_e2e::kafka;
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, parts};

use super::{Caller, list, may, of_key, python, rig, settings, text};

const SECRET: &str = "the-first-32-bytes-of-this-are-the-key-and-this-is-not";
const API_KEY: &str = "sentinel-api-key";
const UNUSED: &str = "sentinel-unused";
const PASSWORD: &str = "sentinel-pässwörd";

fn org() -> Value {
    let properties = json!({
        "service": {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"},
        "count": {"type": "integer", "minimum": 1, "maximum": 5, "default": 2},
        "owner": {"type": "string", "format": "email"},
        "stage": {"enum": ["test", "production"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "password": {"type": "string", "minLength": 4, "encryption": "aes256-gcm"},
    });
    let trigger = json!({
        "type": "self-service", "operation": "CREATE",
        "userInputs": {"properties": properties, "required": ["service", "stage"]},
    });
    let action = |identifier: &str, payload: Option<Value>| {
        let mut method = json!({"type": "KAFKA"});
        if let Some(payload) = payload {
            method["payload"] = payload;
        }
        json!({"identifier": identifier, "trigger": trigger, "invocationMethod": method})
    };
    let payload = json!({
        "{{ spreadValue() }}": "{{ .inputs }}",
        "count": "{{ .inputs.count * 10 }}",
        "name": "{{ .inputs.service }}-{{ .inputs.stage }}",
        "missing": "{{ .inputs.nothing.at.all }}",
        "key": "{{ .secrets[\"api\"] }}",
        "list": ["{{ .run.createdBy }}", "{{ .action.identifier }}", "{{ .trigger.operation }}"],
    });
    json!({
        "secret": SECRET,
        "secrets": {"api": API_KEY, "unused": UNUSED},
        "access": [may("anna", "anna", &["invoke", "see", "manage", "report"])],
        "actions": [
            action("templated", Some(payload)),
            action("plain", None),
            action("fails", Some(json!({"a": {"b": "{{ .inputs.service | tonumber }}"}}))),
            action("fails-with-secrets", Some(json!({"a": "{{ .secrets[\"api\"] | tonumber }}"}))),
        ],
    })
}

#[test]
fn inputs_are_checked_and_encrypted_and_secrets_are_where_the_payload_puts_them() -> Result<()> {
    scenario("actions-inputs", async |s| {
        let kafka = kafka::shared().await?;
        let id = s.name();
        let topic = format!("{id}.runs");
        let rig = rig(s, settings(s, kafka, json!({id: org()}))).await?;
        let anna = Caller::new(rig.envoy.h1(), "anna");
        anna.ready().await?;

        // Everything that is wrong is said at once, and a password is not quoted.
        let wrong = json!({"properties": {
            "service": "X", "count": 9, "owner": "nobody", "tags": [1, "a", "b"], "password": "abc", "more": true,
        }});
        let reply = anna.post("/v1/actions/templated/runs", wrong).await?;
        reply.expect_error(422, "invalid")?;
        let problems = list(&reply.json()?, "/problems")?;
        let told: Vec<String> = problems
            .iter()
            .map(|problem| format!("{} {}", problem["path"], problem["message"]))
            .collect();
        for (path, times) in [
            ("properties.service", 2),
            ("properties.count", 1),
            ("properties.owner", 1),
            ("properties.tags.0", 1),
            ("properties.tags", 1),
            ("properties.password", 1),
        ] {
            let found = problems.iter().filter(|problem| problem["path"] == path).count();
            ensure!(found == times, "{path} is there {found} times: {told:?}");
        }
        for word in ["\"stage\\\" is a required", "'more'"] {
            let word = word.trim_start_matches('"').split('\\').next().unwrap_or(word);
            ensure!(
                told.iter().any(|problem| problem.contains(word)),
                "{word}: {told:?}"
            );
        }
        ensure!(!reply.text().contains("abc"), "{}", reply.text());
        ensure!(kafka.records(&topic).await?.is_empty(), "a run was written");

        let inputs = json!({"properties": {"service": "shop", "stage": "test", "password": PASSWORD}});
        let run = anna.start("templated", inputs.clone()).await?;
        let record = of_key(kafka, &topic, &run).await?.pop().unwrap_or_default();
        let sealed = text(&record, "/payload/password")?;
        let expected = json!({
            "service": "shop", "stage": "test", "password": sealed, "count": 20, "name": "shop-test",
            "missing": null, "key": API_KEY, "list": ["anna", "templated", "CREATE"],
        });
        ensure!(record["payload"] == expected, "{record:#}");
        let opened = python(parts::pyjwt()?, "e2e/jwt/tokens.py", &["open", SECRET, &sealed]).await?;
        ensure!(opened == PASSWORD, "{opened}");

        let run = anna.start("plain", inputs.clone()).await?;
        let record = of_key(kafka, &topic, &run).await?.pop().unwrap_or_default();
        let sealed = text(&record, "/payload/properties/password")?;
        let opened = python(parts::pyjwt()?, "e2e/jwt/tokens.py", &["open", SECRET, &sealed]).await?;
        ensure!(opened == PASSWORD, "{opened}");
        ensure!(
            record["payload"]
                == json!({
                    "entity": null,
                    "action": {
                        "identifier": "plain", "title": null, "invocationMethod": {"type": "KAFKA"}, "trigger": "CREATE",
                    },
                    "properties": {"service": "shop", "stage": "test", "password": sealed, "count": 2},
                    "censoredProperties": ["password"],
                }),
            "{record:#}"
        );

        let reply = anna.post("/v1/actions/fails/runs", inputs.clone()).await?;
        reply.expect_error(422, "invalid")?;
        ensure!(
            reply.text().contains("a/b") && reply.text().contains("tonumber"),
            "{}",
            reply.text()
        );
        let hidden = anna.post("/v1/actions/fails-with-secrets/runs", inputs).await?;
        hidden.expect_error(422, "invalid")?;

        // What anybody is told, what is kept, what is logged: no secret but in the one record, and no password at all.
        let mut all = String::new();
        for path in [
            "/v1/actions",
            "/v1/actions/templated",
            "/v1/actions/runs?limit=1000",
            &format!("/v1/actions/runs/{run}"),
        ] {
            all.push_str(&anna.get(path).await?.expect(200)?.text());
        }
        all.push_str(&hidden.text());
        all.push_str(&rig.sidecar.log()?);
        all.push_str(&rig.envoy.log()?);
        all.push_str(&rig.sidecar.admin().get("/metrics").await?.text());
        for topic in [format!("{id}.change.log"), s.topic("state")] {
            for record in kafka.records(&topic).await? {
                all.push_str(&String::from_utf8_lossy(
                    record.value.as_deref().unwrap_or_default(),
                ));
            }
        }
        for secret in [API_KEY, UNUSED, PASSWORD, SECRET, "sentinel-p\\u00e4"] {
            ensure!(!all.contains(secret), "{secret} is somewhere");
        }
        for record in kafka.records(&topic).await? {
            let text = record.text()?;
            ensure!(!text.contains(UNUSED) && !text.contains(PASSWORD) && !text.contains(SECRET));
            ensure!(
                text.contains(API_KEY) == text.contains("\"action\":\"templated\""),
                "{text}"
            );
        }
        Ok(())
    })
}

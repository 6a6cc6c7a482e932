use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::item::{Change, Run, Status};
use super::org::{Grant, User};
use super::*;
use crate::config;

/// What a configuration makes of `orgs`.
fn settings(orgs: &str) -> Settings {
    let yaml = format!("clusters: {{main: {{bootstrap_servers: 'localhost:1'}}}}\norgs: {orgs}\n");
    let loaded = config::load(&yaml, std::iter::empty()).unwrap_or_else(|problems| panic!("{problems:?}"));
    loaded.config.actions.unwrap()
}

fn two() -> Settings {
    settings(
        "{acme: {secret: ssssssssssssssssssssssssssssssss, access: [{tokens: [t-ann], name: ann, email: ann@acme.test, may: \
         [invoke, see], actions: ['deploy*']}, {tokens: [t-ann, t-bob], name: bob, may: [report]}], clients: {agent: {secret: \
         0123456789abcdef, may: [report, credentials]}}}, \
         rest: {access: [{tokens: [t-rae], name: rae, may: [see]}], clients: {other: {secret: fedcba9876543210, may: [see]}}}}",
    )
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
    );
    headers
}

fn run() -> Run {
    Run {
        status: Status::InProgress,
        action: "deploy".to_owned(),
        title: None,
        trigger: json!({"by": {"orgId": "acme"}, "origin": "API", "at": "x"}),
        operation: None,
        user: "ann".to_owned(),
        invocation_method: serde_json::Map::new(),
        properties: serde_json::Map::new(),
        censored: Vec::new(),
        entity: None,
        blueprint: None,
        entity_then: None,
        event: None,
        depth: 0,
        told: item::Told::default(),
        approval: None,
        claim: None,
        created_ms: 0,
        updated_ms: 0,
        ended_ms: None,
        timeout_ms: 1,
        deadline_ms: None,
        unwritten: false,
        untold: Vec::new(),
    }
}

#[tokio::test]
async fn a_token_says_who_asks_and_what_he_may() {
    let settings = two();
    let ann = access::caller(&settings.orgs, &bearer("t-ann")).await.unwrap();
    assert_eq!((ann.org.id.as_str(), ann.user.id.as_str()), ("acme", "ann"));
    assert_eq!(ann.user.email.as_deref(), Some("ann@acme.test"));
    for (grant, may) in [
        (Grant::Invoke, true),
        (Grant::See, true),
        // By the second entry, which has the same token.
        (Grant::Report, true),
        (Grant::Approve, false),
        (Grant::Manage, false),
        (Grant::Credentials, false),
    ] {
        assert_eq!(ann.check(grant).is_ok(), may, "{grant}");
    }
    assert!(ann.check_action(Grant::Invoke, "deploy-web").is_ok());
    let refused = ann.check_action(Grant::Invoke, "delete").unwrap_err();
    assert!(refused.to_string().contains("\"delete\""), "{refused}");
    assert!(ann.may(Grant::Report, "delete"));

    let rae = access::caller(&settings.orgs, &bearer("t-rae")).await.unwrap();
    assert_eq!(rae.org.id, "rest");
    for headers in [HeaderMap::new(), bearer("t-nobody"), bearer("")] {
        let error = access::caller(&settings.orgs, &headers).await.unwrap_err();
        assert!(matches!(error, Error::NotAuthenticated(_)), "{error:?}");
    }
    // Another organisation is not opened by its name.
    let mut headers = bearer("t-rae");
    headers.insert("sluice-org", HeaderValue::from_static("acme"));
    assert!(access::caller(&settings.orgs, &headers).await.is_err());
}

#[tokio::test]
async fn a_client_gets_a_token_for_its_secret() {
    let settings = two();
    let now = SystemTime::now();
    let issue = |client: &str, secret: &str, now| access::issue(&settings.orgs, client, secret, now);
    for (client, secret) in [
        ("agent", "fedcba9876543210"),
        ("other", "0123456789abcdef"),
        ("nobody", ""),
        ("", ""),
    ] {
        assert!(issue(client, secret, now).is_err(), "{client}");
    }
    let (token, lifetime) = issue("agent", "0123456789abcdef", now).unwrap();
    assert_eq!(lifetime, Duration::from_secs(3 * 3600));
    let agent = access::caller(&settings.orgs, &bearer(&token)).await.unwrap();
    assert_eq!((agent.org.id.as_str(), agent.user.id.as_str()), ("acme", "agent"));
    assert!(agent.check(Grant::Credentials).is_ok() && agent.check(Grant::Invoke).is_err());

    // Each of its characters counts but the last ones of a part, which may have bits to spare.
    for i in 0..token.len() - 1 {
        let mut forged = token.clone().into_bytes();
        forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert!(
            access::caller(&settings.orgs, &bearer(&forged)).await.is_err(),
            "{forged}"
        );
    }
    let (old, _) = issue(
        "agent",
        "0123456789abcdef",
        now - lifetime - Duration::from_secs(1),
    )
    .unwrap();
    let error = access::caller(&settings.orgs, &bearer(&old)).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    // One that the same client of another configuration made, which had another secret.
    let elsewhere =
        super::tests::settings("{acme: {clients: {agent: {secret: 'another secret!!!', may: [see]}}}}");
    let (foreign, _) = access::issue(&elsewhere.orgs, "agent", "another secret!!!", now).unwrap();
    assert!(access::caller(&settings.orgs, &bearer(&foreign)).await.is_err());
}

/// The expected values are from Python: `hmac`, and `json.dumps(msg, separators=(",", ":"), ensure_ascii=False)` of the message as
/// an agent has it when it checks.
#[test]
fn a_run_is_signed_as_agents_check_it() {
    let settings = two();
    let org = &settings.orgs["acme"];
    let payload = json!({"ü": "\u{2028}", "n": 1.5});
    let mut run = run();
    let signature = |run: &Run| {
        let message = port::message(org, "r_1", run, payload.clone(), 1_700_000_000_999).unwrap();
        let message: Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(message["headers"]["X-Port-Timestamp"], "1700000000");
        message["headers"]["X-Port-Signature"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(signature(&run), "v1,sW5SNFu/H8UK/un19BbzrttiED4fxKqFmNO2VWB6RE4=");
    run.invocation_method.insert("type".to_owned(), "GITLAB".into());
    assert_eq!(signature(&run), "v1,QOVQ8ASW0nLLrqKevp6Hl793y7Y24hoph6/mNOeIOXk=");
    // Without a secret there is nothing to sign with.
    let unsigned = port::message(&settings.orgs["rest"], "r_1", &run, payload, 0).unwrap();
    let unsigned: Value = serde_json::from_slice(&unsigned).unwrap();
    assert_eq!(unsigned.get("headers"), None);
    assert_eq!(unsigned["context"]["runId"], "r_1");
}

fn problems(body: &Value) -> Vec<String> {
    let settings = two();
    let read = rules::action(&settings.orgs["acme"], body);
    read.err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn self_service() -> Value {
    json!({
        "identifier": "deploy",
        "trigger": {
            "type": "self-service", "operation": "CREATE",
            "userInputs": {
                "properties": {
                    "version": {"type": "string", "pattern": "^v[0-9]+$"},
                    "password": {"type": "string", "minLength": 4, "encryption": "aes256-gcm"},
                    "replicas": {"type": "integer", "default": 1, "minimum": 1},
                },
                "required": ["version"],
            },
        },
        "invocationMethod": {"type": "KAFKA", "payload": {"v": "{{ .inputs.version }}"}},
    })
}

#[test]
fn what_an_action_may_not_be_is_said_with_its_place() {
    assert_eq!(problems(&self_service()), [""; 0]);
    let automation = json!({
        "identifier": "on-deploy",
        "trigger": {"type": "automation", "event": {"type": "ENTITY_CREATED", "blueprintIdentifier": "Deployment"},
            "condition": {"type": "JQ", "expressions": [".diff.after.properties.ok"], "combinator": "and"}},
        "invocationMethod": {"type": "KAFKA"},
    });
    assert_eq!(problems(&automation), [""; 0]);
    for (base, pointer, value, place) in [
        (&self_service(), "/identifier", json!("a/b"), "identifier"),
        (&self_service(), "/identifier", json!(""), "identifier"),
        (
            &self_service(),
            "/trigger/operation",
            json!("CHANGE"),
            "unknown variant `CHANGE`",
        ),
        (
            &self_service(),
            "/trigger/userInputs/required",
            json!(["x"]),
            "trigger.userInputs.required",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/version/type",
            json!("texts"),
            "trigger.userInputs.properties",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/version/pattern",
            json!("(?=x)"),
            "trigger.userInputs.properties",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/version/$ref",
            json!("http://localhost:1/x"),
            "trigger.userInputs.properties",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/password/encryption",
            json!("rot13"),
            "trigger.userInputs.properties.password.encryption",
        ),
        (
            &self_service(),
            "/invocationMethod/type",
            json!("EMAIL"),
            "invocationMethod.type",
        ),
        (
            &self_service(),
            "/invocationMethod/type",
            json!("WEBHOOK"),
            "invocationMethod.agent",
        ),
        (
            &self_service(),
            "/invocationMethod/payload/v",
            json!("{{ .inputs. }}"),
            "invocationMethod.payload",
        ),
        (&self_service(), "/runTimeout", json!("soon"), "runTimeout"),
        (&self_service(), "/runTimeout", json!("0s"), "runTimeout"),
        (&self_service(), "/colour", json!("red"), "colour"),
        (&self_service(), "/trigger/colour", json!("red"), "trigger.colour"),
        (&automation, "/requiredApproval", json!(true), "requiredApproval"),
        (
            &automation,
            "/trigger/event/type",
            json!("TIMER"),
            "trigger.event.every",
        ),
        (
            &automation,
            "/trigger/event/every",
            json!("1m"),
            "trigger.event.every",
        ),
        (
            &automation,
            "/trigger/condition/expressions/0",
            json!(".["),
            "trigger.condition.expressions[0]",
        ),
    ] {
        let mut body = base.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match body.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            object => drop(object.as_object_mut().unwrap().insert(name.to_owned(), value)),
        }
        let told = problems(&body);
        assert!(told.iter().any(|one| one.contains(place)), "{pointer}: {told:?}");
    }
}

#[test]
fn everything_that_is_wrong_with_inputs_is_said_and_no_secret() {
    let settings = two();
    let action = rules::action(&settings.orgs["acme"], &self_service()).unwrap();
    let Trigger::SelfService { user_inputs, .. } = &action.trigger else {
        panic!()
    };
    let given = rules::given(
        user_inputs,
        Some(&json!({"version": "v7", "password": "hunter22"})),
    )
    .unwrap();
    assert_eq!(given["replicas"], 1, "its default");
    let wrong = json!({"version": 7, "password": "x\u{1}y", "replicas": 0, "colour": "red"});
    let Err(Error::Invalid(told)) = rules::given(user_inputs, Some(&wrong)) else {
        panic!()
    };
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    for place in [
        "properties.version",
        "properties.password",
        "properties.replicas",
        "colour",
    ] {
        assert!(told.iter().any(|one| one.contains(place)), "{place}: {told:?}");
    }
    assert!(
        !told
            .iter()
            .any(|one| one.contains("x\u{1}y") || one.contains("x\\u0001y")),
        "{told:?}"
    );
    let Err(Error::Invalid(told)) = rules::given(user_inputs, None) else {
        panic!()
    };
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(rules::given(user_inputs, Some(&json!([]))).is_err());
}

#[test]
fn an_automation_is_started_by_what_it_is_about() {
    let action = |event: Value| -> Action {
        serde_json::from_value(json!({
            "identifier": "auto", "trigger": {"type": "automation", "event": event}, "invocationMethod": {"type": "KAFKA"},
        }))
        .unwrap()
    };
    let event = |resource: &str, what: &str, context: Value| json!({"resourceType": resource, "action": what, "context": context});
    let made = event(
        "entity",
        "CREATE",
        json!({"blueprint": "Deployment", "entity": "d"}),
    );
    let gone = event(
        "entity",
        "DELETE",
        json!({"blueprint": "Deployment", "entity": "d"}),
    );
    let started = event("run", "CREATE", json!({"action": "deploy"}));
    let own = event("run", "CREATE", json!({"action": "auto"}));
    for (wanted, about) in [
        (json!({"type": "ENTITY_CREATED"}), [true, false, false, false]),
        (json!({"type": "ENTITY_DELETED"}), [false, true, false, false]),
        (json!({"type": "ENTITY_UPDATED"}), [false; 4]),
        (json!({"type": "ANY_ENTITY_CHANGE"}), [true, true, false, false]),
        (
            json!({"type": "ANY_ENTITY_CHANGE", "blueprintIdentifier": "Deployment"}),
            [true, true, false, false],
        ),
        (
            json!({"type": "ANY_ENTITY_CHANGE", "blueprintIdentifier": "deployment"}),
            [false; 4],
        ),
        // Not by its own runs.
        (json!({"type": "RUN_CREATED"}), [false, false, true, false]),
        (
            json!({"type": "ANY_RUN_CHANGE", "actionIdentifier": "deploy"}),
            [false, false, true, false],
        ),
        (json!({"type": "RUN_UPDATED"}), [false; 4]),
        (json!({"type": "TIMER", "every": "1m"}), [false; 4]),
    ] {
        let one = action(wanted.clone());
        let is = [&made, &gone, &started, &own].map(|event| automation::is_about(&one, event));
        assert_eq!(is, about, "{wanted}");
    }
    let mut off = action(json!({"type": "ENTITY_CREATED"}));
    off.publish = false;
    assert!(!automation::is_about(&off, &made));
    assert_eq!(
        automation::every(&action(json!({"type": "TIMER", "every": "1m"}))),
        Some(60_000)
    );
}

#[tokio::test]
async fn a_payload_sees_its_run_and_its_own_organisations_secrets() {
    let settings = settings(
        "{acme: {secrets: {key: hunter2}, access: [{tokens: [t], name: n, may: [see]}]}, \
         rest: {access: [{tokens: [u], name: n, may: [see]}]}}",
    );
    let expressions = Expressions::new(&settings);
    let mut run = run();
    run.properties.insert("version".to_owned(), "v1".into());
    run.event = Some(json!({"diff": {"before": 1, "after": 2}}));
    let of = async |payload: Value, run: &mut Run, org: &str| {
        run.invocation_method.insert("payload".to_owned(), payload);
        expressions.payload(&settings.orgs[org], "r_1", run).await
    };
    let payload = json!({
        "all": "{{ [.inputs.version, .run.id, .action.identifier, .trigger.origin, .event.diff.after] }}",
        "entity": "{{ .entity }}", "secret": "{{ .secrets.key }}", "payload": "{{ .action.invocationMethod.payload }}",
    });
    let made = of(payload.clone(), &mut run, "acme").await.unwrap();
    let expected = json!({
        "all": ["v1", "r_1", "deploy", "API", 2], "entity": null, "secret": "hunter2", "payload": null,
    });
    assert_eq!(made, expected);
    let made = of(payload, &mut run, "rest").await.unwrap();
    assert_eq!(made["secret"], Value::Null, "it is another organisation's");
    let failed = of(json!({"a": "{{ .secrets.key | error }}"}), &mut run, "acme")
        .await
        .unwrap_err();
    assert!(
        failed.to_string().contains("payload") && !failed.to_string().contains("hunter2"),
        "{failed}"
    );
    let failed = of(json!({"a": "{{ [range(1e9)] }}"}), &mut run, "acme")
        .await
        .unwrap_err();
    assert!(matches!(failed, Error::Invalid(_)), "{failed:?}");
    run.invocation_method.remove("payload");
    let usual = expressions
        .payload(&settings.orgs["acme"], "r_1", &run)
        .await
        .unwrap();
    assert_eq!(usual["properties"]["version"], "v1");
}

#[tokio::test]
async fn a_condition_holds_as_its_expressions_go_together() {
    let expressions = Expressions::new(&two());
    let event = json!({"diff": {"after": {"n": 2}}});
    for (all, combinator, holds) in [
        (
            vec![".diff.after.n == 2", ".event.diff.after.n == 2"],
            "and",
            Some(true),
        ),
        (vec!["true", "false"], "and", Some(false)),
        (vec!["true", "false"], "or", Some(true)),
        // What is no truth value is none.
        (vec!["1"], "and", Some(false)),
        (vec![], "and", Some(true)),
        (vec![], "or", Some(false)),
        (vec!["error(\"x\")"], "and", None),
    ] {
        let condition = json!({"type": "JQ", "expressions": all, "combinator": combinator});
        let condition = serde_json::from_value(condition).unwrap();
        assert_eq!(
            expressions.holds(&condition, &event).await.ok(),
            holds,
            "{all:?} {combinator}"
        );
    }
}

#[test]
fn ids_of_runs_sort_by_time_and_are_the_same_for_the_same_cause() {
    let early = runs::run_id(1_700_000_000_000, None).unwrap();
    let late = runs::run_id(1_700_000_000_001, None).unwrap();
    assert!(
        early < late && rules::identifier(&early).is_ok(),
        "{early} {late}"
    );
    let of = |automation, cause| runs::run_id(5, Some(&automation::id(automation, cause))).unwrap();
    assert_eq!(of("a", "c_1"), of("a", "c_1"));
    assert_ne!(of("a", "c_1"), of("a", "c_2"));
    assert_ne!(of("a", "c_1"), of("b", "c_1"));
    assert_eq!(of("a", "c_1").len(), early.len());
}

#[test]
fn an_item_is_read_as_it_was_written() {
    let mut run = run();
    run.untold.push(Change {
        id: "c_1".to_owned(),
        action: "CREATE".to_owned(),
        trigger: json!({}),
        run_id: None,
        at_ms: 1,
        depth: 2,
        before: Value::Null,
        after: json!({"a": 1}),
    });
    let item = Item::Run(Box::new(run));
    let text = serde_json::to_string(&item).unwrap();
    assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), item);
    assert!(item.is_unfinished());
}

#[test]
fn a_user_is_who_the_claims_say() {
    let claims = json!({"email": "a@b", "given_name": "Ann", "family_name": ["Lee"], "x": 1});
    let Value::Object(claims) = claims else { panic!() };
    let user = User::of_claims("ann".to_owned(), &claims);
    let expected = User {
        id: "ann".to_owned(),
        email: Some("a@b".to_owned()),
        first_name: Some("Ann".to_owned()),
        last_name: Some("Lee".to_owned()),
    };
    assert_eq!(user, expected);
}

proptest::proptest! {
    #[test]
    fn no_other_text_is_a_token(any in ".{0,80}", said in "[A-Za-z0-9_-]{0,120}", signature in "[A-Za-z0-9_-]{0,60}") {
        let settings = two();
        let json = URL_SAFE_NO_PAD.encode(format!(r#"{{"org":"acme","client":"agent","until":{}}}"#, u64::MAX));
        for token in [
            any.clone(),
            format!("sluice1.{any}"),
            format!("sluice1.{said}.{signature}"),
            format!("sluice1.{json}.{signature}"),
            format!("sluice1.{}.{signature}", URL_SAFE_NO_PAD.encode(&any)),
        ] {
            let found = access::of_client(&settings.orgs, &token, SystemTime::now());
            proptest::prop_assert!(matches!(found, Ok(None)), "{token}: {found:?}");
        }
    }
}

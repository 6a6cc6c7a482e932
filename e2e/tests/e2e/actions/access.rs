//! Who may do what, and who sees nothing of whom: both ways.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::kafka;
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, ensure, parts, wait};

use super::{Caller, PATIENCE, list, may, python, rig, settings, text};

const GRANTS: [&str; 6] = ["invoke", "approve", "report", "see", "manage", "credentials"];
const ISSUER: &str = "https://issuer.example";

fn action(identifier: &str, approval: bool) -> Value {
    json!({
        "identifier": identifier,
        "trigger": {"type": "self-service", "operation": "CREATE"},
        "requiredApproval": approval,
        "invocationMethod": {"type": "KAFKA", "agent": true},
    })
}

/// An organisation with a token for each grant, `{id}-{grant}`, one for all of them, and one that may only do `dep*`.
fn org(id: &str) -> Value {
    let mut access: Vec<Value> = GRANTS
        .iter()
        .map(|grant| may(&format!("{id}-{grant}"), grant, &[grant]))
        .collect();
    access.push(may(&format!("{id}-all"), "all", &GRANTS));
    access.push(json!({
        "tokens": [format!("{id}-some")], "name": "some", "may": GRANTS, "actions": ["dep*"],
    }));
    access.push(json!({
        "jwt": {"provider": "corporate", "claims": {"org": id, "role": "engineer"}},
        "may": ["invoke", "see"],
    }));
    json!({
        "access": access,
        "clients": {
            format!("{id}-agent"): {"secret": format!("{id}-client-secret"), "may": ["report", "credentials"]},
        },
        "kafka_credentials": {
            "brokers": [format!("{id}.example:9092")], "username": format!("{id}-user"), "password": format!("{id}-pass"),
        },
        "actions": [action("deploy", false), action("asks", true), action("other", false)],
    })
}

/// A signing key, and the file that publishes it.
async fn issuer(dir: &Path) -> Result<(String, String)> {
    let (key, jwks) = (dir.join("key.pem"), dir.join("jwks.json"));
    let path = key.to_str().context("a path that is not UTF-8")?;
    let jwk = python(parts::pyjwt()?, "e2e/jwt/tokens.py", &["key", "ES256", path, "k"]).await?;
    let jwk: Value = serde_json::from_str(&jwk)?;
    std::fs::write(&jwks, json!({"keys": [jwk]}).to_string())?;
    let published = jwks.to_str().context("a path that is not UTF-8")?;
    Ok((path.to_owned(), published.to_owned()))
}

async fn signed(key: &str, claims: Value) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut all = json!({"iss": ISSUER, "aud": "sluice", "sub": "alice", "exp": now + 600});
    if let (Some(all), Value::Object(claims)) = (all.as_object_mut(), claims) {
        all.extend(claims);
    }
    let arguments = ["sign", "ES256", key, "k", &all.to_string()];
    python(parts::pyjwt()?, "e2e/jwt/tokens.py", &arguments).await
}

/// Every call, what it takes, and what it answers where that is there: on a run, an action and an entity that are.
struct Call {
    grant: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
    /// A call that does not fit what is there.
    or: u16,
}

fn calls(run: &str) -> Vec<Call> {
    let call = |grant, method, path: &str, body: Option<Value>, or| Call {
        grant,
        method,
        path: path.replace("RUN", run),
        body,
        or,
    };
    let entity = "/v1/blueprints/b/entities/there";
    vec![
        call("see", Method::GET, "/v1/actions", None, 200),
        call("see", Method::GET, "/v1/actions/made", None, 200),
        call("see", Method::GET, "/v1/actions/runs", None, 200),
        call("see", Method::GET, "/v1/actions/runs/RUN", None, 200),
        call("see", Method::GET, "/v1/actions/runs/RUN/logs", None, 200),
        call("see", Method::GET, "/v1/blueprints/b/entities", None, 200),
        call("see", Method::GET, entity, None, 200),
        call("credentials", Method::GET, "/v1/kafka-credentials", None, 200),
        call(
            "invoke",
            Method::POST,
            "/v1/actions/deploy/runs",
            Some(json!({})),
            202,
        ),
        call(
            "manage",
            Method::POST,
            "/v1/actions",
            Some(action("made", false)),
            409,
        ),
        call(
            "manage",
            Method::PUT,
            "/v1/actions/made",
            Some(action("made", false)),
            200,
        ),
        call("manage", Method::DELETE, "/v1/actions/gone", None, 404),
        call(
            "report",
            Method::PATCH,
            "/v1/actions/runs/RUN",
            Some(json!({"summary": "s"})),
            200,
        ),
        call(
            "approve",
            Method::PATCH,
            "/v1/actions/runs/RUN/approval",
            Some(json!({"status": "APPROVE"})),
            409,
        ),
        call(
            "report",
            Method::PATCH,
            "/v1/actions/runs/RUN/response",
            Some(json!({"response": 1})),
            200,
        ),
        call(
            "report",
            Method::POST,
            "/v1/actions/runs/RUN/logs",
            Some(json!({"message": "m"})),
            201,
        ),
        call(
            "report",
            Method::POST,
            "/v1/actions/runs/claim-pending",
            Some(json!({"installationId": "i", "invocationMethod": "NONE"})),
            200,
        ),
        call(
            "report",
            Method::PATCH,
            "/v1/actions/runs/ack",
            Some(json!({"runIds": []})),
            200,
        ),
        call(
            "report",
            Method::POST,
            "/v1/workflows/runs/claim-pending",
            Some(json!({})),
            200,
        ),
        call(
            "report",
            Method::POST,
            "/v1/blueprints/b/entities",
            Some(json!({"identifier": "there"})),
            409,
        ),
        call("report", Method::PUT, entity, Some(json!({"title": "t"})), 200),
        call("report", Method::PATCH, entity, Some(json!({"title": "t"})), 200),
        call(
            "report",
            Method::DELETE,
            "/v1/blueprints/b/entities/gone",
            None,
            404,
        ),
    ]
}

#[test]
fn nobody_does_what_he_may_not_and_organisations_do_not_see_each_other() -> Result<()> {
    scenario("actions-access", async |s| {
        let kafka = kafka::shared().await?;
        let (acme, globex) = (s.topic("acme"), s.topic("globex"));
        let mut settings = settings(s, kafka, json!({&acme: org(&acme), &globex: org(&globex)}));
        let (key, jwks) = issuer(s.dir()).await?;
        settings["jwt"] = json!({"corporate": {
            "issuer": ISSUER, "audiences": ["sluice"], "jwks": {"file": jwks}, "algorithms": ["ES256"],
        }});
        let rig = rig(s, settings).await?;
        let client = rig.envoy.h1();
        let who = |token: &str| Caller::new(client.clone(), token);
        let all = who(&format!("{acme}-all"));
        all.ready().await?;
        all.post("/v1/actions", action("made", false))
            .await?
            .expect(201)?;
        all.post("/v1/blueprints/b/entities", json!({"identifier": "there"}))
            .await?
            .expect(201)?;
        let run = all.start("deploy", json!({})).await?;

        for call in calls(&run) {
            for grant in GRANTS {
                let caller = who(&format!("{acme}-{grant}"));
                let reply = caller
                    .call(call.method.clone(), &call.path, call.body.as_ref())
                    .await?;
                let expected = if grant == call.grant { call.or } else { 403 };
                ensure!(
                    reply.status == expected,
                    "{grant}: {} {} is not {expected}: {reply:?}",
                    call.method,
                    call.path
                );
            }
            for nobody in ["", "nobody-has-this", "sluice1.e30.e30"] {
                let reply = who(nobody)
                    .call(call.method.clone(), &call.path, call.body.as_ref())
                    .await?;
                reply.expect_error(401, "not_authenticated")?;
                ensure!(reply.header("www-authenticate") == "Bearer", "{reply:?}");
            }
        }
        approvals(&who, &acme).await?;
        some_actions(&who, &acme, &all).await?;
        apart(&who, (&acme, &globex), &run).await?;
        bearers(&who, (&acme, &globex), &key).await?;
        clients(&who, (&acme, &globex), &client).await?;
        let log = rig.sidecar.log()?;
        for secret in ["client-secret", "-pass", "sluice1."] {
            ensure!(!log.contains(secret), "{secret} is in the log");
        }
        Ok(())
    })
}

/// Somebody else approves, and he who started it does not.
async fn approvals(who: &impl Fn(&str) -> Caller, acme: &str) -> Result<()> {
    let (all, approver) = (who(&format!("{acme}-all")), who(&format!("{acme}-approve")));
    let run = all.start("asks", json!({})).await?;
    let path = format!("/v1/actions/runs/{run}/approval");
    let own = all.patch(&path, json!({"status": "APPROVE"})).await?;
    own.expect_error(403, "not_allowed")?;
    ensure!(all.run(&run).await?["status"] == "WAITING_FOR_APPROVAL");
    let reply = approver
        .patch(&path, json!({"status": "APPROVE", "description": "go"}))
        .await?;
    let approved = &reply.expect(200)?.json()?["run"];
    ensure!(
        approved["status"] == "IN_PROGRESS"
            && approved["approval"]["by"] == "approve"
            && approved["approval"]["description"] == "go",
        "{approved}"
    );
    Ok(())
}

/// Who may only do some actions sees nothing of others.
async fn some_actions(who: &impl Fn(&str) -> Caller, acme: &str, all: &Caller) -> Result<()> {
    let some = who(&format!("{acme}-some"));
    let hidden = all.start("other", json!({})).await?;
    let shown = some.start("deploy", json!({})).await?;
    some.post("/v1/actions/other/runs", json!({}))
        .await?
        .expect_error(403, "not_allowed")?;
    some.get("/v1/actions/other")
        .await?
        .expect_error(403, "not_allowed")?;
    for (path, body) in [
        ("", json!({"summary": "s"})),
        ("/response", json!({"response": 1})),
    ] {
        let path = format!("/v1/actions/runs/{hidden}{path}");
        some.patch(&path, body).await?.expect_error(404, "not_found")?;
    }
    for path in ["", "/logs"] {
        let path = format!("/v1/actions/runs/{hidden}{path}");
        some.get(&path).await?.expect_error(404, "not_found")?;
    }
    let runs = list(&some.get("/v1/actions/runs").await?.json()?, "/runs")?;
    ensure!(
        runs.iter().any(|run| run["id"] == shown.as_str())
            && runs.iter().all(|run| run["action"]["identifier"] == "deploy"),
        "{runs:?}"
    );
    let actions = list(&some.get("/v1/actions").await?.json()?, "/actions")?;
    ensure!(
        actions.len() == 1 && actions.iter().all(|action| action["identifier"] == "deploy"),
        "{actions:?}"
    );
    let claim = json!({"installationId": "some"});
    let claimed = some.post("/v1/actions/runs/claim-pending", claim).await?;
    let claimed = list(&claimed.expect(200)?.json()?, "/runs")?;
    ensure!(
        !claimed.is_empty()
            && claimed
                .iter()
                .all(|run| run["payload"]["body"]["action"] == "deploy"),
        "{claimed:?}"
    );
    Ok(())
}

/// Another organisation, which may do all it can, finds nothing of the first.
async fn apart(who: &impl Fn(&str) -> Caller, (acme, globex): (&str, &str), run: &str) -> Result<()> {
    let (all, other) = (who(&format!("{acme}-all")), who(&format!("{globex}-all")));
    for call in calls(run) {
        let about = call.path.contains(run) || call.path.ends_with("/made") || call.path.ends_with("/there");
        if !about || call.method == Method::PUT && call.path.ends_with("/there") {
            continue;
        }
        let reply = other
            .call(call.method.clone(), &call.path, call.body.as_ref())
            .await?;
        ensure!(reply.status == 404, "{} {}: {reply:?}", call.method, call.path);
    }
    let own = other.start("deploy", json!({})).await?;
    let made = json!({"identifier": "there", "title": "another's"});
    other.post("/v1/blueprints/b/entities", made).await?.expect(201)?;
    ensure!(
        all.get("/v1/blueprints/b/entities/there").await?.json()?["entity"]["title"] == "t",
        "it was changed"
    );
    // A page that begins after a run of the other's has one's own only.
    let newest = all.start("deploy", json!({})).await?;
    for query in ["", &format!("?cursor={newest}")] {
        let found = other.get(&format!("/v1/actions/runs{query}")).await?;
        let found = list(&found.expect(200)?.json()?, "/runs")?;
        ensure!(
            found.len() == 1 && found.iter().all(|run| run["id"] == own.as_str()),
            "{found:?}"
        );
    }
    for (path, at) in [
        ("/v1/actions?cursor=a", "/actions"),
        ("/v1/blueprints/b/entities?cursor=a", "/entities"),
    ] {
        let found = list(&other.get(path).await?.expect(200)?.json()?, at)?;
        ensure!(
            found
                .iter()
                .all(|one| one["identifier"] == "there" && one["title"] == "another's"),
            "{path}: {found:?}"
        );
    }
    let ack = other
        .call(
            Method::PATCH,
            "/v1/actions/runs/ack",
            Some(&json!({"runIds": [run]})),
        )
        .await?;
    ensure!(ack.expect(200)?.json()?["ackedCount"] == 0, "{ack:?}");
    let entity = json!({"identifier": "of-another-run"});
    other
        .post(&format!("/v1/blueprints/b/entities?run_id={run}"), entity)
        .await?
        .expect_error(422, "invalid")?;
    for (caller, id) in [(&all, acme), (&other, globex)] {
        let reply = caller.get("/v1/kafka-credentials").await?;
        ensure!(reply.header("cache-control") == "no-store", "{reply:?}");
        let expected = json!({
            "brokers": [format!("{id}.example:9092")], "username": format!("{id}-user"),
            "password": format!("{id}-pass"),
        });
        ensure!(reply.expect(200)?.json()?["credentials"] == expected, "{reply:?}");
    }
    // A header does not make a token another organisation's.
    let reply = all
        .call_with(Method::GET, "/v1/actions/runs", None, &[("sluice-org", globex)])
        .await?;
    reply.expect_error(401, "not_authenticated")?;
    Ok(())
}

/// Tokens that an issuer signed, and what they say.
async fn bearers(who: &impl Fn(&str) -> Caller, (acme, globex): (&str, &str), key: &str) -> Result<()> {
    let claims = json!({
        "org": acme, "role": "engineer", "email": "alice@acme.example", "given_name": "Alice", "family_name": "Liddell",
    });
    let alice = who(&signed(key, claims).await?);
    let run = alice.start("deploy", json!({})).await?;
    let by = &alice.run(&run).await?["trigger"]["by"];
    let user = json!({"email": "alice@acme.example", "firstName": "Alice", "lastName": "Liddell"});
    ensure!(
        *by == json!({"orgId": acme, "userId": "alice", "user": user}),
        "{by}"
    );
    alice
        .patch(&format!("/v1/actions/runs/{run}"), json!({"status": "SUCCESS"}))
        .await?
        .expect_error(403, "not_allowed")?;
    for claims in [
        json!({"org": acme, "role": "guest"}),
        json!({"org": acme}),
        json!({"org": "else", "role": "engineer"}),
        json!({"org": acme, "role": "engineer", "aud": "another"}),
        json!({"org": acme, "role": "engineer", "exp": 1_700_000_000}),
        json!({"org": acme, "role": "engineer", "iss": "https://another.example"}),
    ] {
        let stranger = who(&signed(key, claims.clone()).await?);
        let reply = stranger.post("/v1/actions/deploy/runs", json!({})).await?;
        ensure!(reply.status == 401, "{claims}: {reply:?}");
    }
    let both = who(&signed(key, json!({"org": [acme, globex], "role": "engineer"})).await?);
    both.get("/v1/actions/runs")
        .await?
        .expect_error(400, "invalid_request")?;
    for (org, expected) in [(acme, 200), (globex, 200), ("else", 401)] {
        let reply = both
            .call_with(Method::GET, "/v1/actions/runs", None, &[("sluice-org", org)])
            .await?;
        ensure!(reply.status == expected, "{org}: {reply:?}");
        if expected == 200 {
            let runs = list(&reply.json()?, "/runs")?;
            ensure!(
                runs.iter().all(|run| run["trigger"]["by"]["orgId"] == org),
                "{runs:?}"
            );
        }
    }
    Ok(())
}

/// Programs that get a token for an id and a secret.
async fn clients(who: &impl Fn(&str) -> Caller, (acme, globex): (&str, &str), client: &Client) -> Result<()> {
    let nobody = Caller::new(client.clone(), "");
    let ask = async |id: &str, secret: &str| {
        let body = json!({"clientId": id, "clientSecret": secret});
        nobody.post("/v1/auth/access_token", body).await
    };
    let (id, secret) = (format!("{acme}-agent"), format!("{acme}-client-secret"));
    let reply = ask(&id, &secret).await?;
    let told = reply.expect(200)?.json()?;
    ensure!(
        told["tokenType"] == "Bearer"
            && told["expiresIn"] == 10_800
            && reply.header("cache-control") == "no-store",
        "{reply:?}"
    );
    let token = text(&told, "/accessToken")?;
    let agent = who(&token);
    let reply = agent.get("/v1/kafka-credentials").await?;
    ensure!(
        reply.expect(200)?.json()?["credentials"]["username"] == format!("{acme}-user"),
        "{reply:?}"
    );
    agent
        .get("/v1/actions/runs")
        .await?
        .expect_error(403, "not_allowed")?;
    for (id, secret) in [
        (id.as_str(), "wrong"),
        (id.as_str(), ""),
        ("nobody", secret.as_str()),
        (&format!("{globex}-agent"), &secret),
    ] {
        ask(id, secret).await?.expect_error(401, "not_authenticated")?;
    }
    nobody
        .post("/v1/auth/access_token", json!({"clientId": id}))
        .await?
        .expect_error(400, "invalid_request")?;
    // Of another organisation by what it says, with the first's signature; cut off; longer.
    let (said, signature) = token.rsplit_once('.').context("no signature")?;
    let (_, other) = {
        let reply = ask(&format!("{globex}-agent"), &format!("{globex}-client-secret")).await?;
        let token = text(&reply.expect(200)?.json()?, "/accessToken")?;
        let (said, signature) = token.rsplit_once('.').context("no signature")?;
        (said.to_owned(), signature.to_owned())
    };
    for forged in [
        format!("{said}.{other}"),
        said.to_owned(),
        format!("{said}."),
        format!("{token}A"),
        format!("{said}A.{signature}"),
    ] {
        let reply = who(&forged).get("/v1/kafka-credentials").await?;
        ensure!(reply.status == 401, "{forged}: {reply:?}");
    }
    Ok(())
}

#[test]
fn an_access_token_ends_when_it_was_said_to() -> Result<()> {
    scenario("actions-tokens", async |s| {
        let kafka = kafka::shared().await?;
        let acme = s.name();
        let mut org = org(acme);
        org["token_lifetime"] = json!("2s");
        let mut settings = settings(s, kafka, json!({acme: org}));
        let (_, jwks) = issuer(s.dir()).await?;
        settings["jwt"] = json!({"corporate": {
            "issuer": ISSUER, "audiences": ["sluice"], "jwks": {"file": jwks}, "algorithms": ["ES256"],
        }});
        let rig = rig(s, settings).await?;
        let nobody = Caller::new(rig.envoy.h1(), "");
        let body =
            json!({"clientId": format!("{acme}-agent"), "clientSecret": format!("{acme}-client-secret")});
        let get = async || {
            let told = nobody.post("/v1/auth/access_token", body.clone()).await?;
            let told = told.expect(200)?.json()?;
            ensure!(told["expiresIn"] == 2, "{told}");
            text(&told, "/accessToken")
        };
        let agent = Caller::new(rig.envoy.h1(), &get().await?);
        wait::until("it has expired", PATIENCE, async || {
            let reply = agent.get("/v1/kafka-credentials").await?;
            ensure!(
                reply.status == 401 && reply.text().contains("expired"),
                "{reply:?}"
            );
            Ok(())
        })
        .await?;
        let another = Caller::new(rig.envoy.h1(), &get().await?);
        another.get("/v1/kafka-credentials").await?.expect(200).map(drop)
    })
}

"""What port-agent does between a run and its report, call for call, where the agent itself cannot be installed.

The calls, their order and the check of signatures are those of github.com/port-labs/port-agent at 4732c34:
app/port_client.py, app/consumers/, app/processors/, app/invokers/webhook_invoker.py, app/utils.py. It prints what it
does with each run, as a line of JSON.

agent.py KAFKA | POLLING   with API, ORG, CLIENT_ID, CLIENT_SECRET, and for KAFKA GROUP, PROTOCOL, MECHANISM
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request

API, ORG = os.environ["API"], os.environ["ORG"]
CLIENT_ID, SECRET = os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]


def send(method, url, body, headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)
    for name, value in {"content-type": "application/json", **headers}.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status, response.read().decode()


def call(method, path, body=None, **headers):
    """Each call gets a token first, as the agent's do."""
    credentials = {"clientId": CLIENT_ID, "clientSecret": SECRET}
    _, token = send("POST", f"{API}/v1/auth/access_token", credentials, {})
    bearer = {"authorization": f"Bearer {json.loads(token)['accessToken']}", "user-agent": "port-agent"}
    _, text = send(method, f"{API}{path}", body, {**bearer, **headers})
    return json.loads(text)


def sign(text, timestamp):
    digest = hmac.new(SECRET.encode(), f"{timestamp}.{text}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def is_signed(message, kind):
    headers = message.get("headers", {})
    signature, timestamp = headers.get("X-Port-Signature"), headers.get("X-Port-Timestamp")
    if not signature or not timestamp:
        return False
    if kind == "GITLAB":
        del message["headers"]
    else:
        del headers["X-Port-Signature"], headers["X-Port-Timestamp"]
    return sign(json.dumps(message, separators=(",", ":"), ensure_ascii=False), timestamp) == signature


def log(run, text):
    call("POST", f"/v1/actions/runs/{run}/logs", {"message": text})


def invoke(message, method):
    run = message["context"]["runId"]
    log(run, "An action message has been received")
    log(run, "Preparing the payload for the request")
    log(run, "Sending the request")
    timestamp = str(int(time.time()))
    signed = {
        "X-Port-Timestamp": timestamp,
        "X-Port-Signature": sign(json.dumps(message, separators=(",", ":")), timestamp),
    }
    try:
        status, text = send(method.get("method", "POST"), method["url"], message, signed)
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    ok = status < 400
    log(run, f"Action invocation has {'completed successfully' if ok else 'failed'} with status code: {status}")
    report = {}
    if method.get("synchronized"):
        log(run, "Reporting the run response")
        call("PATCH", f"/v1/actions/runs/{run}/response", {"response": text})
        log(run, "The run response was reported successfully ")
        report = {"status": "SUCCESS"}
    if not ok:
        report = {"status": "FAILURE", "summary": f"Failed to invoke the webhook with status code: {status}."}
    if report:
        call("PATCH", f"/v1/actions/runs/{run}", report)
    if ok:
        log(run, "Port agent finished processing the action run")
    said(run, "invoked")


def said(run, what):
    print(json.dumps({"run": run, "what": what}), flush=True)


def kafka():
    from confluent_kafka import Consumer

    credentials = call("GET", "/v1/kafka-credentials")["credentials"]
    runs = f"{ORG}.runs"
    consumer = Consumer(
        {
            "client.id": "port-agent",
            "security.protocol": os.environ["PROTOCOL"],
            "sasl.mechanism": os.environ["MECHANISM"],
            "group.id": os.environ["GROUP"],
            "session.timeout.ms": 45000,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
            "sasl.username": credentials["username"],
            "sasl.password": credentials["password"],
            "bootstrap.servers": ",".join(credentials["brokers"]),
        }
    )
    consumer.subscribe([runs, f"{ORG}.change.log"])
    while True:
        record = consumer.poll(timeout=1.0)
        if record is None or record.error():
            continue
        message = json.loads(record.value().decode())
        method = {}
        if record.topic() == runs:
            method = message.get("payload", {}).get("action", {}).get("invocationMethod", {})
        if method.get("agent"):
            run = message["context"]["runId"]
            if is_signed(message, method.get("type")):
                invoke(message, method)
            else:
                said(run, "not signed as it should be")
        consumer.commit(asynchronous=False)


def polling():
    reserved = {"x-port-reserved-usage": "true"}
    while True:
        claim = {"installationId": "_PORT_EXEC_AGENT", "limit": 100, "invocationMethod": "WEBHOOK"}
        claimed = call("POST", "/v1/actions/runs/claim-pending", claim, **reserved)["runs"]
        acked = [
            run
            for run in claimed
            if call("PATCH", "/v1/actions/runs/ack", {"runIds": [run["id"]]}, **reserved)["ackedCount"]
        ]
        for run in acked:
            payload = run["payload"]
            method = {
                "type": payload["type"],
                "url": payload["url"],
                "synchronized": payload.get("synchronized", False),
                "method": payload.get("method", "POST"),
                "headers": payload.get("headers", {}),
            }
            if not payload["agent"]:
                said(run["id"], "not for an agent")
                continue
            message = {**payload["body"], "headers": method["headers"]}
            message["payload"]["action"]["invocationMethod"] = method
            message["context"]["runId"] = run["id"]
            invoke(message, method)
        nodes = {"installationId": "_PORT_EXEC_AGENT", "limit": 100}
        if call("POST", "/v1/workflows/runs/claim-pending", nodes, **reserved)["nodeRuns"]:
            sys.exit("there are no workflows here")
        # As the agent does, for 10 s (POLLING_INTERVAL_SECONDS): there is nothing to wait on.
        time.sleep(0.2)


call("PATCH", "/v1/organization", {"settings": {"portAgentStreamerName": sys.argv[1]}})
kafka() if sys.argv[1] == "KAFKA" else polling()

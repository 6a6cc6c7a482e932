"""Deploys what an organisation's runs ask for, or would (docs/actions.md).

BROKERS=localhost:9092 ORG=acme API=http://localhost:10000 TOKEN=... python3 deployer.py
"""

import json
import os
import urllib.request

from confluent_kafka import Consumer


def call(method, path, body=None):
    request = urllib.request.Request(os.environ["API"] + path, body and json.dumps(body).encode(), method=method)
    request.add_header("authorization", f"Bearer {os.environ['TOKEN']}")
    request.add_header("content-type", "application/json")
    return json.load(urllib.request.urlopen(request))


org = os.environ["ORG"]
consumer = Consumer(
    {
        "bootstrap.servers": os.environ["BROKERS"],
        "group.id": f"{org}.deployer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 1000,
    }
)
consumer.subscribe([f"{org}.runs"])
while True:
    record = consumer.poll(1.0)
    if record is None or record.error():
        continue
    message = json.loads(record.value())
    run, wanted = f"/v1/actions/runs/{message['context']['runId']}", message["payload"]
    # A record may come twice; a run ends once.
    if message["action"] == "deploy" and call("GET", run)["run"]["status"] == "IN_PROGRESS":
        name = f"{wanted['service']}-{wanted['version']}"
        entity = {"identifier": name, "title": f"{wanted['service']} {wanted['version']}", "properties": wanted}
        call("POST", f"/v1/blueprints/deployment/entities?upsert=true&run_id={message['context']['runId']}", entity)
        call("POST", f"{run}/logs", {"message": f"{name} is rolled out"})
        done = {"status": "SUCCESS", "link": f"https://{name}.example", "summary": f"{name} is there"}
        call("PATCH", run, done)
    consumer.commit(record)

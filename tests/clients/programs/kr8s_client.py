"""kr8s. argv[1]: the namespace."""

import json
import socket
import sys
import urllib.request

import kr8s
import uses
from kr8s.objects import ConfigMap, Deployment, Pod, Service

NAMESPACE = sys.argv[1]
api = kr8s.api(namespace=NAMESPACE)


def named(manifest):
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": NAMESPACE}}


def service():
    made = Service(named(uses.SERVICE), api=api)
    made.create()
    made.patch({"metadata": {"labels": {"x": "y"}}})
    uses.expect([each.name for each in api.get("services", label_selector="x=y")] == ["web"], "list by label")
    made.refresh()
    uses.expect(made.spec.ports[0].nodePort >= 30086, made.spec)


def discovery():
    kinds = {each["kind"] for each in api.api_resources()}
    uses.expect({"Service", "EndpointSlice", "Deployment"} <= kinds, kinds)
    uses.expect(api.version()["major"] == "1", "version")


def deployment():
    made = Deployment(named(uses.DEPLOYMENT), api=api)
    made.create()
    made.wait("condition=Available", timeout=60)
    made.scale(1)
    uses.wait_for(lambda: len(made.pods()) == 1, "one pod")


def pod():
    made = Pod(named(uses.POD), api=api)
    made.create()
    made.wait("condition=Ready", timeout=60)
    uses.expect(any("listening" in line for line in made.logs()), "a log")
    done = made.exec(["sh", "-c", "echo out"])
    uses.expect(b"out" in done.stdout, done)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def forward():
    with (
        Pod.get("web", namespace=NAMESPACE, api=api).portforward(
            remote_port=8080, local_port=free_port()
        ) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/?format=json", timeout=10) as answer,
    ):
        uses.expect(json.loads(answer.read())["pod"] == "web", "answer")


def delete():
    made = ConfigMap(named({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone"}}), api=api)
    made.create()
    made.delete()
    uses.wait_for(lambda: not made.exists(), "gone")


uses.tell("discovery", discovery)
uses.tell("Services: create, patch, list", service)
uses.tell("wait, scale", deployment)
uses.tell("pods, logs, exec (WebSocket v5)", pod)
uses.tell("port-forward", forward)
uses.tell("delete", delete)

"""kubectl create: every generator, which posts protobuf, and what came of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("words", "resource", "path", "value"),
    [
        (["quota", "x", "--hard=pods=2,services.nodeports=1"], "quota", "spec.hard", {"pods": "2", "services.nodeports": "1"}),
        (["pdb", "x", "--selector=a=b", "--min-available=50%"], "pdb", "spec.minAvailable", "50%"),
        (["priorityclass", "x", "--value=1000", "--description=d"], "pc", "value", 1000),
        (["role", "x", "--verb=get,list", "--resource=services"], "role", "rules.0.verbs", ["get", "list"]),
        (["clusterrole", "x", "--verb=get", "--resource=nodes"], "clusterrole", "rules.0.resources", ["nodes"]),
        (["rolebinding", "x", "--clusterrole=view", "--user=u"], "rolebinding", "subjects.0.name", "u"),
        (["clusterrolebinding", "x", "--clusterrole=view", "--group=g"], "clusterrolebinding", "subjects.0.kind", "Group"),
        (["ingress", "x", "--class=c", "--rule=h.example/p*=svc:80,tls=s"], "ing",
         "spec.rules.0.http.paths.0.backend.service", {"name": "svc", "port": {"number": 80}}),
        (["job", "x", "--image=i"], "job", "spec.template.spec.restartPolicy", "Never"),
        (["deployment", "x", "--image=i", "--replicas=2", "--port=80"], "deploy", "spec.replicas", 2),
        (["configmap", "x", "--from-literal=a=b"], "cm", "data", {"a": "b"}),
        (["secret", "generic", "x", "--from-literal=a=b"], "secret", "data", {"a": "Yg=="}),
        (["serviceaccount", "x"], "sa", "metadata.name", "x"),
        (["namespace", "x"], "ns", "status.phase", "Active"),
        (["service", "clusterip", "x", "--tcp=80:8080"], "svc", "spec.ports.0.targetPort", 8080),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
async def test_kubectl_creates(kubectl: Any, words: list[str], resource: str, path: str, value: Any) -> None:
    if words[0] == "pdb" and kubectl.version == "1.20":
        pytest.skip("posts policy/v1beta1, which Kubernetes has not served since 1.25")
    await kubectl("create", *words)
    found: Any = (await kubectl("get", resource, "x", "-o", "json")).json
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert found == value
    shown = await kubectl("get", resource, "-o", "wide")
    assert any(line.split()[0] == "x" for line in shown.lines[1:])
    assert "Name:" in (await kubectl("describe", resource, "x")).out
    await kubectl("delete", resource, "x", "--wait=false")


async def test_a_namespace_is_described_with_its_quotas_and_limits(kubectl: Any) -> None:
    await kubectl("create", "quota", "q", "--hard=pods=2")
    limits = {
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]},
    }  # fmt: skip
    await kubectl("apply", "-f", "-", stdin=json.dumps(limits))
    found = (await kubectl("describe", "ns", "default")).out
    assert "Container" in found
    assert "cpu" in found
    assert "Resource Quotas" in found


async def test_events_are_told_by_both_versions_and_by_their_own_command(kubectl: Any) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T12:00:00.000000Z", "reportingController": "example.com/c",
        "reportingInstance": "i", "action": "Do", "reason": "Done", "type": "Warning", "note": "all went well",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": "c"},
    }  # fmt: skip
    await kubectl("create", "-f", "-", stdin=json.dumps(event))
    for words in (["get", "events"], ["get", "events.v1.events.k8s.io"], ["get", "ev", "-o", "wide"]):
        assert "all went well" in (await kubectl(*words)).out, words
    if kubectl.version != "1.20":
        assert "all went well" in (await kubectl("events", "--for=configmap/c")).out

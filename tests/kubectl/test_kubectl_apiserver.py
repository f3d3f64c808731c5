"""kubectl's everyday commands, without special flags, against the API server alone: no controllers, no nodes."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from nodeport.api.resources import RESOURCES

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: my-deployment
spec:
  replicas: 3
  selector: {matchLabels: {app: my-app}}
  template:
    metadata: {labels: {app: my-app}}
    spec:
      containers:
      - name: web
        image: nodeport/echo
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: my-nodeport-service}
spec:
  type: NodePort
  selector: {app: my-app}
  ports: [{port: 80, targetPort: 8080, nodePort: 30007}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: nodeport/echo}]}
"""
NODE = "{apiVersion: v1, kind: Node, metadata: {name: node-1}}"


def columns(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


async def test_apply_creates_then_leaves_alone_then_changes(kubectl: Any) -> None:
    first = await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert first.lines == ["deployment.apps/my-deployment created", "service/my-nodeport-service created"]
    second = await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert second.lines == [
        "deployment.apps/my-deployment unchanged",
        "service/my-nodeport-service unchanged",
    ]
    changed = MANIFEST.replace("replicas: 3", "replicas: 5").replace("30007", "30008")
    third = await kubectl("apply", "-f", "-", stdin=changed)
    assert third.lines == [
        "deployment.apps/my-deployment configured",
        "service/my-nodeport-service configured",
    ]
    found = (await kubectl("get", "svc", "my-nodeport-service", "-o", "json")).json
    assert [each["nodePort"] for each in found["spec"]["ports"]] == [30008]
    dry = await kubectl("apply", "--dry-run=server", "-f", "-", stdin=MANIFEST)
    assert dry.lines[1] == "service/my-nodeport-service configured (server dry run)"


async def test_a_list_that_was_read_can_be_applied_again(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    read = await kubectl("get", "deployments,services", "-l", "component!=apiserver", "-o", "yaml")
    assert "kind: List" in read.out
    again = await kubectl("apply", "-f", "-", stdin=read.out)
    assert len(again.lines) == 2


async def test_apply_validates_on_the_server(kubectl: Any) -> None:
    bad = MANIFEST.replace("targetPort", "targetPrt")
    refused = await kubectl("apply", "-f", "-", stdin=bad, fails=True)
    assert 'unknown field "' in refused.err  # found by the server, or by the oldest kubectl in our OpenAPI v2
    assert 'targetPrt"' in refused.err
    taken = MANIFEST.replace("my-nodeport-service", "other")
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    refused = await kubectl("apply", "-f", "-", stdin=taken, fails=True)
    assert (
        'The Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30007: '
        "provided port is already allocated"
    ) in refused.err
    refused = await kubectl("apply", "-f", "-", stdin=taken.replace("30007", "80"), fails=True)
    assert "provided port is not in the valid range. The range of valid ports is 30000-32767" in refused.err


async def test_create_posts_protobuf(kubectl: Any) -> None:
    assert (await kubectl("create", "deployment", "web", "--image=nodeport/echo", "--replicas=2")).lines == [
        "deployment.apps/web created"
    ]
    made = (await kubectl("get", "deploy", "web", "-o", "json")).json
    assert made["spec"]["replicas"] == 2
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "nodeport/echo"
    await kubectl("create", "service", "nodeport", "n", "--tcp=80:8080", "--node-port=30080")
    service = (await kubectl("get", "svc", "n", "-o", "json")).json
    assert service["spec"]["selector"] == {"app": "n"}
    assert service["spec"]["ports"] == [
        {"name": "80-8080", "nodePort": 30080, "port": 80, "protocol": "TCP", "targetPort": 8080}
    ]
    await kubectl("create", "namespace", "extra")
    await kubectl("create", "configmap", "c", "--from-literal=a=b", "-n", "extra")
    await kubectl("create", "secret", "generic", "s", "--from-literal=a=b", "-n", "extra")
    shown = await kubectl("get", "cm,secret", "-n", "extra")
    assert [columns(line)[:2] for line in shown.lines if line] == [
        ["NAME", "DATA"], ["configmap/c", "1"], ["NAME", "TYPE"], ["secret/s", "Opaque"],
    ]  # fmt: skip
    again = await kubectl("create", "namespace", "extra", fails=True)
    assert again.err.strip() == 'Error from server (AlreadyExists): namespaces "extra" already exists'


async def test_expose_makes_a_service_of_a_deployment(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    exposed = await kubectl(
        "expose", "deployment", "my-deployment", "--type=NodePort", "--port=80", "--target-port=8080"
    )
    assert exposed.lines == ["service/my-deployment exposed"]
    spec = (await kubectl("get", "svc", "my-deployment", "-o", "json")).json["spec"]
    assert spec["selector"] == {"app": "my-app"}
    assert 30086 <= spec["ports"][0]["nodePort"] <= 32767


async def test_get_prints_kubectls_columns(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=f"{MANIFEST}---\n{POD}---\n{NODE}")
    services = (await kubectl("get", "svc", "-o", "wide")).lines
    assert columns(services[0]) == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    row = columns(services[2])
    assert (row[0], row[1], row[3], row[4], row[6]) == (
        "my-nodeport-service", "NodePort", "<none>", "80:30007/TCP", "app=my-app",
    )  # fmt: skip
    expected = {
        "deploy": "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR",
        "pods": "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED_NODE READINESS_GATES",
        "nodes": "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
        "ns": "NAME STATUS AGE",
    }
    for resource, header in expected.items():
        lines = (await kubectl("get", resource, "-o", "wide")).lines
        assert [word.replace(" ", "_") for word in columns(lines[0])] == header.split()
    assert columns((await kubectl("get", "pods")).lines[1])[:4] == ["p", "0/1", "Pending", "0"]
    mixed = await kubectl("get", "svc,endpointslices,deploy,rs,pods,nodes")
    assert "service/my-nodeport-service" in mixed.out
    assert "deployment.apps/my-deployment" in mixed.out
    assert "node/node-1" in mixed.out


async def test_get_in_every_output_form(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    yaml = await kubectl("get", "svc", "my-nodeport-service", "-o", "yaml")
    assert "nodePort: 30007" in yaml.out
    assert (await kubectl("get", "svc", "-o", "name")).lines == [
        "service/kubernetes", "service/my-nodeport-service",
    ]  # fmt: skip
    path = "jsonpath={.items[*].spec.ports[*].nodePort}"
    assert (await kubectl("get", "svc", "-o", path)).out == "30007"
    custom = await kubectl("get", "svc", "-o", "custom-columns=N:.metadata.name,T:.spec.type", "--no-headers")
    assert columns(custom.lines[1]) == ["my-nodeport-service", "NodePort"]
    template = await kubectl("get", "deploy", "-o", "go-template={{range .items}}{{.metadata.name}}{{end}}")
    assert template.out == "my-deployment"
    labelled = await kubectl("get", "svc", "-l", "component=apiserver", "-o", "name")
    assert labelled.lines == ["service/kubernetes"]
    selected = await kubectl("get", "svc", "--field-selector", "spec.type=NodePort", "-o", "name")
    assert selected.lines == ["service/my-nodeport-service"]
    everywhere = await kubectl("get", "svc", "-A", "--sort-by=.metadata.name")
    assert columns(everywhere.lines[0])[0] == "NAMESPACE"


async def test_get_watch_prints_changes(kubectl: Any) -> None:
    process = await kubectl.start("get", "svc", "-w")
    try:
        async with asyncio.timeout(60):
            assert b"NAME" in await process.stdout.readline()
            assert b"kubernetes" in await process.stdout.readline()
            await kubectl("create", "service", "nodeport", "n", "--tcp=80:8080", "--node-port=30080")
            assert b"80:30080/TCP" in await process.stdout.readline()
            await kubectl("patch", "svc", "n", "--type=merge", "-p", '{"spec":{"type":"ClusterIP"}}')
            line = (await process.stdout.readline()).decode()
            assert columns(line)[1] == "ClusterIP"
    finally:
        process.kill()
        await process.communicate()


async def test_describe(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=f"{MANIFEST}---\n{POD}---\n{NODE}")
    service = await kubectl("describe", "svc", "my-nodeport-service")
    assert re.search(r"^NodePort:\s+<unset>\s+30007/TCP$", service.out, re.M)
    assert re.search(r"^Session Affinity:\s+None$", service.out, re.M)
    pod = await kubectl("describe", "pod", "p")
    assert re.search(r"^Status:\s+Pending$", pod.out, re.M)
    node = await kubectl("describe", "node", "node-1")
    assert re.search(r"^Name:\s+node-1$", node.out, re.M)
    await kubectl("describe", "deploy", "my-deployment")


async def test_scale_label_annotate_and_three_patches(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert (await kubectl("scale", "deploy/my-deployment", "--replicas=1")).lines == [
        "deployment.apps/my-deployment scaled"
    ]
    assert (await kubectl("get", "deploy", "-o", "jsonpath={.items[0].spec.replicas}")).out == "1"
    name = "my-nodeport-service"
    await kubectl("label", "svc", name, "tier=web")
    await kubectl("annotate", "svc", name, "example.com/note=x")
    again = await kubectl("label", "svc", name, "tier=other", fails=True)
    assert "already has a value" in again.err
    strategic = {"spec": {"ports": [{"port": 80, "nodePort": 30009}]}}
    await kubectl("patch", "svc", name, "-p", json.dumps(strategic))
    await kubectl("patch", "svc", name, "--type=merge", "-p", '{"spec":{"sessionAffinity":"ClientIP"}}')
    operations = [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]
    await kubectl("patch", "svc", name, "--type=json", "-p", json.dumps(operations))
    found = (await kubectl("get", "svc", name, "-o", "json")).json
    assert found["metadata"]["labels"] == {"tier": "web"}
    assert found["spec"]["ports"] == [{"nodePort": 30009, "port": 81, "protocol": "TCP", "targetPort": 8080}]
    assert found["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


async def test_edit_and_replace(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    edited = await kubectl("edit", "svc", "my-nodeport-service", EDITOR="sed -i s/30007/30010/")
    assert edited.lines == ["service/my-nodeport-service edited"]
    current = (await kubectl("get", "svc", "my-nodeport-service", "-o", "yaml")).out
    replaced = await kubectl("replace", "-f", "-", stdin=current.replace("30010", "30011"))
    assert replaced.lines == ["service/my-nodeport-service replaced"]
    stale = await kubectl("replace", "-f", "-", stdin=current.replace("30010", "30012"), fails=True)
    assert "the object has been modified" in stale.err


async def test_delete_waits_until_objects_are_gone(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=f"{MANIFEST}---\n{POD}")
    gone = await kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert gone.lines[0].startswith('deployment.apps "my-deployment" deleted')
    assert (await kubectl("delete", "pod", "p")).lines[0].startswith('pod "p" deleted')
    assert (await kubectl("get", "svc", "-o", "name")).lines == ["service/kubernetes"]
    missing = await kubectl("delete", "svc", "nope", fails=True)
    assert missing.err.strip() == 'Error from server (NotFound): services "nope" not found'
    await kubectl("create", "configmap", "a")
    await kubectl("create", "configmap", "b")
    assert len((await kubectl("delete", "cm", "--all")).lines) == 2


async def test_delete_waits_for_a_finalizer(kubectl: Any) -> None:
    await kubectl("create", "configmap", "held")
    hold = '{"metadata":{"finalizers":["example.com/f"]}}'
    await kubectl("patch", "cm", "held", "--type=merge", "-p", hold)
    deleting = asyncio.create_task(kubectl("delete", "cm", "held"))
    async with asyncio.timeout(60):
        while not (await kubectl("get", "cm", "held", "-o", "jsonpath={.metadata.deletionTimestamp}")).out:
            pass
    assert not deleting.done()
    await kubectl("patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert (await deleting).lines[0].startswith('configmap "held" deleted')


async def test_api_resources_version_and_explain(kubectl: Any) -> None:
    listed = await kubectl("api-resources")
    for words in (
        r"services\s+svc\s+v1\s+true\s+Service", r"deployments\s+deploy\s+apps/v1\s+true\s+Deployment",
        r"nodes\s+no\s+v1\s+false\s+Node", r"endpointslices\s+discovery.k8s.io/v1\s+true\s+EndpointSlice",
    ):  # fmt: skip
        assert re.search(rf"^{words}$", listed.out, re.M)
    assert re.search(r"Server Version: .*v1\.36\.1", (await kubectl("version")).out)
    explained = await kubectl("explain", "service.spec.ports.nodePort")
    assert re.search(r"FIELD:\s+nodePort <integer>", explained.out)
    assert re.search(r"^ +replicas\s+<integer>", (await kubectl("explain", "deployment.spec")).out, re.M)
    assert set((await kubectl("api-versions")).lines) >= {row.api_version for row in RESOURCES}


async def test_events_and_missing_things(kubectl: Any) -> None:
    assert "No resources found" in (await kubectl("get", "events")).err
    missing = await kubectl("get", "svc", "nope", fails=True)
    assert missing.err.strip() == 'Error from server (NotFound): services "nope" not found'
    unknown = await kubectl("get", "widgets", fails=True)
    assert """the server doesn't have a resource type "widgets\"""" in unknown.err
    nowhere = await kubectl("create", "configmap", "c", "-n", "nowhere", fails=True)
    assert 'namespaces "nowhere" not found' in nowhere.err


async def test_diff_and_rollout_status(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    different = await kubectl("diff", "-f", "-", stdin=MANIFEST.replace("30007", "30020"), fails=True)
    assert "-  - nodePort: 30007" in different.out

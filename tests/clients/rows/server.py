"""The server itself, nodes, and kubectl's own verbs."""

from __future__ import annotations

from clients.kit import ECHO, Kit, row


@row("version", "client and server")
def version(k: Kit) -> None:
    assert "v1.36" in k("version")


@row("cluster-info", "and dump")
def cluster_info(k: Kit) -> None:
    assert "is running at" in k("cluster-info")
    assert '"kind": "EventList"' in k("cluster-info", "dump", f"--namespaces={k.namespace}")


@row("api-versions", "lists the groups")
def api_versions(k: Kit) -> None:
    found = k("api-versions").split()
    assert {"v1", "apps/v1", "discovery.k8s.io/v1", "networking.k8s.io/v1", "events.k8s.io/v1"} <= set(found)


@row("api-resources", "lists the kinds; --verbs, --namespaced, -o wide")
def api_resources(k: Kit) -> None:
    found = k("api-resources", "-o", "wide")
    for word in ("services", "endpointslices", "deployments", "servicecidrs"):
        assert word in found
    assert "nodes" not in k("api-resources", "--namespaced=true", "--verbs=list", "-o", "name").split()


@row("explain", "a field with its description; --recursive")
def explain(k: Kit) -> None:
    text = k("explain", "service.spec.ports.nodePort")
    assert "nodePort" in text
    assert "integer" in text
    assert "range" in text, text
    assert "externalTrafficPolicy" in k("explain", "service", "--recursive")


@row("cordon", "uncordon, drain, taint")
def cordon_and_drain(k: Kit) -> None:
    node = "node-2"
    k("cordon", node)
    assert "SchedulingDisabled" in k("get", "node", node)
    k("uncordon", node)
    k("run", "p", f"--image={ECHO}", "--overrides=" + '{"spec":{"nodeName":"node-2"}}')
    k("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    try:
        k("drain", node, "--force", "--ignore-daemonsets", "--pod-selector=run=p", "--timeout=60s")
        assert k("get", "pod", "p", "--ignore-not-found") == ""
    finally:
        k("uncordon", node)
    k("taint", "node", node, "key=value:PreferNoSchedule")
    k("taint", "node", node, "key-")


@row("events", "of one object", since="1.26")
def events(k: Kit) -> None:
    k.sleeper()
    assert "Scheduled" in k("events", "--for", "pod/sleeper")


@row("get", "events, --field-selector on the object")
def get_events(k: Kit) -> None:
    k.sleeper()
    selector = "--field-selector=involvedObject.name=sleeper,reason=Started"
    assert "Started" in k("get", "events", selector)


@row("top", "is refused: there is no metrics API")
def top_refused(k: Kit) -> None:
    assert "Metrics API not available" in k("top", "nodes", code=1)


@row("config", "view, current-context, set-context; completion; options; plugin")
def own_verbs(k: Kit) -> None:
    assert k("config", "current-context").strip()
    assert "clusters:" in k("config", "view")
    assert "complete" in k("completion", "bash")
    assert "following options can be passed to any command" in k("options")

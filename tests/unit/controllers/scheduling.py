"""Nodes, pods and rules for tests of the scheduler, in few words."""

from __future__ import annotations

from typing import Any

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.nodeaffinity import REQUIRED
from nodeport.controllers.scheduler.nodes import HOSTNAME_LABEL, ZONE_LABEL, ClusterState
from nodeport.controllers.scheduler.podinfo import PREFERRED

HOST, ZONE = HOSTNAME_LABEL, ZONE_LABEL


def node(
    name: str,
    *,
    ready: str = "True",
    labels: dict[str, str] | None = None,
    offers: dict[str, str] | None = None,
    **spec: Any,
) -> JsonObject:
    metadata = {"name": name, "labels": {HOST: name, **(labels or {})}}
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": "10", **(offers or {})}
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": allocatable}
    return {"metadata": metadata, "spec": spec, "status": status}


def pod(
    name: str = "p", *, owner: str = "", ns: str = "ns", labels: dict[str, str] | None = None, **spec: Any
) -> JsonObject:
    owners = [{"uid": owner, "controller": True}] if owner else []
    metadata = {"name": name, "namespace": ns, "uid": name, "ownerReferences": owners, "labels": labels or {}}
    return {"metadata": metadata, "spec": {"containers": [{}], **spec}, "status": {"phase": "Pending"}}


def container(**requests: str) -> JsonObject:
    return {"resources": {"requests": requests}}


def asking(name: str = "p", **requests: str) -> JsonObject:
    return pod(name, containers=[container(**requests)])


def host_port(port: int, ip: str = "", name: str = "p", protocol: str = "TCP") -> JsonObject:
    stated = {"hostPort": port, "hostIP": ip, "containerPort": 1, "protocol": protocol}
    return pod(name, containers=[{"ports": [stated]}])


def term(topology: str, match: dict[str, str] | None, **more: Any) -> JsonObject:
    return {
        "topologyKey": topology,
        **({} if match is None else {"labelSelector": {"matchLabels": match}}),
        **more,
    }


def near(*terms: JsonObject) -> JsonObject:
    return {"podAffinity": {REQUIRED: list(terms)}}


def far(*terms: JsonObject) -> JsonObject:
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def rather(kind: str, weight: int, stated: JsonObject) -> JsonObject:
    return {kind: {PREFERRED: [{"weight": weight, "podAffinityTerm": stated}]}}


def on_nodes(*terms: JsonObject) -> JsonObject:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> JsonObject:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def spread(topology: str, *, skew: int = 1, hard: bool = True, **more: Any) -> JsonObject:
    return {
        "topologyKey": topology,
        "maxSkew": skew,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "a"}},
        **more,
    }


def cluster(*nodes: JsonObject, placed: dict[str, list[JsonObject]] | None = None) -> ClusterState:
    state = ClusterState()
    for found in nodes:
        state.set_node(found)
    for name, pods in (placed or {}).items():
        for found in pods:
            state.place(NamespacedName.of(found), found, name)
    return state

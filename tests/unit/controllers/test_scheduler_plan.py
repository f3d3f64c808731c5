"""Where pods go: one row a rule of the filters, and how the choice is made."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.controllers.scheduler.nodes import ClusterState
from nodeport.controllers.scheduler.reconcile import choose


def node(name: str, *, ready: str = "True", labels: dict[str, str] | None = None, **spec: Any) -> JsonObject:
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
    allocatable = {"cpu": "2", "memory": "1Gi", "pods": "10"}
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": allocatable}
    return {"metadata": metadata, "spec": spec, "status": status}


def pod(name: str = "p", *, owner: str = "", labels: dict[str, str] | None = None, **spec: Any) -> JsonObject:
    owners = [{"uid": owner, "controller": True}] if owner else []
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "ownerReferences": owners,
        "labels": labels or {},
    }
    return {"metadata": metadata, "spec": {"containers": [{}], **spec}, "status": {"phase": "Pending"}}


def asking(**requests: str) -> JsonObject:
    return pod(containers=[{"resources": {"requests": requests}}])


def host_port(port: int, ip: str = "", name: str = "p") -> JsonObject:
    return pod(name, containers=[{"ports": [{"hostPort": port, "hostIP": ip, "containerPort": 1}]}])


def near(topology: str, *, kind: str = "podAntiAffinity", **match: str) -> JsonObject:
    term = {"topologyKey": topology, "labelSelector": {"matchLabels": match}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def on_nodes(*terms: JsonObject) -> JsonObject:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def cluster(*nodes: JsonObject, placed: dict[str, list[JsonObject]] | None = None) -> ClusterState:
    state = ClusterState()
    for found in nodes:
        state.set_node(found)
    for name, pods in (placed or {}).items():
        for found in pods:
            state.place(NamespacedName.of(found), found, name)
    return state


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
HOST = "kubernetes.io/hostname"


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [
        (pod(), node("a"), ""),
        (pod(), node("a", ready="False"), "1 node(s) were not ready"),
        (pod(), node("a", unschedulable=True), "1 node(s) were unschedulable"),
        (pod(), node("a", taints=[TAINT]), "1 node(s) had untolerated taint(s) {gpu: yes}"),
        (pod(tolerations=[{"key": "gpu", "operator": "Equal", "value": "yes"}]), node("a", taints=[TAINT]), ""),
        (pod(tolerations=[{"key": "gpu", "value": "no"}]), node("a", taints=[TAINT]), "1 node(s) had untolerated taint(s) {gpu: yes}"),
        (pod(tolerations=[{"operator": "Exists"}]), node("a", taints=[TAINT], unschedulable=True), ""),
        (pod(), node("a", taints=[{"key": "x", "effect": "PreferNoSchedule"}]), ""),
        (pod(nodeSelector={"disk": "ssd"}), node("a"), "1 node(s) didn't match Pod's node affinity/selector"),
        (pod(nodeSelector={"disk": "ssd"}), node("a", labels={"disk": "ssd"}), ""),
        (pod(affinity=on_nodes({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]})), node("a"), ""),
        (pod(affinity=on_nodes({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["a"]}]})), node("a"), "1 node(s) didn't match Pod's node affinity/selector"),
        (pod(affinity=on_nodes({"matchExpressions": [{"key": "gen", "operator": "Gt", "values": ["3"]}]})), node("a", labels={"gen": "10"}), ""),
        (pod(affinity=on_nodes({"matchExpressions": [{"key": "gen", "operator": "DoesNotExist"}]}, {"matchExpressions": [{"key": HOST, "operator": "Exists"}]})), node("a", labels={"gen": "1"}), ""),
        (pod(affinity=on_nodes({})), node("a"), "1 node(s) didn't match Pod's node affinity/selector"),
        (asking(cpu="2"), node("a"), ""),
        (asking(cpu="2001m"), node("a"), "1 Insufficient cpu"),
        (asking(memory="2Gi"), node("a"), "1 Insufficient memory"),
    ],
)  # fmt: skip
def test_whether_one_empty_node_fits(wanted: JsonObject, found: JsonObject, why: str) -> None:
    choice = choose(wanted, cluster(found))
    assert choice.node == ("" if why else "a")
    assert choice.message == (f"0/1 nodes are available: {why}." if why else "")


@pytest.mark.parametrize(
    ("wanted", "there", "fits"),
    [
        (host_port(80), host_port(80, name="q"), False),
        (host_port(80, "10.0.0.1"), host_port(80, "10.0.0.2", name="q"), True),
        (host_port(80, "10.0.0.1"), host_port(80, name="q"), False),
        (host_port(80), host_port(81, name="q"), True),
        (pod(affinity=near(HOST, app="q")), pod("q", labels={"app": "q"}), False),
        (pod(affinity=near(HOST, app="q")), pod("q", labels={"app": "r"}), True),
        (pod(labels={"app": "p"}), pod("q", affinity=near(HOST, app="p")), False),
        (pod(affinity=near(HOST, kind="podAffinity", app="q")), pod("q", labels={"app": "q"}), True),
        (pod(affinity=near(HOST, kind="podAffinity", app="q")), pod("q"), False),
        (pod(affinity=near(HOST, kind="podAffinity", app="p"), labels={"app": "p"}), pod("q"), True),
    ],
)
def test_whether_it_fits_beside_another_pod(wanted: JsonObject, there: JsonObject, fits: bool) -> None:
    assert bool(choose(wanted, cluster(node("a"), placed={"a": [there]})).node) is fits


def test_replicas_spread_over_nodes_and_the_emptier_node_is_taken() -> None:
    state = cluster(node("a"), node("b"), node("c"))
    for number in range(9):
        found = pod(f"p{number}", owner=f"rs{number % 2}")
        choice = choose(found, state)
        state.place(NamespacedName.of(found), found, choice.node)
    assert Counter(len(one.pods) for one in state.nodes.values()) == {3: 3}
    assert max(max(one.owners.values()) for one in state.nodes.values()) == 2


def test_reasons_are_counted_by_node() -> None:
    state = cluster(node("a", unschedulable=True), node("b", ready="Unknown"), node("c", unschedulable=True))
    assert choose(pod(), state).message == (
        "0/3 nodes are available: 1 node(s) were not ready, 2 node(s) were unschedulable."
    )
    assert choose(pod(), cluster()).message == "no nodes available to schedule pods"


def test_room_is_given_back_and_pods_known_before_their_node_count() -> None:
    state = ClusterState()
    big = asking(cpu="2")
    state.place(NamespacedName.of(big), big, "a")
    state.set_node(node("a"))
    assert not choose(asking(cpu="1"), state).node
    state.remove(NamespacedName.of(big))
    assert choose(asking(cpu="1"), state).node == "a"


def test_a_node_holds_as_many_pods_as_it_says() -> None:
    state = cluster(node("a"), placed={"a": [pod(f"q{n}") for n in range(10)]})
    assert choose(pod(), state).message == "0/1 nodes are available: 1 Too many pods."

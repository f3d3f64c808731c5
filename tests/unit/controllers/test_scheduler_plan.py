"""Where pods may go: one row a rule of the filters, and how the choice is told.

Rules: concepts/scheduling-eviction of the Kubernetes documentation, by the page named in each table.
"""

from __future__ import annotations

from collections import Counter

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.podneeds import requests_of
from nodeport.controllers.scheduler.nodes import ClusterState
from nodeport.controllers.scheduler.reconcile import choose
from unit.controllers.scheduling import (
    HOST,
    ZONE,
    asking,
    cluster,
    container,
    expression,
    far,
    host_port,
    near,
    node,
    on_nodes,
    pod,
    spread,
    term,
)

TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
NOT_TOLERATED = "1 node(s) had untolerated taint(s)"
NOT_SELECTED = "1 node(s) didn't match Pod's node affinity/selector"


def named(operator: str, *names: str) -> JsonObject:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": list(names)}]}


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [
        (pod(), node("a"), ""),
        # taint-and-toleration; a node that is not ready is about to be tainted
        (pod(), node("a", ready="False"), NOT_TOLERATED),
        (pod(tolerations=[{"operator": "Exists"}]), node("a", ready="False"), ""),
        (pod(), node("a", unschedulable=True), "1 node(s) were unschedulable"),
        (pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]), node("a", unschedulable=True), ""),
        (pod(), node("a", taints=[TAINT]), NOT_TOLERATED),
        (pod(tolerations=[{"key": "gpu", "operator": "Equal", "value": "yes"}]), node("a", taints=[TAINT]), ""),
        (pod(tolerations=[{"key": "gpu", "value": "no"}]), node("a", taints=[TAINT]), NOT_TOLERATED),
        (pod(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]), node("a", taints=[TAINT]), NOT_TOLERATED),
        (pod(), node("a", taints=[{**TAINT, "effect": "NoExecute"}]), NOT_TOLERATED),
        (pod(tolerations=[{"operator": "Exists"}]), node("a", taints=[TAINT], unschedulable=True), ""),
        (pod(), node("a", taints=[{"key": "x", "effect": "PreferNoSchedule"}]), ""),
        # assign-pod-node: nodeSelector, node affinity; terms are ORed, what is in a term is ANDed
        (pod(nodeSelector={"disk": "ssd"}), node("a"), NOT_SELECTED),
        (pod(nodeSelector={"disk": "ssd"}), node("a", labels={"disk": "ssd"}), ""),
        (pod(nodeSelector={"disk": "ssd"}, affinity=on_nodes(expression("gen", "Exists"))), node("a", labels={"disk": "ssd"}), NOT_SELECTED),
        (pod(affinity=on_nodes(named("In", "a"))), node("a"), ""),
        (pod(affinity=on_nodes(named("NotIn", "a"))), node("a"), NOT_SELECTED),
        (pod(affinity=on_nodes({**named("In", "a"), **expression("gen", "In", "1")})), node("a"), NOT_SELECTED),
        (pod(affinity=on_nodes(expression("gen", "Gt", "3"))), node("a", labels={"gen": "10"}), ""),
        (pod(affinity=on_nodes(expression("gen", "Lt", "3"))), node("a", labels={"gen": "10"}), NOT_SELECTED),
        (pod(affinity=on_nodes(expression("gen", "NotIn", "3"))), node("a"), ""),
        (pod(affinity=on_nodes(expression("gen", "DoesNotExist"), expression(HOST, "Exists"))), node("a", labels={"gen": "1"}), ""),
        (pod(affinity=on_nodes({})), node("a"), NOT_SELECTED),
        # manage-resources-containers
        (asking(cpu="2"), node("a"), ""),
        (asking(cpu="2001m"), node("a"), "1 Insufficient cpu"),
        (asking(cpu="3", memory="2Gi"), node("a"), "1 Insufficient cpu, 1 Insufficient memory"),
        (asking(**{"example.com/dongle": "1"}), node("a"), "1 Insufficient example.com/dongle"),
        (asking(**{"example.com/dongle": "1"}), node("a", offers={"example.com/dongle": "1"}), ""),
        (asking(**{"example.com/dongle": "0"}), node("a"), ""),
        (pod(containers=[container(cpu="1500m")], overhead={"cpu": "501m"}), node("a"), "1 Insufficient cpu"),
        # topology-spread-constraints
        (pod(topologySpreadConstraints=[spread(ZONE)]), node("a"), "1 node(s) didn't match pod topology spread constraints (missing required label)"),
        # the first rule broken tells its reasons
        (asking(cpu="3"), node("a", taints=[TAINT]), NOT_TOLERATED),
    ],
)  # fmt: skip
def test_whether_one_empty_node_fits(wanted: JsonObject, found: JsonObject, why: str) -> None:
    choice = choose(wanted, cluster(found))
    assert choice.node == ("" if why else "a")
    assert choice.message == (f"0/1 nodes are available: {why}." if why else "")


def sidecar(**requests: str) -> JsonObject:
    return {**container(**requests), "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("first", "then", "millicores"),
    [
        ([], [container(cpu="1"), container(cpu="1")], 2000),
        ([container(cpu="3")], [container(cpu="1")], 3000),
        ([container(cpu="500m")], [container(cpu="1")], 1000),
        ([sidecar(cpu="1")], [container(cpu="1")], 2000),
        ([sidecar(cpu="1"), container(cpu="3")], [container(cpu="1")], 4000),
        ([container(cpu="3"), sidecar(cpu="1")], [container(cpu="1")], 3000),
        ([sidecar(cpu="1"), container(cpu="2"), sidecar(cpu="3")], [], 4000),
    ],
)
def test_a_pod_needs_what_it_takes_at_its_busiest(
    first: list[JsonObject], then: list[JsonObject], millicores: int
) -> None:
    """init-containers and sidecar-containers: resource sharing within containers."""
    assert requests_of(pod(initContainers=first, containers=then))["cpu"] == millicores


def test_what_a_pod_states_as_a_whole_replaces_what_its_containers_add_up_to() -> None:
    """Pod-level resources: the pod's requests are what is reserved; overhead comes on top."""
    found = pod(
        containers=[container(cpu="1", memory="1Gi")],
        resources={"requests": {"cpu": "2"}},
        overhead={"cpu": "100m"},
    )
    assert requests_of(found) == {"cpu": 2100, "memory": 2**30 * 1000}


A = {"app": "a"}
NOT_MATCHED = "node(s) didn't match pod affinity rules"
SHUNNED = "node(s) didn't match pod anti-affinity rules"
GUARDED = "node(s) didn't satisfy existing pods anti-affinity rules"
PORTS = "node(s) didn't have free ports for the requested pod ports"


@pytest.mark.parametrize(
    ("wanted", "there", "why"),
    [
        # hostPort: address, protocol and number together
        (host_port(80), host_port(80, name="q"), PORTS),
        (host_port(80, "10.0.0.1"), host_port(80, "10.0.0.2", name="q"), ""),
        (host_port(80, "10.0.0.1"), host_port(80, name="q"), PORTS),
        (host_port(80), host_port(80, "10.0.0.1", name="q"), PORTS),
        (host_port(80), host_port(80, name="q", protocol="UDP"), ""),
        (host_port(80), host_port(81, name="q"), ""),
        # inter-pod anti-affinity, both ways
        (pod(affinity=far(term(HOST, A))), pod("q", labels=A), SHUNNED),
        (pod(affinity=far(term(HOST, A))), pod("q", labels={"app": "r"}), ""),
        (pod(affinity=far(term(ZONE, A))), pod("q", labels=A), ""),
        (pod(labels=A), pod("q", affinity=far(term(HOST, A))), GUARDED),
        (pod(labels=A), pod("q", affinity=far(term(ZONE, A))), ""),
        (pod(labels={"app": "r"}), pod("q", affinity=far(term(HOST, A))), ""),
        # inter-pod affinity: all terms about one pod; the first of its kind may go anywhere
        (pod(affinity=near(term(HOST, A))), pod("q", labels=A), ""),
        (pod(affinity=near(term(HOST, A))), pod("q"), NOT_MATCHED),
        (pod(affinity=near(term(ZONE, A)), labels=A), pod("q"), NOT_MATCHED),
        (pod(affinity=near(term(HOST, A)), labels=A), pod("q"), ""),
        (pod(affinity=near(term(HOST, A), term(HOST, {"tier": "b"}))), pod("q", labels=A), NOT_MATCHED),
        (pod(affinity=near(term(HOST, A), term(HOST, {"tier": "b"}))), pod("q", labels={**A, "tier": "b"}), ""),
        # namespaces: the pod's own without any; an empty selector means all of them
        (pod(affinity=far(term(HOST, A))), pod("q", ns="other", labels=A), ""),
        (pod(affinity=far(term(HOST, A, namespaces=["other"]))), pod("q", ns="other", labels=A), SHUNNED),
        (pod(affinity=far(term(HOST, A, namespaces=["other"]))), pod("q", labels=A), ""),
        (pod(affinity=far(term(HOST, A, namespaceSelector={}))), pod("q", ns="other", labels=A), SHUNNED),
        (pod(affinity=far(term(HOST, A, namespaceSelector={"matchLabels": {"team": "x"}}))), pod("q", ns="other", labels=A), SHUNNED),
        (pod(affinity=far(term(HOST, A, namespaceSelector={"matchLabels": {"team": "y"}}))), pod("q", ns="other", labels=A), ""),
        (pod(affinity=far(term(HOST, A, namespaceSelector={"matchLabels": {"team": "x"}}))), pod("q", labels=A), ""),
        (pod(labels=A), pod("q", ns="other", affinity=far(term(HOST, A, namespaceSelector={}))), GUARDED),
        # without a selector a term is about no pod, with an empty one about every
        (pod(affinity=far(term(HOST, None))), pod("q", labels=A), ""),
        (pod(affinity=far(term(HOST, {}))), pod("q", labels=A), SHUNNED),
        # matchLabelKeys and mismatchLabelKeys: the pod's own values
        (pod(labels={"v": "1"}, affinity=far(term(HOST, A, matchLabelKeys=["v"]))), pod("q", labels={**A, "v": "2"}), ""),
        (pod(labels={"v": "1"}, affinity=far(term(HOST, A, matchLabelKeys=["v"]))), pod("q", labels={**A, "v": "1"}), SHUNNED),
        (pod(labels={"v": "1"}, affinity=far(term(HOST, A, mismatchLabelKeys=["v"]))), pod("q", labels={**A, "v": "1"}), ""),
        (pod(labels={"v": "1"}, affinity=far(term(HOST, A, mismatchLabelKeys=["v"]))), pod("q", labels={**A, "v": "2"}), SHUNNED),
        (pod(affinity=far(term(HOST, A, matchLabelKeys=["v"]))), pod("q", labels={**A, "v": "2"}), SHUNNED),
    ],
)  # fmt: skip
def test_whether_it_fits_beside_another_pod(wanted: JsonObject, there: JsonObject, why: str) -> None:
    state = cluster(node("a"), placed={"a": [there]})
    state.namespaces["other"] = {"team": "x"}
    choice = choose(wanted, state)
    assert choice.message == (f"0/1 nodes are available: 1 {why}." if why else "")
    assert choice.node == ("" if why else "a")


def test_a_domain_reaches_over_all_nodes_with_its_label() -> None:
    """assign-pod-node: topologyKey."""
    nodes = [node("a", labels={ZONE: "x"}), node("b", labels={ZONE: "x"}), node("c", labels={ZONE: "y"})]
    state = cluster(*nodes, placed={"a": [pod("q", labels=A)]})
    assert choose(pod(affinity=far(term(ZONE, A))), state).node == "c"
    beside = {**near(term(ZONE, A)), **far(term(HOST, A))}
    assert choose(pod(affinity=beside), state).node == "b"


def alike(count: int, on: str, **more: object) -> list[JsonObject]:
    return [pod(f"{on}{number}", labels={**A, **more}) for number in range(count)]  # type: ignore[dict-item]


def spreading(*constraints: JsonObject, labels: dict[str, str] | None = None, **spec: object) -> JsonObject:
    return pod(labels={**A, **(labels or {})}, topologySpreadConstraints=list(constraints), **spec)


@pytest.mark.parametrize(
    ("wanted", "counts", "fits"),
    [
        (spreading(spread(ZONE)), (2, 1), "b"),
        (spreading(spread(ZONE)), (1, 1), "ab"),
        (spreading(spread(ZONE, skew=2)), (2, 1), "ab"),
        (spreading(spread(ZONE, skew=2)), (3, 1), "b"),
        (spreading(spread(ZONE, hard=False)), (5, 1), "ab"),
        # a constraint that does not select the pod itself counts it nowhere
        (spreading(spread(ZONE, labelSelector={"matchLabels": {"app": "b"}})), (3, 1), "ab"),
        # minDomains: with fewer domains the fewest is nought
        (spreading(spread(ZONE, minDomains=2)), (1, 1), "ab"),
        (spreading(spread(ZONE, minDomains=3)), (1, 1), ""),
        (spreading(spread(ZONE, minDomains=3)), (1, 0), "b"),
        # nodeAffinityPolicy: nodes that the pod could not go to are left out, unless told otherwise
        (spreading(spread(ZONE), nodeSelector={HOST: "a"}), (3, 1), "a"),
        (spreading(spread(ZONE, nodeAffinityPolicy="Ignore"), nodeSelector={HOST: "a"}), (3, 1), ""),
        # matchLabelKeys: only the pod's own revision is counted
        (spreading(spread(ZONE, matchLabelKeys=["rev"]), labels={"rev": "1"}), (2, 1), "ab"),
        # all constraints together
        (spreading(spread(ZONE), spread(HOST, skew=3)), (2, 1), "b"),
    ],
)  # fmt: skip
def test_hard_spread_bounds_how_uneven_domains_may_get(
    wanted: JsonObject, counts: tuple[int, int], fits: str
) -> None:
    """topology-spread-constraints: pods of zone + the pod itself - fewest of any zone <= maxSkew."""
    for name, other in ("ab", "ba"):
        nodes = [node("a", labels={ZONE: "x"}), node("b", labels={ZONE: "y"})]
        state = cluster(*nodes, placed={"a": alike(counts[0], "a"), "b": alike(counts[1], "b")})
        state.nodes[other].is_cordoned = True
        assert choose(wanted, state).node == (name if name in fits else "")


def test_taints_leave_a_domain_out_only_when_they_are_honoured() -> None:
    """topology-spread-constraints: nodeTaintsPolicy is Ignore unless stated."""
    nodes = [node("a", labels={ZONE: "x"}), node("b", labels={ZONE: "y"}, taints=[TAINT])]
    state = cluster(*nodes, placed={"a": alike(1, "a")})
    assert choose(spreading(spread(ZONE)), state).message == (
        "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, "
        "1 node(s) had untolerated taint(s)."
    )
    assert choose(spreading(spread(ZONE, nodeTaintsPolicy="Honor")), state).node == "a"


def test_pods_of_other_namespaces_and_leaving_pods_are_not_counted_when_spreading() -> None:
    """topology-spread-constraints: only pods of the pod's own namespace; a terminating pod is as good as gone."""
    leaving = pod("l", labels=A)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    state = cluster(node("a"), node("b"), placed={"a": [leaving, pod("o", ns="other", labels=A)]})
    state.nodes["b"].is_cordoned = True
    assert choose(spreading(spread(HOST)), state).node == "a"


def test_reasons_are_counted_by_node() -> None:
    state = cluster(
        node("a", unschedulable=True), node("b", ready="Unknown"), node("c", unschedulable=True),
        node("d", offers={"cpu": "1", "memory": "1Ki"}),
    )  # fmt: skip
    assert choose(asking(cpu="2", memory="1Mi"), state).message == (
        "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
        "1 node(s) had untolerated taint(s), 2 node(s) were unschedulable."
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


def test_a_node_that_comes_back_has_its_pods_still() -> None:
    state = cluster(node("a"), placed={"a": [pod("q", affinity=far(term(HOST, A)))]})
    state.drop_node("a")
    assert choose(pod(labels=A), state).message == "no nodes available to schedule pods"
    state.set_node(node("a"))
    assert GUARDED in choose(pod(labels=A), state).message


def test_pods_that_have_gone_forbid_nothing() -> None:
    state = cluster(node("a"), placed={"a": [pod("q", labels=A, affinity=far(term(HOST, A)))]})
    assert choose(pod(labels=A), state).node == ""
    state.remove(NamespacedName("ns", "q"))
    assert choose(pod(labels=A), state).node == "a"
    assert not list(state.groups())


def test_a_node_holds_as_many_pods_as_it_says() -> None:
    state = cluster(node("a"), placed={"a": [pod(f"q{n}") for n in range(10)]})
    assert choose(pod(), state).message == "0/1 nodes are available: 1 Too many pods."


def test_replicas_spread_over_nodes_and_the_emptier_node_is_taken() -> None:
    state = cluster(node("a"), node("b"), node("c"))
    for number in range(9):
        found = pod(f"p{number}", owner=f"rs{number % 2}")
        choice = choose(found, state)
        state.place(NamespacedName.of(found), found, choice.node)
    assert Counter(len(one.pods) for one in state.nodes.values()) == {3: 3}
    for one in state.nodes.values():
        assert max(Counter(found.kin for found in one.pods.values()).values()) == 2

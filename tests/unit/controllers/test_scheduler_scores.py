"""Which of two nodes that both fit is taken: one row a preference, by the page of the documentation it is from."""

from __future__ import annotations

from collections import Counter

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.selectors import label_selector_of
from nodeport.controllers.scheduler import scores
from nodeport.controllers.scheduler.nodes import NodeState
from nodeport.controllers.scheduler.podinfo import PREFERRED, PodInfo
from nodeport.controllers.scheduler.reconcile import choose
from unit.controllers.scheduling import (
    HOST,
    ZONE,
    asking,
    cluster,
    container,
    expression,
    near,
    node,
    pod,
    rather,
    spread,
    term,
)

A = {"app": "a"}
SOFT = {"key": "x", "value": "y", "effect": "PreferNoSchedule"}


def prefer_node(*weighted: tuple[int, JsonObject]) -> JsonObject:
    return {
        "nodeAffinity": {PREFERRED: [{"weight": weight, "preference": term} for weight, term in weighted]}
    }


@pytest.mark.parametrize(
    ("wanted", "better", "worse"),
    [
        # assign-pod-node: the weights of the preferences that hold are added
        (pod(affinity=prefer_node((1, expression("disk", "In", "ssd")))), {"labels": {"disk": "ssd"}}, {}),
        (pod(affinity=prefer_node((9, expression("gen", "Gt", "3")), (1, expression("disk", "Exists")))), {"labels": {"gen": "4"}}, {"labels": {"disk": "ssd"}}),
        (pod(affinity=prefer_node((2, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["better"]}]}))), {}, {}),
        # taint-and-toleration: PreferNoSchedule is avoided, not forbidden
        (pod(), {}, {"taints": [SOFT]}),
        (pod(), {"taints": [SOFT]}, {"taints": [SOFT, {**SOFT, "key": "z"}]}),
        (pod(tolerations=[{"key": "x", "operator": "Exists"}]), {"taints": [SOFT]}, {"taints": [{**SOFT, "key": "z"}]}),
        # resource-bin-packing: the default is least allocated
        (asking(cpu="1"), {"offers": {"cpu": "4"}}, {"offers": {"cpu": "2"}}),
        (pod(), {"offers": {"memory": "4Gi"}}, {}),
    ],
)  # fmt: skip
def test_the_better_of_two_empty_nodes(wanted: JsonObject, better: JsonObject, worse: JsonObject) -> None:
    for first, second in (("better", "worse"), ("worse", "better")):
        made = {"better": node("better", **better), "worse": node("worse", **worse)}
        assert choose(wanted, cluster(made[first], made[second])).node == "better"


@pytest.mark.parametrize(
    ("wanted", "there", "attracts"),
    [
        # assign-pod-node: preferred affinity and anti-affinity, and what placed pods prefer of a new one
        (pod(affinity=rather("podAffinity", 10, term(HOST, A))), pod("q", labels=A), True),
        (pod(affinity=rather("podAntiAffinity", 10, term(HOST, A))), pod("q", labels=A), False),
        (pod(labels=A), pod("q", affinity=rather("podAffinity", 10, term(HOST, A))), True),
        (pod(labels=A), pod("q", affinity=rather("podAntiAffinity", 10, term(HOST, A))), False),
        (pod(labels=A), pod("q", affinity=near(term(HOST, A))), True),
        (pod(affinity=rather("podAffinity", 10, term(HOST, A))), pod("q", ns="other", labels=A), False),
        (pod(affinity=rather("podAffinity", 10, term(HOST, A, namespaces=["other"]))), pod("q", ns="other", labels=A), True),
        # topology-spread-constraints: ScheduleAnyway
        (pod(labels=A, topologySpreadConstraints=[spread(HOST, hard=False)]), pod("q", labels=A), False),
        (pod(labels=A, topologySpreadConstraints=[spread(ZONE, hard=False)]), pod("q", labels=A), False),
        # least allocated
        (pod(), pod("q"), False),
        (pod(), pod("q", containers=[container(cpu="1")]), False),
    ],
)  # fmt: skip
def test_whether_a_pod_attracts_another_to_its_node(
    wanted: JsonObject, there: JsonObject, attracts: bool
) -> None:
    nodes = [node(name, labels={ZONE: name}) for name in ("a", "b")]
    for home, elsewhere in ("ab", "ba"):
        state = cluster(*nodes, placed={home: [there]})
        assert choose(wanted, state).node == (home if attracts else elsewhere)


def test_pods_of_one_controller_spread_over_zones_before_they_fill_hosts() -> None:
    """topology-spread-constraints: the built-in defaults, by host and by zone."""
    nodes = [node(name, labels={ZONE: zone}) for name, zone in (("a", "x"), ("b", "x"), ("c", "y"))]
    state = cluster(*nodes, placed={"a": [pod("q", owner="rs")]})
    assert choose(pod(owner="rs"), state).node == "c"


def test_bare_pods_of_a_service_spread_too() -> None:
    """topology-spread-constraints: the defaults are for the pods of Services as well."""
    heavy = [pod(f"h{number}", labels={"app": "other"}) for number in range(2)]
    state = cluster(node("a"), node("b"), placed={"a": [pod("q", labels=A)], "b": heavy})
    assert choose(pod(labels=A), state, label_selector_of({"matchLabels": A})).node == "b"
    assert choose(pod(labels=A), state).node == "a"


def test_a_node_without_the_label_of_a_soft_constraint_is_least_liked() -> None:
    state = cluster(node("a", labels={ZONE: "x"}), node("b"), placed={"a": [pod("q", labels=A)]})
    wanted = pod(labels=A, topologySpreadConstraints=[spread(ZONE, hard=False)])
    assert choose(wanted, state).node == "a"


def test_many_replicas_end_up_even_on_equal_nodes() -> None:
    state = cluster(*[node(f"n{number}", offers={"pods": "110"}) for number in range(7)])
    for number in range(70):
        found = pod(f"p{number}", owner="rs", labels=A)
        state.place(NamespacedName.of(found), found, choose(found, state).node)
    assert Counter(len(one.pods) for one in state.nodes.values()) == {10: 7}


@pytest.mark.parametrize(
    ("requests", "points"),
    [({"cpu": "1", "memory": "512Mi"}, 100), ({"cpu": "2"}, 50), ({"cpu": "1"}, 75), ({}, 0)],
)
def test_balance_is_how_alike_the_used_shares_are(requests: dict[str, str], points: int) -> None:
    """NodeResourcesBalancedAllocation: 100 less the deviation of the shares; nothing for best effort."""
    assert scores.balance(PodInfo.of(asking(**requests)), NodeState(node("a"))) == points


def test_a_container_that_requests_nothing_counts_for_a_little_when_nodes_are_compared() -> None:
    """Least allocated assumes 100m and 200Mi."""
    state = NodeState(node("a", offers={"cpu": "1", "memory": "2000Mi"}))
    assert scores.room(PodInfo.of(pod()), state) == 90
    assert scores.room(PodInfo.of(pod(containers=[container(cpu="500m")])), state) == 70

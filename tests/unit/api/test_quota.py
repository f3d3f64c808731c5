"""What objects use of quotas."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from nodeport.api.quantity import format_quantity, parse_quantity
from nodeport.api.quota import concerns, difference, exceeded, status_of, unsaid, usage_of, used_of
from nodeport.api.resources import CONFIG_MAPS, INGRESSES, PODS, SERVICES, Resource

Json = dict[str, Any]
PORTS = [{"port": 80, "nodePort": 30080}, {"port": 443}]


def container(name: str = "c", **resources: Json) -> Json:
    return {"name": name, "resources": resources}


def used(resource: Resource, content: Json) -> dict[str, float]:
    return {name: float(amount) for name, amount in usage_of(resource, content).items() if amount}


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ({"ports": PORTS}, {}),
        ({"type": "NodePort", "ports": PORTS}, {"services.nodeports": 2}),
        ({"type": "LoadBalancer", "ports": PORTS}, {"services.nodeports": 2, "services.loadbalancers": 1}),
        ({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": PORTS},
         {"services.nodeports": 1, "services.loadbalancers": 1}),
        ({"type": "ExternalName"}, {}),
    ],
)  # fmt: skip
def test_services_use_node_ports_and_load_balancers(spec: Json, more: Json) -> None:
    assert used(SERVICES, {"spec": spec}) == {"services": 1, "count/services": 1, **more}


def test_kinds_are_counted_by_their_names() -> None:
    assert used(CONFIG_MAPS, {}) == {"configmaps": 1, "count/configmaps": 1}
    assert used(INGRESSES, {}) == {"count/ingresses.networking.k8s.io": 1}


def test_pods_use_what_their_containers_ask_for_while_they_are_not_over() -> None:
    pod: Json = {"spec": {
        "containers": [container(requests={"cpu": "100m", "memory": "1Mi"}, limits={"cpu": "1"}), container(requests={"cpu": "200m"})],
        "initContainers": [container(requests={"cpu": "500m"}), {**container(requests={"cpu": "50m"}), "restartPolicy": "Always"}],
    }}  # fmt: skip
    found = used(PODS, pod)
    assert (found["pods"], found["count/pods"]) == (1, 1)
    assert found["cpu"] == found["requests.cpu"] == 0.55, "an init container beside the sidecar"
    assert (found["limits.cpu"], found["memory"], found["requests.memory"]) == (1, 2**20, 2**20)
    assert used(PODS, {**pod, "status": {"phase": "Succeeded"}}) == {"count/pods": 1}


def test_scopes_are_about_pods_only() -> None:
    best: Json = {"spec": {"containers": [container()]}}
    asking: Json = {
        "spec": {
            "activeDeadlineSeconds": 5,
            "priorityClassName": "high",
            "containers": [container(requests={"cpu": "1"})],
        }
    }
    for scope, of_best, of_asking in (
        ("BestEffort", True, False), ("NotBestEffort", False, True), ("Terminating", False, True),
        ("NotTerminating", True, False),
    ):  # fmt: skip
        spec = {"scopes": [scope]}
        assert (concerns(spec, PODS, best), concerns(spec, PODS, asking)) == (of_best, of_asking), scope
        assert not concerns(spec, SERVICES, {})
    chosen = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    spec = {"scopeSelector": {"matchExpressions": [chosen]}}
    assert (concerns(spec, PODS, best), concerns(spec, PODS, asking)) == (False, True)


def test_limited_resources_must_be_said() -> None:
    pod = {"spec": {"containers": [container("a", limits={"cpu": "1"}), container("b")]}}
    assert unsaid(["limits.cpu", "pods"], pod) == "limits.cpu for: b"
    assert unsaid(["memory", "limits.cpu"], pod) == "limits.cpu for: b; memory for: a,b"
    assert unsaid(["pods"], pod) == ""


def test_too_much_is_told_in_numbers() -> None:
    hard = {"services.nodeports": Fraction(2), "services": Fraction(5)}
    wanted = usage_of(SERVICES, {"spec": {"type": "NodePort", "ports": PORTS}})
    assert exceeded("q", hard, {"services.nodeports": Fraction(1)}, wanted) == (
        "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=1, limited: services.nodeports=2"
    )
    assert exceeded("q", hard, {}, wanted) == ""
    less = difference(usage_of(SERVICES, {"spec": {}}), wanted)
    assert exceeded("q", hard, {"services.nodeports": Fraction(9)}, less) == "", "what uses less is welcome"


def test_the_status_counts_what_is_limited_and_there() -> None:
    spec = {"hard": {"pods": "3", "memory": "1Gi", "secrets": "1"}}
    pod: Json = {"spec": {"containers": [container(requests={"memory": "512Mi"})]}}
    counted = used_of(spec, [(PODS, pod), (PODS, pod), (CONFIG_MAPS, {})])
    assert status_of(spec, counted) == {
        "hard": spec["hard"], "used": {"pods": "2", "memory": "1Gi", "secrets": "0"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "binary", "shown"),
    [("1500m", False, "1500m"), ("2000m", False, "2"), ("1024Mi", True, "1Gi"), ("5000", False, "5k"), ("0", True, "0"),
     ("1000Ki", True, "1000Ki"), ("0.1m", False, "1m")],
)  # fmt: skip
def test_quantities_are_written_short(text: str, binary: bool, shown: str) -> None:
    assert format_quantity(parse_quantity(text), binary=binary) == shown

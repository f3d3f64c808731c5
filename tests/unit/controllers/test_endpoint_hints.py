"""Hints: near endpoints by trafficDistribution, and zones by CPU in topology mode Auto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.endpointslice.reconcile import plan_slices
from nodeport.controllers.endpointslice.topology import (
    NoHints,
    TopologyMemory,
    ZoneHints,
    allocate,
    cpu_shares,
    is_overloaded,
    redistribution,
)

KEY = NamespacedName("ns", "web")
AUTO = {"service.kubernetes.io/topology-mode": "Auto"}
OLD_AUTO = "service.kubernetes.io/topology-aware-hints"
ZONES = {"a1": "a", "b1": "b", "c1": "c", "bare": ""}


def service(annotations: dict[str, str] | None = None, **spec: Any) -> JsonObject:
    wanted = {"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": {"a": "b"}, **spec}
    wanted.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    metadata = {"name": "web", "namespace": "ns", "uid": "svc", "annotations": annotations or {}}
    return {"metadata": metadata, "spec": wanted}


def pod(number: int, node: str, *, ready: bool = True) -> JsonObject:
    ip = f"10.244.{number // 250}.{number % 250 + 1}"
    metadata = {"name": f"web-{number}", "namespace": "ns", "uid": f"pod-{number}", "labels": {"a": "b"}}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [condition]}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


def pods_on(**counts: int) -> list[JsonObject]:
    nodes = [node for node, count in counts.items() for _ in range(count)]
    return [pod(number, node) for number, node in enumerate(nodes)]


class Slices:
    """What the API server holds after each plan."""

    def __init__(self) -> None:
        self.found: dict[str, JsonObject] = {}
        self.serial = 0

    def settle(self, svc: JsonObject, pods: Iterable[JsonObject], **options: Any) -> SlicePlan:
        plan = plan_slices(svc, list(pods), ZONES, list(self.found.values()), **options)
        for written in (*plan.create, *plan.update):
            metadata = dict(written["metadata"])
            if "name" not in metadata:
                self.serial += 1
                metadata["name"] = f"web-{self.serial}"
            self.found[metadata["name"]] = {**written, "metadata": metadata}
        for gone in plan.delete:
            del self.found[gone["metadata"]["name"]]
        assert not plan_slices(svc, list(pods), ZONES, list(self.found.values()), **options)
        return plan

    def endpoints(self) -> list[JsonObject]:
        return [endpoint for found in self.found.values() for endpoint in found["endpoints"]]

    def hinted(self) -> Counter[str]:
        hints = [endpoint.get("hints") or {} for endpoint in self.endpoints()]
        return Counter(zone["name"] for hint in hints for zone in hint.get("forZones", ()))


@pytest.mark.parametrize("distribution", ["PreferClose", "PreferSameZone"])
def test_the_same_zone_is_preferred(distribution: str) -> None:
    slices = Slices()
    slices.settle(service(trafficDistribution=distribution), [pod(1, "a1"), pod(2, "bare")])
    assert [endpoint.get("hints") for endpoint in slices.endpoints()] == [
        {"forZones": [{"name": "a"}]},
        None,
    ], "an endpoint without a zone gets no hint"


def test_the_same_node_is_preferred_before_the_same_zone() -> None:
    slices = Slices()
    slices.settle(service(trafficDistribution="PreferSameNode"), [pod(1, "a1"), pod(2, "bare")])
    assert [endpoint["hints"] for endpoint in slices.endpoints()] == [
        {"forZones": [{"name": "a"}], "forNodes": [{"name": "a1"}]},
        {"forNodes": [{"name": "bare"}]},
    ]


def test_changing_the_distribution_rewrites_each_slice_once() -> None:
    slices, pods = Slices(), pods_on(a1=150, b1=100)
    slices.settle(service(), pods)
    assert slices.hinted() == {}
    plan = slices.settle(service(trafficDistribution="PreferSameZone"), pods)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 3, 0)
    assert slices.hinted() == {"a": 150, "b": 100}
    assert len(slices.settle(service(), pods).update) == 3
    assert slices.hinted() == {}


def test_an_endpoint_that_is_not_ready_is_not_hinted_and_one_that_becomes_ready_is() -> None:
    svc, slices = service(trafficDistribution="PreferSameZone"), Slices()
    slices.settle(svc, [pod(1, "a1", ready=False)])
    assert slices.hinted() == {}
    assert len(slices.settle(svc, [pod(1, "a1")]).update) == 1
    assert slices.hinted() == {"a": 1}


def test_a_pod_that_moved_is_hinted_for_its_new_zone() -> None:
    svc, slices = service(trafficDistribution="PreferSameNode"), Slices()
    slices.settle(svc, [pod(1, "a1")])
    slices.settle(svc, [pod(1, "b1")])
    [endpoint] = slices.endpoints()
    assert endpoint["hints"] == {"forZones": [{"name": "b"}], "forNodes": [{"name": "b1"}]}


# --- topology mode Auto


def node(zone: str, cpu: str = "4", *, ready: str = "True", **labels: str) -> JsonObject:
    all_labels = {**({"topology.kubernetes.io/zone": zone} if zone else {}), **labels}
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"cpu": cpu}}
    return {"metadata": {"name": "n", "labels": all_labels}, "status": status}


def test_shares_are_the_cpu_of_ready_nodes_by_zone() -> None:
    nodes = [node("a", "1500m"), node("a", "500m"), node("b", "6"), node("c", ready="False")]
    assert cpu_shares(nodes) == {"a": 0.25, "b": 0.75}


@pytest.mark.parametrize(
    "odd", [node(""), node("b", "0"), node("b", "nonsense"), node("a"), node("b", ready="Unknown")]
)
def test_one_node_that_says_too_little_or_a_single_zone_is_too_little(odd: JsonObject) -> None:
    assert cpu_shares([node("a"), odd]) is None


def test_nodes_of_the_control_plane_do_not_count() -> None:
    excluded = {"node-role.kubernetes.io/control-plane": ""}
    also = {"node-role.kubernetes.io/master": ""}
    assert cpu_shares([node("a"), node("b"), node("", **excluded), node("", **also)]) == {"a": 0.5, "b": 0.5}


HALVES = {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("shares", "endpoints", "complaint"),
    [
        (
            None,
            9,
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
        ),
        (HALVES, 1, "Insufficient number of endpoints (1 endpoints, 2 zones)"),
        (
            {"a": 0.9, "b": 0.1},
            2,
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
            " (2 endpoints, 2 zones)",
        ),
    ],
)
def test_when_hints_cannot_be_had_there_is_a_reason(
    shares: dict[str, float] | None, endpoints: int, complaint: str
) -> None:
    with pytest.raises(NoHints) as caught:
        allocate(shares, endpoints)
    assert str(caught.value) == complaint


def test_an_allocation_is_a_minimum_a_maximum_and_a_wish() -> None:
    found = allocate({"a": 0.75, "b": 0.25}, 12)
    assert {zone: (f.minimum, f.maximum, f.desired) for zone, f in found.items()} == {
        "a": (8, 9, 9.0),
        "b": (3, 4, 3.0),
    }


def test_the_annotation_asks_for_it_and_the_older_one_counts_alone() -> None:
    for notes, wanted in (
        (AUTO, True),
        ({**AUTO, OLD_AUTO: "Disabled"}, False),
        ({OLD_AUTO: "auto"}, True),
        ({"service.kubernetes.io/topology-mode": "Other"}, False),
    ):
        plan = plan_slices(service(notes), pods_on(a1=1, b1=1), ZONES, [], shares=HALVES)
        assert (plan.zone_hints["IPv4"] is not None) == wanted, notes


def test_balanced_endpoints_stay_in_their_zones() -> None:
    slices = Slices()
    plan = slices.settle(service(AUTO), pods_on(a1=3, b1=3), shares=HALVES)
    assert slices.hinted() == {"a": 3, "b": 3}
    assert plan.zone_hints == {"IPv4": ZoneHints({"a": 3, "b": 3})}


def test_a_zone_with_too_many_gives_to_one_with_too_few() -> None:
    slices = Slices()
    plan = slices.settle(service(AUTO), pods_on(a1=9, b1=1), shares=HALVES)
    assert slices.hinted() == {"a": 5, "b": 5} == dict(plan.zone_hints["IPv4"].zones)  # type: ignore[union-attr]


def test_trafficdistribution_is_ignored_beside_the_annotation() -> None:
    slices = Slices()
    slices.settle(service(AUTO, trafficDistribution="PreferSameZone"), pods_on(a1=9, b1=1), shares=HALVES)
    assert slices.hinted() == {"a": 5, "b": 5}


def test_hints_that_still_fit_are_left_alone_when_a_pod_joins() -> None:
    slices = Slices()
    slices.settle(service(AUTO), pods_on(a1=100, b1=100), shares=HALVES)
    plan = slices.settle(service(AUTO), pods_on(a1=100, b1=101), shares=HALVES)
    assert (len(plan.create), len(plan.update)) == (1, 0)
    assert slices.hinted() == {"a": 100, "b": 101}


def test_failure_takes_all_hints_away_in_one_write_per_slice() -> None:
    slices, pods = Slices(), pods_on(a1=100, b1=100)
    slices.settle(service(AUTO), pods, shares=HALVES)
    plan = slices.settle(service(AUTO), pods, shares=None)
    assert len(plan.update) == 2
    assert slices.hinted() == {}


def test_endpoints_in_a_zone_that_does_not_count_keep_their_own_and_are_not_rewritten() -> None:
    slices = Slices()
    slices.settle(service(AUTO), pods_on(a1=4, b1=4, c1=1), shares=HALVES)
    assert slices.hinted() == {"a": 4, "b": 4, "c": 1}


def test_an_endpoint_without_a_zone_disables_the_hints_without_rewriting_unhinted_slices() -> None:
    slices = Slices()
    pods = [*pods_on(a1=2, b1=1), pod(9, "bare")]
    slices.settle(service(), pods)
    plan = slices.settle(service(AUTO), pods, shares=HALVES)
    assert not plan
    assert plan.zone_hints == {"IPv4": ZoneHints({}, "One or more endpoints do not have a zone specified")}


def test_a_service_is_told_once_that_it_has_hints_and_each_time_why_it_has_not() -> None:
    memory = TopologyMemory()

    def told(outcome: ZoneHints | None) -> list[tuple[str, ...]]:
        return [tuple(event) for event in memory.note(KEY, {"IPv4": outcome})]

    good, bad = ZoneHints({"a": 1, "b": 1}), ZoneHints({}, "because")
    enabled = (
        "Normal",
        "TopologyAwareHintsEnabled",
        "Topology Aware Hints has been enabled, addressType: IPv4",
    )
    because = ("Warning", "TopologyAwareHintsDisabled", "because, addressType: IPv4")
    gone = (
        "Warning",
        "TopologyAwareHintsDisabled",
        "Topology Aware Hints has been disabled, addressType: IPv4",
    )
    assert [told(outcome) for outcome in (None, good, good, bad, bad, good, None, None)] == [
        [], [enabled], [], [because], [because], [enabled], [gone], [],
    ]  # fmt: skip


def test_nodes_that_leave_overload_services_that_have_hints() -> None:
    memory = TopologyMemory()
    list(memory.note(KEY, {"IPv4": ZoneHints({"a": 5, "b": 5})}))
    assert memory.unsuited(HALVES) == []
    assert memory.unsuited({"a": 0.9, "b": 0.1}) == [KEY]
    assert memory.unsuited(None) == [KEY]
    memory.forget(KEY)
    assert memory.unsuited(None) == []


def test_a_service_that_asked_in_vain_is_looked_at_when_nodes_change() -> None:
    memory = TopologyMemory()
    assert not memory
    list(memory.note(KEY, {"IPv4": ZoneHints({}, "because")}))
    assert memory
    assert memory.unsuited(HALVES) == [KEY]
    assert memory.unsuited(None) == [], "still too little is known of the nodes"
    list(memory.note(KEY, {"IPv4": None}))
    assert memory.unsuited(HALVES) == []


def test_a_service_without_hints_is_never_overloaded() -> None:
    assert not is_overloaded({}, None)


NODES_OF = st.dictionaries(st.integers(0, 80), st.sampled_from(["a1", "b1", "c1"]), min_size=1, max_size=60)
SHARES = st.lists(st.integers(1, 9), min_size=2, max_size=3).map(
    lambda cpu: {zone: amount / sum(cpu) for zone, amount in zip("abc", cpu, strict=False)}
)


@settings(max_examples=60)
@given(history=st.lists(NODES_OF, min_size=1, max_size=5), shares=SHARES, limit=st.integers(2, 20))
def test_endpoints_move_between_zones_as_long_as_half_a_one_is_missing_and_then_stay(
    history: list[dict[int, str]], shares: dict[str, float], limit: int
) -> None:
    slices = Slices()
    for placed in history:
        pods = [pod(number, where) for number, where in placed.items() if ZONES[where] in shares]
        slices.settle(service(AUTO), pods, shares=shares, max_endpoints=limit)
        fresh = Slices()
        plan = fresh.settle(service(AUTO), pods, shares=shares, max_endpoints=limit)
        outcome = plan.zone_hints["IPv4"]
        assert outcome is not None
        if outcome.complaint:
            assert fresh.hinted() == slices.hinted() == {}
            continue
        assert fresh.hinted() == Counter(outcome.zones)
        assert redistribution(allocate(shares, len(pods)), fresh.hinted()) == ({}, {})
        assert sum(slices.hinted().values()) == sum(fresh.hinted().values()) == len(pods)

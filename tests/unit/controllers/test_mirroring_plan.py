"""Mirroring plans: one slice per set of ports and family, the Endpoints' labels, and what is skipped."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.controllers.endpointslicemirroring.reconcile import (
    MANAGER,
    MirrorPlan,
    is_to_be_mirrored,
    plan_mirror,
)

HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}


def endpoints(*subsets: JsonObject, **metadata: Any) -> JsonObject:
    meta = {"name": "web", "namespace": "ns", "uid": "ep", "resourceVersion": "1", **metadata}
    return {"metadata": meta, "subsets": list(subsets)}


def subset(*ips: str, not_ready: tuple[str, ...] = (), ports: tuple[JsonObject, ...] = (HTTP,)) -> JsonObject:
    found: JsonObject = {"addresses": [{"ip": ip} for ip in ips], "ports": list(ports)}
    return {**found, "notReadyAddresses": [{"ip": ip} for ip in not_ready]}


class Slices:
    """Applies plans as an API server would."""

    def __init__(self) -> None:
        self.found: dict[str, JsonObject] = {}
        self.serial = 0

    def settle(self, owner: JsonObject, **options: Any) -> MirrorPlan:
        plan = plan_mirror(owner, list(self.found.values()), **options)
        for new in plan.slices.create:
            self.serial += 1
            name = f"{new['metadata']['generateName']}{self.serial}"
            metadata = {key: value for key, value in new["metadata"].items() if key != "generateName"}
            self.found[name] = {**new, "metadata": {**metadata, "name": name, "uid": name}}
        for changed in plan.slices.update:
            assert changed["metadata"]["name"] in self.found
            self.found[changed["metadata"]["name"]] = changed
        for gone in plan.slices.delete:
            del self.found[gone["metadata"]["name"]]
        assert not plan_mirror(owner, list(self.found.values()), **options).slices
        return plan

    def shown(self) -> dict[tuple[str, tuple[int, ...]], dict[str, bool]]:
        return {
            (found["addressType"], tuple(port["port"] for port in found["ports"])): {
                endpoint["addresses"][0]: endpoint["conditions"]["ready"] for endpoint in found["endpoints"]
            }
            for found in self.found.values()
        }


def counts(plan: MirrorPlan) -> tuple[int, int, int]:
    return len(plan.slices.create), len(plan.slices.update), len(plan.slices.delete)


def service(**spec: Any) -> JsonObject:
    return {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"ports": [{"port": 80}], **spec}}


def test_what_is_mirrored_at_all() -> None:
    plain = endpoints(subset("10.1.1.1"))
    assert is_to_be_mirrored(plain, service())
    assert not is_to_be_mirrored(plain, None)
    assert not is_to_be_mirrored(None, service())
    assert not is_to_be_mirrored(plain, service(selector={"a": "b"}))
    skip = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    assert not is_to_be_mirrored(endpoints(labels=skip), service())
    assert is_to_be_mirrored(endpoints(labels=dict.fromkeys(skip, "no")), service())
    leader = {"control-plane.alpha.kubernetes.io/leader": "{}"}
    assert not is_to_be_mirrored(endpoints(annotations=leader), service())


def test_each_set_of_ports_and_each_family_has_a_slice() -> None:
    slices = Slices()
    plan = slices.settle(
        endpoints(subset("10.1.1.1", "fd00::1", not_ready=("10.1.1.2",)), subset("10.1.1.3", ports=(DNS,)))
    )
    assert counts(plan) == (3, 0, 0)
    assert slices.shown() == {
        ("IPv4", (80,)): {"10.1.1.1": True, "10.1.1.2": False},
        ("IPv6", (80,)): {"fd00::1": True},
        ("IPv4", (53,)): {"10.1.1.3": True},
    }


def test_subsets_of_equal_ports_in_another_order_share_a_slice() -> None:
    slices = Slices()
    slices.settle(endpoints(subset("10.1.1.1", ports=(HTTP, DNS)), subset("10.1.1.2", ports=(DNS, HTTP))))
    assert slices.shown() == {("IPv4", (80, 53)): {"10.1.1.1": True, "10.1.1.2": True}}


def test_a_slice_says_whom_it_mirrors() -> None:
    annotations = {
        "note": "kept",
        "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    owner = endpoints(subset("10.1.1.1"), labels={"team": "x"}, annotations=annotations)
    [new] = plan_mirror(owner, []).slices.create
    assert new["metadata"] == {
        "generateName": "web-",
        "namespace": "ns",
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "name": "web",
                "uid": "ep",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        "labels": {
            "team": "x",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": MANAGER,
        },
        "annotations": {"note": "kept"},
    }
    assert new["ports"] == [HTTP]


def test_an_endpoint_keeps_target_node_and_hostname_and_gets_its_address_in_the_usual_form() -> None:
    target = {"kind": "Pod", "namespace": "ns", "name": "p", "uid": "u"}
    address = {"ip": "FD00:0::1", "targetRef": target, "nodeName": "n", "hostname": "h"}
    [new] = plan_mirror(endpoints({"addresses": [address]}), []).slices.create
    assert new["addressType"] == "IPv6"
    assert new["endpoints"] == [
        {"addresses": ["fd00::1"], "conditions": {"ready": True}, "targetRef": target, "nodeName": "n", "hostname": "h"}
    ]  # fmt: skip
    assert new["ports"] == []


@pytest.mark.parametrize(
    "changed",
    [
        endpoints(subset("10.1.1.1", "10.1.1.2")),
        endpoints(subset(not_ready=("10.1.1.1",))),
        endpoints(subset("10.1.1.1"), labels={"new": "label"}),
        endpoints(subset("10.1.1.1"), annotations={"new": "note"}),
        endpoints(subset("10.1.1.1", ports=(DNS,))),
    ],
)
def test_any_change_is_one_update(changed: JsonObject) -> None:
    slices = Slices()
    slices.settle(endpoints(subset("10.1.1.1")))
    assert counts(slices.settle(changed)) == (0, 1, 0)


def test_the_order_of_addresses_is_no_difference() -> None:
    slices = Slices()
    slices.settle(endpoints(subset("10.1.1.1", "10.1.1.2")))
    assert not slices.settle(endpoints(subset("10.1.1.2", "10.1.1.1"))).slices


def test_endpoints_without_addresses_have_no_slices() -> None:
    slices = Slices()
    slices.settle(endpoints(subset("10.1.1.1", "fd00::1")))
    assert counts(slices.settle(endpoints())) == (0, 0, 2)


def test_a_family_that_goes_takes_its_slice_along_and_gives_it_to_no_other() -> None:
    slices = Slices()
    slices.settle(endpoints(subset("10.1.1.1")))
    assert counts(slices.settle(endpoints(subset("fd00::1")))) == (1, 0, 1)


def test_what_was_changed_by_hand_is_put_right() -> None:
    slices, owner = Slices(), endpoints(subset("10.1.1.1"))
    slices.settle(owner)
    [found] = slices.found.values()
    for hurt in (
        {**found, "endpoints": []},
        {**found, "metadata": {**found["metadata"], "labels": {}}},
        {**found, "metadata": {**found["metadata"], "annotations": {"a": "b"}}},
    ):
        slices.found = {found["metadata"]["name"]: hurt}
        assert counts(slices.settle(owner)) == (0, 1, 0)
        assert slices.found[found["metadata"]["name"]] == found


def test_slices_of_former_endpoints_of_that_name_are_deleted() -> None:
    slices = Slices()
    slices.settle(endpoints(subset("10.1.1.1")))
    assert counts(slices.settle(endpoints(subset("10.1.1.1"), uid="another"))) == (1, 0, 1)


def test_endpoints_on_their_way_out_get_no_new_slice() -> None:
    going = endpoints(subset("10.1.1.1"), deletionTimestamp="2026-01-01T00:00:00Z")
    assert not plan_mirror(going, []).slices


def test_too_many_addresses_are_told_and_ready_ones_come_first() -> None:
    slices = Slices()
    ready = [f"10.1.1.{n}" for n in range(3)]
    plan = slices.settle(endpoints(subset(*ready, not_ready=("10.1.2.1", "10.1.2.2"))), maximum=4)
    assert slices.shown() == {("IPv4", (80,)): {**dict.fromkeys(ready, True), "10.1.2.1": False}}
    assert plan.events == (
        (
            "TooManyAddressesToMirror",
            "A max of 4 addresses can be mirrored to EndpointSlices per Endpoints subset. 1 addresses were skipped",
        ),
    )


def test_what_is_no_address_is_told_and_skipped() -> None:
    slices = Slices()
    plan = slices.settle(endpoints(subset("nonsense", "10.1.1.1", not_ready=("",))))
    assert slices.shown() == {("IPv4", (80,)): {"10.1.1.1": True}}
    assert plan.events == (
        ("InvalidIPAddress", "Skipped 2 invalid IP addresses when mirroring to EndpointSlices"),
    )

"""Which nodes are the endpoints of the cluster's name Service."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.controllers.clusterdns.reconcile import MOST_ENDPOINTS, is_as_wanted, wanted_slices

SERVICE: JsonObject = {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {}}


def node(
    name: str, address: str = "172.30.0.11", ready: str = "True", provider: str = "nodeport://x"
) -> JsonObject:
    return {
        "metadata": {"name": name},
        "spec": {"providerID": provider},
        "status": {
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def endpoints(*nodes: JsonObject) -> list[Any]:
    return list(wanted_slices(SERVICE, nodes)["kube-dns"]["endpoints"])


def test_each_ready_node_answers_its_own_pods() -> None:
    assert endpoints(node("b", "172.30.0.12"), node("a")) == [
        {
            "addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": name, "hints": {"forNodes": [{"name": name}]},
        }
        for name, address in (("a", "172.30.0.11"), ("b", "172.30.0.12"))
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_dead_node_is_not_asked(status: str) -> None:
    (found,) = endpoints(node("a", ready=status))
    assert (found["conditions"]["ready"], found["conditions"]["serving"]) == (False, False)


def test_nodes_of_others_and_without_an_address_do_not_answer() -> None:
    assert endpoints(node("a", provider=""), node("b", "fd00::1"), {"metadata": {"name": "c"}}) == []


def test_a_slice_is_never_larger_than_the_api_allows() -> None:
    assert len(endpoints(*(node(f"n{number}") for number in range(1100)))) == MOST_ENDPOINTS


@pytest.mark.parametrize(
    "service",
    [
        None,
        {**SERVICE, "spec": {"selector": {"k8s-app": "kube-dns"}}},
        {**SERVICE, "metadata": {**SERVICE["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_there_is_no_slice_for_a_service_that_is_gone_or_leads_to_pods(service: JsonObject | None) -> None:
    assert wanted_slices(service, [node("a")]) == {}


def test_each_family_of_the_service_has_a_slice_of_its_own() -> None:
    both = node("a")
    both["status"]["addresses"].append({"type": "InternalIP", "address": "fd00::11"})
    service = {**SERVICE, "spec": {"ipFamilies": ["IPv6", "IPv4"]}}
    found = wanted_slices(service, [both, node("b", "172.30.0.12")])
    places = {
        name: (item["addressType"], [each["addresses"] for each in item["endpoints"]])
        for name, item in found.items()
    }
    assert places == {
        "kube-dns": ("IPv4", [["172.30.0.11"], ["172.30.0.12"]]),
        "kube-dns-ipv6": ("IPv6", [["fd00::11"]]),
    }


def test_only_a_slice_that_says_something_else_is_written() -> None:
    wanted = wanted_slices(SERVICE, [node("a")])["kube-dns"]
    metadata = {
        **wanted["metadata"],
        "resourceVersion": "7",
        "labels": {**wanted["metadata"]["labels"], "a": "b"},
    }
    assert is_as_wanted({**wanted, "metadata": metadata}, wanted)
    assert not is_as_wanted({**wanted, "metadata": metadata, "endpoints": []}, wanted)
    assert not is_as_wanted({**wanted, "metadata": {**metadata, "labels": {}}}, wanted)

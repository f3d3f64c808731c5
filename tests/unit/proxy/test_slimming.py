"""What a proxy keeps of Services and EndpointSlices decides the same as all of it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from kernel import scenario
from kernel.packets import Policy, Situation
from nodeport.forwarding.build import HEADLESS, build_service
from nodeport.forwarding.sources import NODEPORT_SOURCE_RANGES
from nodeport.forwarding.table import ForwardingOptions
from nodeport.proxy import slimming
from nodeport.proxy.slimming import TRIGGER_TIME, ServiceSlimmer, Shared, SliceSlimmer

NODE = scenario.facts()
BULK = {
    "ownerReferences": [{"kind": "Service", "name": "s", "uid": "u"}],
    "managedFields": [{"manager": "m"}],
    "generateName": "s-",
    "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        TRIGGER_TIME: "2026-01-01T00:00:00Z",
    },
    "uid": "u1",
    "resourceVersion": "7",
}


def with_bulk(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], **BULK}}


def test_forwarding_is_the_same_for_every_policy_and_situation() -> None:
    slim, slim_service = SliceSlimmer(), ServiceSlimmer()
    for policy in Policy:
        for situation in Situation:
            service = with_bulk(scenario.service(policy, situation))
            slices = [with_bulk(item) for item in scenario.slices(service, scenario.ENDPOINTS[situation])]
            for item in slices:
                for endpoint in item["endpoints"]:
                    endpoint["targetRef"] = {"kind": "Pod", "name": "p", "uid": "u"}
            whole = build_service(service, slices, NODE, ForwardingOptions())
            kept = build_service(slim_service(service), map(slim, slices), NODE, ForwardingOptions())
            assert kept == whole


def test_what_is_kept_and_what_is_shared() -> None:
    slim = SliceSlimmer()
    made = []
    for _ in range(2):
        (item,) = scenario.slices(
            {"metadata": {"name": "s"}}, {"local": dict(scenario.ENDPOINTS[Situation.LOCAL]["local"])}
        )
        item["endpoints"][0] |= {
            "targetRef": {"name": "p"},
            "hints": {"forZones": [{"name": "a"}]},
            "zone": "a",
        }
        made.append(slim(with_bulk(item)))
    first, second = made
    assert set(first["metadata"]) == {"namespace", "name", "uid", "resourceVersion", "labels", "annotations"}
    assert first["metadata"]["annotations"] == {TRIGGER_TIME: "2026-01-01T00:00:00Z"}
    (endpoint,) = first["endpoints"]
    assert set(endpoint) == {"addresses", "nodeName", "zone", "hints", "conditions"}
    assert endpoint["conditions"] is second["endpoints"][0]["conditions"]
    assert first["ports"] is second["ports"]
    assert ip_network(f"{endpoint['addresses'][0]}/32")


def test_endpoints_come_back_in_their_order_also_those_without_an_address() -> None:
    raw = [
        {"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": False}},
        {"addresses": [], "nodeName": "b"},
        {"addresses": ["10.0.0.3"]},
        {"addresses": ["fd00::1"], "zone": "z"},
    ]
    item = {"metadata": {"name": "s-a", "namespace": "default"}, "addressType": "IPv4", "endpoints": raw}
    kept = SliceSlimmer()(item)["endpoints"]
    assert list(kept) == raw
    assert (len(kept), kept[1], kept[2:]) == (4, raw[1], raw[2:])


def test_a_slice_without_endpoints_has_none_afterwards() -> None:
    slim = SliceSlimmer()
    for endpoints in ([], None):
        item = {"metadata": {"name": "s-a"}, "addressType": "IPv4", "endpoints": endpoints}
        assert not slim(item).get("endpoints")


def test_a_service_keeps_what_decides_and_loses_what_only_repeats_a_default() -> None:
    service = with_bulk(scenario.service(Policy.LOCAL, Situation.BOTH))
    service["spec"] |= {"selector": {"app": "web"}, "sessionAffinity": "None", "ipFamilies": ["IPv4"]}
    service["metadata"]["labels"] = {HEADLESS: "", "app": "web"}
    service["metadata"]["annotations"] = {NODEPORT_SOURCE_RANGES: "10.0.0.0/8", "other": "x"}
    slim = ServiceSlimmer()(service)
    assert slim["metadata"]["labels"] == {HEADLESS: ""}
    assert slim["metadata"]["annotations"] == {NODEPORT_SOURCE_RANGES: "10.0.0.0/8"}
    assert not {"selector", "sessionAffinity", "ipFamilies"} & set(slim["spec"])
    assert slim["spec"]["externalTrafficPolicy"] == "Local"


def test_what_is_shared_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slimming, "_REMEMBERED", 10)
    shared = Shared()
    for number in range(1_000):
        assert shared({"name": number}) == {"name": number}
    assert len(shared) <= 11

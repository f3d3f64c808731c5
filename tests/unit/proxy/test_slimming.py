"""What a proxy keeps of Services and EndpointSlices decides the same as all of it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from kernel import scenario
from kernel.packets import Policy, Situation
from nodeport.forwarding.build import build_service
from nodeport.forwarding.table import ForwardingOptions
from nodeport.proxy.slimming import SliceSlimmer, slim_service

NODE = scenario.facts()
BULK = {
    "ownerReferences": [{"kind": "Service", "name": "s", "uid": "u"}],
    "managedFields": [{"manager": "m"}],
    "generateName": "s-",
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"},
    "uid": "u1",
    "resourceVersion": "7",
}


def with_bulk(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], **BULK}}


def test_forwarding_is_the_same_for_every_policy_and_situation() -> None:
    slim = SliceSlimmer()
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
    assert first["metadata"]["annotations"] == {"kept": "yes"}
    assert set(first["metadata"]) == {"namespace", "name", "uid", "resourceVersion", "labels", "annotations"}
    assert set(first["endpoints"][0]) == {"addresses", "nodeName", "zone", "hints", "conditions"}
    assert first["endpoints"][0]["conditions"] is second["endpoints"][0]["conditions"]
    assert first["ports"] is second["ports"]
    assert ip_network(f"{first['endpoints'][0]['addresses'][0]}/32")


def test_a_service_keeps_its_spec_and_status() -> None:
    service = with_bulk(scenario.service(Policy.LOCAL, Situation.BOTH))
    slim = slim_service(service)
    assert (slim["spec"], slim["status"]) == (service["spec"], service["status"])
    assert "managedFields" not in slim["metadata"]

"""Endpoints plans: subsets by the addresses that share them, cut at a thousand, settled after one pass."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject
from nodeport.controllers.endpoints.reconcile import MAX_ADDRESSES, OVER_CAPACITY, plan_endpoints

PORT = {"name": "", "port": 80, "targetPort": 8080, "protocol": "TCP"}
NAMED = {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}
METRICS = {"name": "metrics", "port": 90, "targetPort": 9090, "protocol": "TCP"}


def service(*ports: JsonObject, **spec: Any) -> JsonObject:
    wanted = {"clusterIP": "10.96.0.9", "selector": {"a": "b"}, "ports": list(ports or (PORT,)), **spec}
    return {"metadata": {"name": "web", "namespace": "ns", "uid": "svc"}, "spec": wanted}


def pod(
    number: int, *, http: int = 0, ready: bool = True, deleting: bool = False, ip: str = "", **spec: Any
) -> JsonObject:
    metadata: JsonObject = {"name": f"p{number}", "namespace": "ns", "uid": f"u{number:05}"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ports = [{"name": "http", "containerPort": http, "protocol": "TCP"}] if http else []
    ip = ip or f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    status = {"podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n", "containers": [{"ports": ports}], **spec},
        "status": status,
    }


def subsets(svc: JsonObject, pods: list[JsonObject]) -> list[JsonObject]:
    written = plan_endpoints(svc, pods, None)
    assert written is not None
    assert plan_endpoints(svc, pods[::-1], written) is None, "the order of pods is no difference"
    return list(written["subsets"])


def shown(found: list[JsonObject], kind: str = "addresses") -> dict[tuple[int, ...], list[str]]:
    return {
        tuple(port["port"] for port in subset.get("ports", ())): [a["ip"] for a in subset.get(kind, ())]
        for subset in found
    }


def test_pods_that_differ_in_a_named_port_share_the_subset_of_the_other() -> None:
    found = subsets(service(NAMED, METRICS), [pod(1, http=3000), pod(2, http=3001), pod(3, http=3000)])
    assert shown(found) == {
        (9090,): ["10.0.0.2", "10.0.0.3", "10.0.0.4"],
        (3000,): ["10.0.0.2", "10.0.0.4"],
        (3001,): ["10.0.0.3"],
    }


def test_pods_that_agree_in_all_ports_share_one_subset() -> None:
    [found] = subsets(service(NAMED, METRICS), [pod(1, http=3000), pod(2, http=3000, ready=False)])
    assert [port["name"] for port in found["ports"]] == ["metrics", "web"]
    assert shown([found]) == {(9090, 3000): ["10.0.0.2"]}
    assert shown([found], "notReadyAddresses") == {(9090, 3000): ["10.0.0.3"]}


def test_a_pod_that_lacks_every_port_serves_nothing() -> None:
    assert subsets(service(NAMED), [pod(1)]) == []


def test_a_headless_service_without_ports_still_has_addresses() -> None:
    svc = service(clusterIP="None") | {}
    svc["spec"]["ports"] = []
    [found] = subsets(svc, [pod(1), pod(2, ready=False)])
    assert "ports" not in found
    assert shown([found]) == {(): ["10.0.0.2"]}


@pytest.mark.parametrize(
    ("ready", "deleting", "publish", "where"),
    [
        (True, False, False, "addresses"),
        (False, False, False, "notReadyAddresses"),
        (True, True, False, None),
        (True, True, True, "addresses"),
        (False, True, True, "addresses"),
        (False, False, True, "addresses"),
    ],
)
def test_where_a_pod_is_listed(ready: bool, deleting: bool, publish: bool, where: str | None) -> None:
    svc = service(publishNotReadyAddresses=publish)
    found = subsets(svc, [pod(1, ready=ready, deleting=deleting)])
    assert [key for subset in found for key in subset if key != "ports"] == ([where] if where else [])


def test_only_the_first_family_is_listed_in_its_usual_form() -> None:
    both = pod(1)
    both["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "FD00:0::1"}]
    assert shown(subsets(service(ipFamilies=["IPv6", "IPv4"]), [both, pod(2)])) == {(8080,): ["fd00::1"]}


def test_an_address_tells_node_pod_and_hostname() -> None:
    [found] = subsets(service(), [pod(1, hostname="h", subdomain="web")])
    assert found["addresses"] == [
        {
            "ip": "10.0.0.2",
            "hostname": "h",
            "nodeName": "n",
            "targetRef": {"kind": "Pod", "namespace": "ns", "name": "p1", "uid": "u00001"},
        }
    ]


def test_pods_with_one_address_between_them_are_listed_each() -> None:
    [found] = subsets(service(), [pod(2, ip="10.9.9.9"), pod(1, ip="10.9.9.9")])
    assert [address["targetRef"]["name"] for address in found["addresses"]] == ["p1", "p2"]


def test_ready_ones_too_many_leave_no_room_for_others() -> None:
    pods = [pod(n, http=3000 if n < 900 else 3001, ready=n % 4 != 0) for n in range(1600)]
    written = plan_endpoints(service(NAMED), pods, None)
    assert written is not None
    counts = [len(subset["addresses"]) for subset in written["subsets"]]
    assert counts == [563, 437], "each subset its proportion of the 1,200 ready ones, rounded up"
    assert not any("notReadyAddresses" in subset for subset in written["subsets"])
    assert written["metadata"]["annotations"] == {OVER_CAPACITY: "truncated"}
    assert plan_endpoints(service(NAMED), pods, written) is None


def test_not_ready_ones_fill_what_the_ready_ones_leave() -> None:
    pods = [pod(n, http=3000 if n < 900 else 3001, ready=n % 4 == 0) for n in range(1600)]
    written = plan_endpoints(service(NAMED), pods, None)
    assert written is not None
    counts = [(len(s["addresses"]), len(s["notReadyAddresses"])) for s in written["subsets"]]
    assert counts == [(225, 338), (175, 262)]
    assert sum(map(sum, counts)) == MAX_ADDRESSES


def test_labels_and_foreign_changes_are_put_right() -> None:
    svc = service(clusterIP="None")
    svc["metadata"]["labels"] = {"team": "x", "service.kubernetes.io/headless": "no"}
    written = plan_endpoints(svc, [pod(1)], None)
    assert written is not None
    assert written["metadata"]["labels"] == {
        "team": "x",
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
        "service.kubernetes.io/headless": "",
    }
    touched = {**written, "metadata": {**written["metadata"], "labels": {}}}
    assert plan_endpoints(svc, [pod(1)], touched) is not None
    emptied = {**written, "subsets": []}
    assert plan_endpoints(svc, [pod(1)], emptied) == written

"""EndpointSlice plans: the right endpoints, packed in as few writes as possible, and settled after one pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.endpointslice.desired import Port, desired_endpoints, key_of
from nodeport.controllers.endpointslice.reconcile import (
    HEADLESS_LABEL,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    TRIGGER_TIME,
    name_prefix,
    plan_slices,
)

ZONES = {"n1": "a", "n2": "b", "n3": ""}
HTTP = {"name": "", "port": 80, "targetPort": 8080, "protocol": "TCP"}


def service(**spec: Any) -> JsonObject:
    found = {
        "clusterIP": "10.96.0.9",
        "ipFamilies": ["IPv4"],
        "selector": {"app": "web"},
        "ports": [HTTP],
        **spec,
    }
    metadata = {
        "name": "web",
        "namespace": "ns",
        "uid": "svc",
        "labels": {"team": "x", MANAGED_BY_LABEL: "me"},
    }
    return {"metadata": metadata, "spec": found}


def pod(
    number: int, *, ready: bool = True, deleting: bool = False, node: str = "n1", **spec: Any
) -> JsonObject:
    metadata: JsonObject = {
        "name": f"web-{number}",
        "namespace": "ns",
        "uid": f"pod-{number}",
        "labels": {"app": "web"},
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ip = f"10.244.{number // 250}.{number % 250 + 1}"
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition]}
    return {"metadata": metadata, "spec": {"nodeName": node, **spec}, "status": status}


class Cluster:
    """Applies plans as an API server would."""

    def __init__(self) -> None:
        self.slices: dict[str, JsonObject] = {}
        self.serial = 0

    def apply(self, plan: SlicePlan) -> None:
        for new in plan.create:
            self.serial += 1
            name = f"{new['metadata']['generateName']}{self.serial}"
            metadata = {k: v for k, v in new["metadata"].items() if k != "generateName"}
            self.slices[name] = {**new, "metadata": {**metadata, "name": name, "uid": name}}
        for changed in plan.update:
            assert changed["metadata"]["name"] in self.slices
            self.slices[changed["metadata"]["name"]] = changed
        for old in plan.delete:
            del self.slices[old["metadata"]["name"]]

    def settle(self, svc: JsonObject, pods: list[JsonObject], **options: Any) -> SlicePlan:
        plan = plan_slices(svc, pods, ZONES, list(self.slices.values()), **options)
        self.apply(plan)
        again = plan_slices(svc, pods, ZONES, list(self.slices.values()), **options)
        assert not again, "a second pass must find nothing to do"
        return plan

    def sizes(self) -> list[int]:
        return sorted((len(found["endpoints"]) for found in self.slices.values()), reverse=True)

    def endpoints(self) -> list[JsonObject]:
        return [endpoint for found in self.slices.values() for endpoint in found["endpoints"]]


def addresses(endpoints: Iterable[JsonObject]) -> list[str]:
    return sorted(endpoint["addresses"][0] for endpoint in endpoints)


def test_a_service_without_pods_gets_one_placeholder_slice() -> None:
    cluster = Cluster()
    cluster.settle(service(), [])
    [found] = cluster.slices.values()
    assert (found["endpoints"], found["ports"], found["addressType"]) == ([], [], "IPv4")


def test_a_slice_says_whose_it_is() -> None:
    cluster = Cluster()
    plan = cluster.settle(service(), [pod(1)], trigger_time="2026-01-01T00:00:00Z")
    [new] = plan.create
    assert new["metadata"]["generateName"] == "web-"
    assert new["metadata"]["labels"] == {
        "team": "x",
        SERVICE_NAME_LABEL: "web",
        MANAGED_BY_LABEL: "endpointslice-controller.k8s.io",
    }
    [owner] = new["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "Service", "svc", True, True,
    )  # fmt: skip
    assert new["metadata"]["annotations"] == {TRIGGER_TIME: "2026-01-01T00:00:00Z"}


def test_a_headless_service_is_marked() -> None:
    [new] = plan_slices(service(clusterIP="None"), [pod(1)], ZONES, []).create
    assert new["metadata"]["labels"][HEADLESS_LABEL] == ""


@pytest.mark.parametrize(
    ("ready", "deleting", "publish", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
    ],
)
def test_conditions_of_an_endpoint(
    ready: bool, deleting: bool, publish: bool, expected: tuple[bool, bool, bool]
) -> None:
    svc = service(publishNotReadyAddresses=publish)
    [new] = plan_slices(svc, [pod(1, ready=ready, deleting=deleting)], ZONES, []).create
    conditions = new["endpoints"][0]["conditions"]
    assert (conditions["ready"], conditions["serving"], conditions["terminating"]) == expected


def test_an_endpoint_tells_pod_node_and_zone() -> None:
    [new] = plan_slices(service(), [pod(1, node="n1", hostname="h", subdomain="web")], ZONES, []).create
    assert new["endpoints"] == [
        {
            "addresses": ["10.244.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "ns", "name": "web-1", "uid": "pod-1"},
            "hostname": "h",
            "nodeName": "n1",
            "zone": "a",
        }
    ]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pods_and_pods_without_an_address_are_left_out(phase: str) -> None:
    finished, bare = pod(1), pod(2)
    finished["status"]["phase"] = phase
    bare["status"] |= {"podIP": "", "podIPs": []}
    [new] = plan_slices(service(), [finished, bare, pod(3)], ZONES, []).create
    assert addresses(new["endpoints"]) == ["10.244.0.4"]


def test_a_pod_on_an_unknown_node_waits_unless_not_ready_ones_are_published() -> None:
    stray = pod(1, node="elsewhere")
    assert plan_slices(service(), [stray, pod(2)], ZONES, []).nodeless == (
        "skipping Pod web-1 for Service ns/web: Node elsewhere Not Found",
    )
    published = plan_slices(service(publishNotReadyAddresses=True), [stray], ZONES, [])
    assert addresses(published.create[0]["endpoints"]) == ["10.244.0.2"]


def test_named_ports_that_differ_between_pods_make_slices_of_their_own() -> None:
    def with_port(number: int, port: int, protocol: str = "TCP") -> JsonObject:
        ports = [{"name": "http", "containerPort": port, "protocol": protocol}]
        return pod(number, containers=[{"ports": ports}])

    svc = service(
        ports=[{"name": "w", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "h2c"}]
    )
    cluster = Cluster()
    cluster.settle(svc, [with_port(1, 8080), with_port(2, 9090), with_port(3, 8080), with_port(4, 7, "UDP")])
    shown = {str(found["ports"]): addresses(found["endpoints"]) for found in cluster.slices.values()}
    tcp = {"name": "w", "protocol": "TCP", "appProtocol": "h2c"}
    assert shown == {
        str([{"name": "w", "protocol": "TCP", "port": 8080, "appProtocol": "h2c"}]): [
            "10.244.0.2",
            "10.244.0.4",
        ],
        str([{"name": "w", "protocol": "TCP", "port": 9090, "appProtocol": "h2c"}]): ["10.244.0.3"],
        "[]": ["10.244.0.5"],
    }, tcp


def test_dual_stack_pods_appear_in_both_families_and_single_stack_ones_in_theirs() -> None:
    both, four = pod(1), pod(2)
    both["status"]["podIPs"].append({"ip": "fd00:0::1"})
    plan = plan_slices(service(ipFamilies=["IPv4", "IPv6"]), [both, four], ZONES, [])
    shown = {new["addressType"]: addresses(new["endpoints"]) for new in plan.create}
    assert shown == {"IPv4": ["10.244.0.2", "10.244.0.3"], "IPv6": ["fd00::1"]}


def test_slices_of_a_family_no_longer_listed_go() -> None:
    cluster = Cluster()
    both = pod(1)
    both["status"]["podIPs"].append({"ip": "fd00::1"})
    cluster.settle(service(ipFamilies=["IPv4", "IPv6"]), [both])
    plan = cluster.settle(service(), [both])
    assert [old["addressType"] for old in plan.delete] == ["IPv6"]


def test_the_first_pod_takes_over_the_placeholder() -> None:
    cluster = Cluster()
    cluster.settle(service(), [])
    plan = cluster.settle(service(), [pod(1)])
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)


def test_the_last_pod_leaves_a_placeholder_behind() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1)])
    plan = cluster.settle(service(), [])
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    assert cluster.sizes() == [0]


def test_more_endpoints_than_fit_fill_slices_to_the_limit() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(n) for n in range(250)])
    assert cluster.sizes() == [100, 100, 50]


def test_one_more_pod_goes_where_it_fits_best_in_one_write() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(n) for n in range(170)])
    plan = cluster.settle(service(), [pod(n) for n in range(171)])
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    assert cluster.sizes() == [100, 71]


def test_a_slice_that_changes_anyway_is_filled_first() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(n) for n in range(150)])
    first_gone = [pod(n) for n in range(1, 151)]
    plan = cluster.settle(service(), first_gone)
    assert (len(plan.create), len(plan.update)) == (0, 1)
    assert cluster.sizes() == [100, 50]


def test_slices_are_never_rebalanced() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(n) for n in range(200)])
    few = [pod(0), pod(199)]
    cluster.settle(service(), few)
    assert cluster.sizes() == [1, 1]


def test_an_outdated_trigger_time_is_removed_with_the_next_write() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1)], trigger_time="2026-01-01T00:00:00Z")
    cluster.settle(service(), [pod(1), pod(2)])
    [found] = cluster.slices.values()
    assert "annotations" not in found["metadata"]


def test_traffic_distribution_hints_ready_endpoints_only() -> None:
    svc = service(trafficDistribution="PreferSameNode")
    [new] = plan_slices(svc, [pod(1), pod(2, ready=False)], ZONES, []).create
    hints = [endpoint.get("hints") for endpoint in new["endpoints"]]
    assert hints == [{"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}, None]


PODS = st.dictionaries(
    st.integers(0, 60),
    st.tuples(st.booleans(), st.booleans(), st.sampled_from(["n1", "n2", "n3"]), st.sampled_from([80, 81])),
    max_size=40,
)


def made(found: dict[int, tuple[bool, bool, str, int]]) -> list[JsonObject]:
    return [
        pod(
            n,
            ready=ready,
            deleting=gone,
            node=node,
            containers=[{"ports": [{"name": "p", "containerPort": port}]}],
        )
        for n, (ready, gone, node, port) in found.items()
    ]


@settings(max_examples=150)
@given(history=st.lists(PODS, min_size=1, max_size=6), limit=st.integers(1, 12))
def test_slices_hold_what_is_desired_once_after_any_history(history: list[Any], limit: int) -> None:
    svc = service(ports=[{"name": "", "port": 80, "targetPort": "p", "protocol": "TCP"}])
    cluster = Cluster()
    for pods in map(made, history):
        before = dict(cluster.slices)
        plan = cluster.settle(svc, pods, max_endpoints=limit)
        desired = desired_endpoints(svc, pods, ZONES, "IPv4").groups
        shown: dict[Any, list[JsonObject]] = {}
        for found in cluster.slices.values():
            ports = tuple(Port.of(port) for port in found["ports"])
            shown.setdefault(ports, []).extend(found["endpoints"])
        for ports, group in desired.items():
            assert sorted(map(str, shown.pop(ports))) == sorted(map(str, group.endpoints.values()))
        assert not any(shown.values())
        keys = [key_of(endpoint) for endpoint in cluster.endpoints()]
        assert len(keys) == len(set(keys))
        assert max(cluster.sizes()) <= limit
        assert all(changed != before[changed["metadata"]["name"]] for changed in plan.update)
        assert not (plan.create and plan.delete), "a creation beside a deletion is an update"


def test_five_thousand_pods_are_planned_in_time() -> None:
    pods = [pod(n) for n in range(5000)]
    cluster = Cluster()
    cluster.settle(service(), pods)
    assert cluster.sizes() == [100] * 50


def test_what_is_left_over_after_full_new_slices_goes_where_it_fits_best() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(n) for n in range(60)])
    plan = cluster.settle(service(), [pod(n) for n in range(200)])
    assert (len(plan.create), len(plan.update)) == (1, 1)
    assert cluster.sizes() == [100, 100]


def test_exactly_a_slices_worth_makes_a_new_slice() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(0)], max_endpoints=10)
    plan = cluster.settle(service(), [pod(n) for n in range(11)], max_endpoints=10)
    assert (len(plan.create), len(plan.update)) == (1, 0)
    assert cluster.sizes() == [10, 1]


def test_slices_of_a_former_service_of_that_name_are_deleted_and_never_used() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1)])
    reborn = service()
    reborn["metadata"]["uid"] = "another"
    plan = cluster.settle(reborn, [pod(1)])
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (1, 0, 1)


def test_slices_on_their_way_out_are_not_counted() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1)])
    for found in cluster.slices.values():
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    plan = plan_slices(service(), [pod(1)], ZONES, list(cluster.slices.values()))
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (1, 0, 0)


def test_a_service_that_is_being_deleted_gets_no_new_slice_but_true_ones() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1), pod(2)])
    going = service()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    plan = cluster.settle(going, [pod(2)])
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    assert not plan_slices(going, [pod(1)], ZONES, [])


def test_a_change_of_the_services_labels_reaches_every_slice() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(n) for n in range(150)])
    relabelled = service()
    relabelled["metadata"]["labels"] = {"team": "y"}
    plan = cluster.settle(relabelled, [pod(n) for n in range(150)])
    assert len(plan.update) == 2
    assert {changed["metadata"]["labels"]["team"] for changed in plan.update} == {"y"}


def test_reserved_labels_on_the_service_change_nothing() -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1)])
    odd = service()
    odd["metadata"]["labels"] |= {HEADLESS_LABEL: "", SERVICE_NAME_LABEL: "other", MANAGED_BY_LABEL: "x"}
    assert not plan_slices(odd, [pod(1)], ZONES, list(cluster.slices.values()))


def test_the_order_of_ports_is_no_difference() -> None:
    one, two = {"name": "a", "port": 1, "protocol": "TCP"}, {"name": "b", "port": 2, "protocol": "TCP"}
    cluster = Cluster()
    cluster.settle(service(ports=[one, two]), [pod(1)])
    [found] = cluster.slices.values()
    assert [port["name"] for port in found["ports"]] == ["a", "b"]
    assert not plan_slices(service(ports=[two, one]), [pod(1)], ZONES, [found])


def test_a_named_port_may_be_a_sidecars_but_not_an_init_containers() -> None:
    svc = service(ports=[{"name": "m", "port": 80, "targetPort": "metrics", "protocol": "TCP"}])
    ports = [{"name": "metrics", "containerPort": 9000}]
    sidecar = pod(1, containers=[{}], initContainers=[{"restartPolicy": "Always", "ports": ports}])
    once = pod(2, containers=[{}], initContainers=[{"ports": ports}])
    shown = {
        addresses(new["endpoints"])[0]: [port["port"] for port in new["ports"]]
        for new in plan_slices(svc, [sidecar, once], ZONES, []).create
    }
    assert shown == {"10.244.0.2": [9000], "10.244.0.3": []}


def test_a_headless_service_without_ports_has_slices_without_ports() -> None:
    [new] = plan_slices(service(clusterIP="None", ports=[]), [pod(1)], ZONES, []).create
    assert (new["ports"], addresses(new["endpoints"])) == ([], ["10.244.0.2"])


def test_addresses_are_written_in_their_usual_form() -> None:
    odd = pod(1)
    odd["status"]["podIPs"] = [{"ip": "010.001.0.7"}, {"ip": "FD00:0:0::A"}, {"ip": "::ffff:1.2.3.4"}]
    plan = plan_slices(service(ipFamilies=["IPv6", "IPv4"]), [odd], ZONES, [])
    shown = {new["addressType"]: new["endpoints"][0]["addresses"] for new in plan.create}
    assert shown == {"IPv4": ["10.1.0.7", "1.2.3.4"], "IPv6": ["fd00::a"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["spec"].update(nodeName="n2"),
        lambda p: p["metadata"].update(uid="another"),
        lambda p: p["status"]["conditions"][0].update(status="False"),
        lambda p: p["spec"].update(hostname="h", subdomain="web"),
    ],
)
def test_whatever_an_endpoint_says_of_its_pod_is_kept_true_in_one_write(change: Any) -> None:
    cluster = Cluster()
    cluster.settle(service(), [pod(1), pod(2)])
    changed = pod(1)
    change(changed)
    plan = cluster.settle(service(), [changed, pod(2)])
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    expected = desired_endpoints(service(), [changed, pod(2)], ZONES, "IPv4").groups
    [group] = expected.values()
    assert sorted(map(str, cluster.endpoints())) == sorted(map(str, group.endpoints.values()))


def test_a_name_that_leaves_no_room_goes_without_the_dash() -> None:
    assert name_prefix("web") == "web-"
    assert name_prefix("x" * 251) == "x" * 251 + "-"
    assert name_prefix("x" * 253) == "x" * 253


def test_a_rolling_replacement_rewrites_each_slice_a_few_times_at_most() -> None:
    """2,000 pods are replaced 250 at a time: each step is one pass, and no pass writes more than it must."""
    cluster = Cluster()
    alive = [pod(n) for n in range(2000)]
    cluster.settle(service(), alive)
    writes = 0
    for step in range(8):
        fresh = [pod(2000 + step * 250 + n) for n in range(250)]
        alive = alive[250:] + fresh
        plan = cluster.settle(service(), alive)
        writes += len(plan.create) + len(plan.update) + len(plan.delete)
    assert sum(cluster.sizes()) == 2000
    assert writes <= 8 * 4, "250 leave two or three slices, and the same number take their places"


def test_one_change_among_five_thousand_pods_is_one_write_of_one_slice() -> None:
    pods = [pod(n) for n in range(5000)]
    cluster = Cluster()
    plan = cluster.settle(service(), pods)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (50, 0, 0)
    for changed in ([pod(0, ready=False), *pods[1:]], pods[1:], [*pods[1:], pod(5000)], pods[1:]):
        plan = cluster.settle(service(), changed)
        assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)

"""Cells as kubectl prints them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from nodeport.api import resources as rows
from nodeport.api.resources import RESOURCES
from nodeport.apiserver.tables.network import endpoints_text, external_ips, service_ports
from nodeport.apiserver.tables.nodes import node_status, roles
from nodeport.apiserver.tables.pods import pod_status, restarts
from nodeport.apiserver.tables.printers import printer_of
from nodeport.apiserver.tables.view import TableView

Json = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def ago(text: str) -> str:
    return f"2026-01-01T{text}Z"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda row: row.plural)
def test_every_resource_prints_even_an_empty_object(resource: Any) -> None:
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {"name": "x"}}
    printer = printer_of(resource)
    assert len(printer.cells(obj, NOW)) == len(printer.columns)
    table = TableView(resource, "Metadata").table([obj], {"resourceVersion": "1"}, NOW)
    assert table["rows"][0]["object"]["metadata"] == {"name": "x"}


COLUMNS = {
    "services": "Name, Type, Cluster-IP, External-IP, Port(s), Age, Selector*",
    "endpoints": "Name, Endpoints, Age",
    "endpointslices": "Name, AddressType, Ports, Endpoints, Age",
    "pods": "Name, Ready, Status, Restarts, Age, IP*, Node*, Nominated Node*, Readiness Gates*",
    "nodes": "Name, Status, Roles, Age, Version, Internal-IP*, External-IP*, OS-Image*, Kernel-Version*, "
    "Container-Runtime*",
    "deployments": "Name, Ready, Up-to-date, Available, Age, Containers*, Images*, Selector*",
    "replicasets": "Name, Desired, Current, Ready, Age, Containers*, Images*, Selector*",
    "namespaces": "Name, Status, Age",
    "events": "Last Seen, Type, Reason, Object, Subobject*, Source*, Message, First Seen*, Count*, Name*",
    "configmaps": "Name, Data, Age",
    "secrets": "Name, Type, Data, Age",
    "serviceaccounts": "Name, Secrets, Age",
    "leases": "Name, Holder, Age",
    "replicationcontrollers": "Name, Desired, Current, Ready, Age, Containers*, Images*, Selector*",
    "statefulsets": "Name, Ready, Age, Containers*, Images*",
    "daemonsets": "Name, Desired, Current, Ready, Up-to-date, Available, Node Selector, Age, Containers*, Images*, "
    "Selector*",
    "jobs": "Name, Status, Completions, Duration, Age, Containers*, Images*, Selector*",
    "ingresses": "Name, Class, Hosts, Address, Ports, Age",
    "ingressclasses": "Name, Controller, Parameters, Age",
    "servicecidrs": "Name, CIDRs, Age",
    "ipaddresses": "Name, ParentRef",
    "controllerrevisions": "Name, Controller, Revision, Age",
    "resourcequotas": "Name, Request, Limit, Age",
    "limitranges": "Name, Created At",
    "podtemplates": "Name, Containers, Images, Pod Labels",
    "poddisruptionbudgets": "Name, Min Available, Max Unavailable, Allowed Disruptions, Age",
    "priorityclasses": "Name, Value, Global-Default, Age, PreemptionPolicy",
    "runtimeclasses": "Name, Handler, Age",
    "persistentvolumes": "Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, "
    "VolumeAttributesClass, Reason, Age, VolumeMode*",
    "persistentvolumeclaims": "Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, "
    "VolumeMode*",
    "storageclasses": "Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age",
    "customresourcedefinitions": "Name, Created At",
    "certificatesigningrequests": "Name, Age, SignerName, Requestor, RequestedDuration, Condition",
    "roles": "Name, Created At",
    "clusterroles": "Name, Created At",
    "rolebindings": "Name, Role, Age, Users*, Groups*, ServiceAccounts*",
    "clusterrolebindings": "Name, Role, Age, Users*, Groups*, ServiceAccounts*",
}


@pytest.mark.parametrize("resource", [row for row in RESOURCES if row.is_kept], ids=lambda row: row.plural)
def test_columns_are_those_of_kubernetes(resource: Any) -> None:
    shown = ", ".join(
        f"{column.name}{'*' if column.priority else ''}" for column in printer_of(resource).columns
    )
    assert shown == COLUMNS[resource.plural]


@pytest.mark.parametrize(
    ("spec", "status", "shown"),
    [
        ({}, {}, "<none>"),
        ({"externalIPs": ["192.0.2.1", "192.0.2.2"]}, {}, "192.0.2.1,192.0.2.2"),
        ({"type": "LoadBalancer"}, {}, "<pending>"),
        ({"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}, "192.0.2.9"),
        ({"type": "LoadBalancer", "externalIPs": ["192.0.2.1"]}, {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}},
         "lb.example.com,192.0.2.1"),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, "example.com"),
    ],
)  # fmt: skip
def test_external_ips_of_services(spec: Json, status: Json, shown: str) -> None:
    assert external_ips({"spec": spec, "status": status}) == shown


def test_ports_of_services() -> None:
    ports = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]
    assert service_ports(ports) == "80:30080/TCP,53/UDP"
    assert service_ports([]) == "<none>"


def test_endpoints_show_three_and_count_the_rest() -> None:
    addresses = [{"ip": f"10.0.0.{index}"} for index in range(5)]
    assert endpoints_text([]) == "<none>"
    assert endpoints_text([{"notReadyAddresses": addresses, "ports": [{"port": 80}]}]) == ""
    assert (
        endpoints_text([{"addresses": addresses[:2], "ports": [{"port": 80}]}]) == "10.0.0.0:80,10.0.0.1:80"
    )
    assert endpoints_text([{"addresses": addresses, "ports": [{"port": 80}]}]) == (
        "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."
    )


def container(state: Json | None = None, *, ready: bool = False, **more: Any) -> Json:
    return {"name": "c", "ready": ready, "restartCount": 0, "state": state or {}, **more}


RUNNING: Json = {"running": {"startedAt": ago("11:00:00")}}


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Running", "containerStatuses": [container(RUNNING, ready=True)]}, "Running"),
        ({"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ErrImagePull"}})]}, "ErrImagePull"),
        ({"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 3}})]}, "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 9, "signal": 9}})]}, "Signal:9"),
        ({"phase": "Running", "containerStatuses": [
            container({"terminated": {"reason": "Completed"}}), container(RUNNING, ready=True)]}, "NotReady"),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
            container({"terminated": {"reason": "Completed"}}), container(RUNNING, ready=True)]}, "Running"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}, "SchedulingGated"),
        ({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]}, "Init:0/1"),
        ({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}, "Init:Error"),
    ],
)  # fmt: skip
def test_the_status_of_a_pod(status: Json, shown: str) -> None:
    pod = {"metadata": {}, "spec": {"initContainers": [{"name": "i"}]}, "status": status}
    assert pod_status(pod) == shown


def test_a_pod_that_is_deleted_is_terminating_unless_its_node_is_lost() -> None:
    pod: Json = {"metadata": {"deletionTimestamp": ago("11:59:00")}, "status": {"phase": "Running"}}
    assert pod_status(pod) == "Terminating"
    pod["status"]["reason"] = "NodeLost"
    assert pod_status(pod) == "Unknown"


def test_restarts_tell_how_long_ago_the_last_was() -> None:
    ended = {"terminated": {"finishedAt": ago("11:55:00")}}
    pod: Json = {
        "spec": {},
        "status": {"containerStatuses": [{"name": "c", "restartCount": 3, "lastState": ended}]},
    }
    assert restarts(pod, NOW) == "3 (5m ago)"
    pod["status"]["containerStatuses"][0]["restartCount"] = 0
    assert restarts(pod, NOW) == "0"


@pytest.mark.parametrize(
    ("ready", "unschedulable", "shown"),
    [
        ("True", False, "Ready"), ("False", False, "NotReady"), ("Unknown", True, "NotReady,SchedulingDisabled"),
        ("", False, "Unknown"),
    ],
)  # fmt: skip
def test_the_status_of_a_node(ready: str, unschedulable: bool, shown: str) -> None:
    conditions = [{"type": "Ready", "status": ready}] if ready else []
    node = {"spec": {"unschedulable": unschedulable}, "status": {"conditions": conditions}}
    assert node_status(node) == shown


def test_roles_come_from_labels() -> None:
    labels = {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "other": "x"}
    assert roles({"metadata": {"labels": labels}}) == "control-plane,worker"
    assert roles({"metadata": {}}) == "<none>"


def test_events_count_and_say_since_when() -> None:
    event: Json = {
        "metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "message": " hello\n", "count": 4,
        "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet", "host": "node-1"},
        "firstTimestamp": ago("11:00:00"), "lastTimestamp": ago("11:59:30"),
    }  # fmt: skip
    printer = printer_of(next(row for row in RESOURCES if row.plural == "events"))
    assert printer.cells(event, NOW) == [
        "30s (x4 over 60m)", "Normal", "Started", "pod/p", "", "kubelet, node-1", "hello", "60m", 4, "e",
    ]  # fmt: skip


TEMPLATE = {"spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "i"}]}}
CREATED = {"name": "x", "creationTimestamp": ago("11:00:00")}


@pytest.mark.parametrize(
    ("resource", "content", "cells"),
    [
        (rows.REPLICATION_CONTROLLERS,
         {"spec": {"replicas": 3, "selector": {"a": "b"}, "template": TEMPLATE}, "status": {"replicas": 2, "readyReplicas": 1}},
         ["x", 3, 2, 1, "60m", "c", "i", "a=b"]),
        (rows.STATEFUL_SETS, {"spec": {"replicas": 3, "template": TEMPLATE}, "status": {"readyReplicas": 1}},
         ["x", "1/3", "60m", "c", "i"]),
        (rows.DAEMON_SETS,
         {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE},
          "status": {"desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
                     "updatedNumberScheduled": 2, "numberAvailable": 1}},
         ["x", 5, 4, 3, 2, 1, "disk=ssd", "60m", "c", "i", "a=b"]),
        (rows.JOBS,
         {"spec": {"completions": 2, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE},
          "status": {"succeeded": 2, "startTime": ago("11:00:00"), "completionTime": ago("11:01:10"),
                     "conditions": [{"type": "Complete", "status": "True"}]}},
         ["x", "Complete", "2/2", "70s", "60m", "c", "i", "a=b"]),
        (rows.JOBS, {"spec": {"parallelism": 3}, "status": {"startTime": ago("11:59:00")}},
         ["x", "Running", "0/1 of 3", "60s", "60m", "", "", "<none>"]),
        (rows.INGRESSES,
         {"spec": {"ingressClassName": "c", "tls": [{}], "rules": [{"host": f"{n}.example"} for n in "abcd"]},
          "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "h.example"}]}}},
         ["x", "c", "a.example,b.example,c.example + 1 more...", "192.0.2.1,h.example", "80, 443", "60m"]),
        (rows.INGRESSES, {"spec": {"rules": [{}]}}, ["x", "<none>", "*", "", "80", "60m"]),
        (rows.INGRESS_CLASSES,
         {"spec": {"controller": "c.example/x", "parameters": {"apiGroup": "g.example", "kind": "P", "name": "p"}}},
         ["x", "c.example/x", "P.g.example/p", "60m"]),
        (rows.SERVICE_CIDRS, {"spec": {"cidrs": ["10.0.0.0/16", "fd00::/112"]}}, ["x", "10.0.0.0/16,fd00::/112", "60m"]),
        (rows.IP_ADDRESSES, {"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}},
         ["x", "services/n/s"]),
        (rows.RESOURCE_QUOTAS, {"status": {"hard": {"pods": "5", "limits.cpu": "2"}, "used": {"pods": "1"}}},
         ["x", "pods: 1/5", "limits.cpu: 0/2", "60m"]),
        (rows.POD_DISRUPTION_BUDGETS, {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}},
         ["x", "50%", "N/A", 1, "60m"]),
        (rows.PRIORITY_CLASSES, {"value": 7, "preemptionPolicy": "Never"}, ["x", 7, False, "60m", "Never"]),
        (rows.ROLES, {}, ["x", ago("11:00:00")]),
        (rows.ROLE_BINDINGS,
         {"roleRef": {"kind": "Role", "name": "r"},
          "subjects": [{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "Group", "name": "g"},
                       {"kind": "ServiceAccount", "namespace": "n", "name": "a"}]},
         ["x", "Role/r", "60m", "u, v", "g", "n/a"]),
    ],
)  # fmt: skip
def test_the_cells_of_kinds(resource: Any, content: Json, cells: list[str | int]) -> None:
    assert printer_of(resource).cells({"metadata": CREATED, **content}, NOW) == cells

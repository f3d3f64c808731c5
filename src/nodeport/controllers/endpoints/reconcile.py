"""The Endpoints object that a Service should have: pure.

Rules: the endpoints controller of Kubernetes 1.36. Only the Service's first address family; pods on their way
out are left out unless not-ready addresses are published; at most 1,000 addresses, ready ones first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from nodeport.api.meta import JsonObject, is_being_deleted, labels
from nodeport.controllers.endpointslice.desired import (
    Ports,
    hostname_of,
    pod_addresses,
    resolve_ports,
    target_reference,
)
from nodeport.controllers.selection import is_finished, is_ready

MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
HEADLESS_LABEL = "service.kubernetes.io/headless"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_ADDRESSES = 1000


class _Address(NamedTuple):
    ports: Ports
    is_ready: bool
    address: JsonObject


def plan_endpoints(
    service: JsonObject, pods: Iterable[JsonObject], existing: JsonObject | None, *, trigger_time: str = ""
) -> JsonObject | None:
    """The object to write, or None when ``existing`` is as it should be."""
    addresses = _addresses(service, pods)
    truncated = len(addresses) > MAX_ADDRESSES
    if truncated:
        addresses = sorted(addresses, key=lambda entry: not entry.is_ready)[:MAX_ADDRESSES]
    subsets = _repack(addresses)
    wanted_labels = _labels(service)
    notes = dict((existing or {"metadata": {}})["metadata"].get("annotations") or {})
    was_truncated = notes.pop(OVER_CAPACITY, "") == "truncated"
    if existing is not None:
        is_same = (existing.get("subsets") or []) == subsets and labels(existing) == wanted_labels
        if is_same and was_truncated == truncated:
            return None
    notes.pop(TRIGGER_TIME, None)
    if truncated:
        notes[OVER_CAPACITY] = "truncated"
    if trigger_time:
        notes[TRIGGER_TIME] = trigger_time
    base = existing["metadata"] if existing is not None else _identity(service)
    metadata = {key: value for key, value in base.items() if key != "annotations"}
    metadata["labels"] = wanted_labels
    if notes:
        metadata["annotations"] = notes
    return {"metadata": metadata, "subsets": subsets}


def _identity(service: JsonObject) -> JsonObject:
    return {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]}


def _labels(service: JsonObject) -> dict[str, str]:
    own = {
        key: value for key, value in labels(service).items() if key not in (MANAGED_BY_LABEL, HEADLESS_LABEL)
    }
    own[MANAGED_BY_LABEL] = MANAGER
    if service["spec"].get("clusterIP") in (None, "", "None"):
        own[HEADLESS_LABEL] = ""
    return own


def _addresses(service: JsonObject, pods: Iterable[JsonObject]) -> list[_Address]:
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    found = []
    for pod in pods:
        ips = pod_addresses(pod, family)
        if not ips or is_finished(pod) or (is_being_deleted(pod) and not publish):
            continue
        address: JsonObject = {"ip": ips[0]}
        optional = {"hostname": hostname_of(service, pod), "nodeName": pod["spec"].get("nodeName")}
        address.update((name, value) for name, value in optional.items() if value)
        address["targetRef"] = target_reference(pod)
        ports = tuple(resolve_ports(service, pod))
        found.append(_Address(ports, publish or is_ready(pod), address))
    return found


def _repack(addresses: Iterable[_Address]) -> list[JsonObject]:
    """One subset per set of ports, all in an order that does not depend on the pods' order."""
    by_ports: dict[Ports, dict[str, list[JsonObject]]] = {}
    for entry in addresses:
        kind = "addresses" if entry.is_ready else "notReadyAddresses"
        by_ports.setdefault(tuple(sorted(entry.ports)), {}).setdefault(kind, []).append(entry.address)
    subsets: list[JsonObject] = []
    for ports, groups in by_ports.items():
        subset: JsonObject = {
            kind: sorted(groups[kind], key=lambda address: (address["ip"], address["targetRef"]["uid"]))
            for kind in ("addresses", "notReadyAddresses")
            if kind in groups
        }
        if ports:
            # the name of a Service's only port is empty, and Endpoints leave an empty name out
            shown = [port.to_json() for port in ports]
            subset["ports"] = [{key: value for key, value in port.items() if value != ""} for port in shown]
        subsets.append(subset)
    return sorted(
        subsets, key=lambda subset: hashlib.sha256(msgspec.json.encode(subset.get("ports"))).digest()
    )

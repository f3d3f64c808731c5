"""The Endpoints object that a Service should have: pure.

Rules: the endpoints controller of Kubernetes 1.36. Only the Service's first address family; pods on their way
out are left out unless not-ready addresses are published; at most 1,000 addresses, ready ones first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from nodeport.api.meta import JsonObject, is_being_deleted, labels
from nodeport.controllers.endpointslice.desired import (
    Port,
    Ports,
    hostname_of,
    pod_addresses,
    port_resolver,
    target_reference,
)
from nodeport.controllers.selection import is_finished, is_ready

MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
HEADLESS_LABEL = "service.kubernetes.io/headless"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_ADDRESSES = 1000


_READY, _NOT_READY = "addresses", "notReadyAddresses"
_Addresses = dict[str, list[JsonObject]]
"""By ``_READY`` and ``_NOT_READY``."""


def plan_endpoints(
    service: JsonObject, pods: Iterable[JsonObject], existing: JsonObject | None, *, trigger_time: str = ""
) -> JsonObject | None:
    """The object to write, or None when ``existing`` is as it should be."""
    subsets, truncated = _truncated(_repack(_by_ports(service, pods)))
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


def _by_ports(service: JsonObject, pods: Iterable[JsonObject]) -> dict[Ports, _Addresses]:
    """The pods' addresses by the ports they serve; a pod that lacks every port of the Service serves nothing."""
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    is_portless = not service["spec"].get("ports")
    ports_of = port_resolver(service)
    found: dict[Ports, _Addresses] = {}
    for pod in pods:
        ips = pod_addresses(pod, family)
        if not ips or is_finished(pod) or (is_being_deleted(pod) and not publish):
            continue
        ports = ports_of(pod)
        if not ports and not is_portless:
            continue
        kind = _READY if publish or is_ready(pod) else _NOT_READY
        group = found.setdefault(tuple(sorted(ports)), {})
        group.setdefault(kind, []).append(_address(service, pod, ips[0]))
    return found


def _address(service: JsonObject, pod: JsonObject, ip: str) -> JsonObject:
    address: JsonObject = {"ip": ip}
    optional = {"hostname": hostname_of(service, pod), "nodeName": pod["spec"].get("nodeName")}
    address.update((name, value) for name, value in optional.items() if value)
    address["targetRef"] = target_reference(pod)
    return address


def _repack(by_ports: dict[Ports, _Addresses]) -> list[JsonObject]:
    """One subset per set of addresses, with all the ports that exactly these serve: pods that differ in one named
    port share the subset of their other ports. In an order that does not depend on the pods' order.
    """
    served_by: dict[Port | None, set[Ports]] = {}
    for ports in by_ports:
        for port in ports or (None,):
            served_by.setdefault(port, set()).add(ports)
    shared: dict[frozenset[Ports], list[Port]] = {}
    for served, groups in served_by.items():
        shared.setdefault(frozenset(groups), []).extend([served] if served is not None else [])
    subsets = ((sorted(ports), [by_ports[group] for group in groups]) for groups, ports in shared.items())
    return [_subset(ports, groups) for ports, groups in sorted(subsets, key=lambda subset: subset[0])]


def _subset(ports: list[Port], groups: Iterable[_Addresses]) -> JsonObject:
    subset: JsonObject = {}
    for kind in (_READY, _NOT_READY):
        addresses = [address for group in groups for address in group.get(kind, ())]
        if addresses:
            subset[kind] = sorted(addresses, key=lambda address: (address["ip"], address["targetRef"]["uid"]))
    if ports:
        # the name of a Service's only port is empty, and Endpoints leave an empty name out
        shown = [port.to_json() for port in ports]
        subset["ports"] = [{key: value for key, value in port.items() if value != ""} for port in shown]
    return subset


def _truncated(subsets: list[JsonObject]) -> tuple[list[JsonObject], bool]:
    """At most ``MAX_ADDRESSES`` in all, each subset its proportion, ready ones first; and whether some were cut."""
    ready, not_ready = (sum(len(subset.get(kind, ())) for subset in subsets) for kind in (_READY, _NOT_READY))
    if ready + not_ready <= MAX_ADDRESSES:
        return subsets, False
    cut, total, room = (
        (_READY, ready, MAX_ADDRESSES)
        if ready > MAX_ADDRESSES
        else (_NOT_READY, not_ready, MAX_ADDRESSES - ready)
    )
    left = room
    kept: list[JsonObject] = []
    for subset in subsets:
        addresses = subset.get(cut, [])
        share = min(left, math.ceil(len(addresses) / total * room))
        left -= min(share, len(addresses))
        kept.append(_cut(subset, cut, addresses[:share]))
    return [subset for subset in kept if subset.get(_READY) or subset.get(_NOT_READY)], True


def _cut(subset: JsonObject, kind: str, addresses: list[JsonObject]) -> JsonObject:
    """Where even the ready ones are too many, none that is not ready stays."""
    dropped = (_READY, _NOT_READY) if kind == _READY else (_NOT_READY,)
    rest = {key: value for key, value in subset.items() if key not in dropped}
    return {kind: addresses, **rest} if addresses else rest

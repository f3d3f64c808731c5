"""The slices that mirror an Endpoints object: pure.

Rules: the EndpointSlice mirroring controller of Kubernetes 1.36. One slice per set of ports and address family;
at most ``maximum`` addresses of a subset; labels and annotations are those of the Endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject, controller_of, is_being_deleted, labels
from nodeport.api.meta import annotations as annotations_of
from nodeport.api.resources import ENDPOINTS
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.endpointslice.desired import Port, PortGroup, Ports, canonical_ip, key_of
from nodeport.controllers.endpointslice.reconcile import (
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    TRIGGER_TIME,
    name_prefix,
)
from nodeport.controllers.ownership import controller_reference

MANAGER = "endpointslicemirroring-controller.k8s.io"
DEFAULT_MAX_ENDPOINTS_PER_SUBSET = 1000

_SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = (TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration")

_Key = tuple[str, Ports]
"""Address family and sorted ports."""


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """``events`` are reasons and messages: what could not be mirrored."""

    slices: SlicePlan
    events: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Wanted:
    groups: dict[_Key, PortGroup] = field(default_factory=dict)
    invalid: int = 0
    skipped: int = 0


@dataclass(slots=True)
class _Writes:
    create: list[JsonObject] = field(default_factory=list)
    update: list[JsonObject] = field(default_factory=list)
    delete: list[JsonObject] = field(default_factory=list)


def is_to_be_mirrored(endpoints: JsonObject | None, service: JsonObject | None) -> bool:
    """Somebody wrote them for a Service that selects no pods, and does not forbid it; records of leader elections
    of old are no endpoints.
    """
    if endpoints is None or service is None or service["spec"].get("selector"):
        return False
    return labels(endpoints).get(_SKIP_LABEL) != "true" and _LEADER not in annotations_of(endpoints)


def plan_mirror(
    endpoints: JsonObject,
    existing: Iterable[JsonObject],
    *,
    maximum: int = DEFAULT_MAX_ENDPOINTS_PER_SUBSET,
) -> MirrorPlan:
    """``existing``: the slices of that name which this controller manages."""
    wanted = _wanted(endpoints, maximum)
    writes = _Writes()
    by_key: dict[_Key, list[JsonObject]] = {key: [] for key in wanted.groups}
    orphans = []
    for found in existing:
        if is_being_deleted(found):
            continue
        if (controller_of(found) or {}).get("uid") == endpoints["metadata"]["uid"]:
            ports = tuple(sorted(Port.of(port) for port in found.get("ports") or ()))
            by_key.setdefault((found["addressType"], ports), []).append(found)
        else:
            orphans.append(found)
    for key, slices in by_key.items():
        group = wanted.groups.get(key)
        shown = list(group.endpoints.values())[:maximum] if group is not None else []
        _mirror_group(writes, endpoints, key, PortGroup(()) if group is None else group, shown, slices)
    _reuse_deleted(writes)
    create = () if is_being_deleted(endpoints) else tuple(writes.create)
    plan = SlicePlan(create, tuple(writes.update), (*writes.delete, *orphans))
    return MirrorPlan(plan, tuple(_events(wanted, maximum)))


def _wanted(endpoints: JsonObject, maximum: int) -> _Wanted:
    wanted = _Wanted()
    for subset in endpoints.get("subsets") or ():
        ports = tuple(Port.of(port) for port in subset.get("ports") or ())
        listed = [
            (address, kind == "addresses")
            for kind in ("addresses", "notReadyAddresses")
            for address in subset.get(kind) or ()
        ]
        taken = 0
        for address, is_ready in listed:
            if taken >= maximum:
                break
            family, ip = canonical_ip(address.get("ip") or "")
            if not family:
                wanted.invalid += 1
                continue
            endpoint = _endpoint(address, ip, is_ready=is_ready)
            group = wanted.groups.setdefault((family, tuple(sorted(ports))), PortGroup(ports))
            group.endpoints[key_of(endpoint)] = endpoint
            taken += 1
        wanted.skipped += len(listed) - taken
    return wanted


def _endpoint(address: JsonObject, ip: str, *, is_ready: bool) -> JsonObject:
    endpoint: JsonObject = {"addresses": [ip], "conditions": {"ready": is_ready}}
    optional = {name: address.get(name) for name in ("targetRef", "nodeName", "hostname")}
    endpoint.update((name, value) for name, value in optional.items() if value)
    return endpoint


def _mirror_group(
    writes: _Writes,
    owner: JsonObject,
    key: _Key,
    group: PortGroup,
    shown: list[JsonObject],
    slices: list[JsonObject],
) -> None:
    """All of one family and set of ports is in one slice."""
    if not shown:
        writes.delete += slices
        return
    if not slices:
        writes.create.append(_new(owner, key[0], group.ports, shown))
        return
    kept, *spare = slices
    writes.delete += spare
    if not _is_mirror(kept, owner, shown):
        writes.update.append({**kept, "metadata": _metadata(owner, kept["metadata"]), "endpoints": shown})


def _is_mirror(found: JsonObject, owner: JsonObject, shown: list[JsonObject]) -> bool:
    """The order of endpoints is no difference."""
    return (
        labels(found) == _labels(owner)
        and annotations_of(found) == _annotations(owner)
        and len(found.get("endpoints") or ()) == len(shown)
        and _by_key(found.get("endpoints") or ()) == _by_key(shown)
    )


def _by_key(endpoints: Iterable[JsonObject]) -> Mapping[object, JsonObject]:
    return {key_of(endpoint): endpoint for endpoint in endpoints}


def _new(owner: JsonObject, family: str, ports: Ports, shown: list[JsonObject]) -> JsonObject:
    meta = owner["metadata"]
    identity = {
        "generateName": name_prefix(meta["name"]),
        "namespace": meta["namespace"],
        "ownerReferences": [controller_reference(ENDPOINTS, owner)],
    }
    return {
        "metadata": _metadata(owner, identity),
        "addressType": family,
        "endpoints": shown,
        "ports": [port.to_json() for port in ports],
    }


def _metadata(owner: JsonObject, base: JsonObject) -> JsonObject:
    metadata = {**base, "labels": _labels(owner), "annotations": _annotations(owner)}
    if not metadata["annotations"]:
        del metadata["annotations"]
    return metadata


def _labels(owner: JsonObject) -> dict[str, str]:
    ours = {SERVICE_NAME_LABEL: owner["metadata"]["name"], MANAGED_BY_LABEL: MANAGER}
    return {**labels(owner), **ours}


def _annotations(owner: JsonObject) -> dict[str, str]:
    return {key: value for key, value in annotations_of(owner).items() if key not in _NOT_COPIED}


def _reuse_deleted(writes: _Writes) -> None:
    """One update is less work for every follower than a deletion and a creation."""
    for new in list(writes.create):
        old = next((found for found in writes.delete if found["addressType"] == new["addressType"]), None)
        if old is not None:
            writes.create.remove(new)
            writes.delete.remove(old)
            metadata = {key: new["metadata"].get(key) for key in ("labels", "annotations")}
            kept = {key: value for key, value in old["metadata"].items() if key != "annotations"}
            given = {key: value for key, value in metadata.items() if value}
            writes.update.append({**old, **new, "metadata": {**kept, **given}})


def _events(wanted: _Wanted, maximum: int) -> Iterable[tuple[str, str]]:
    if wanted.invalid:
        yield (
            "InvalidIPAddress",
            f"Skipped {wanted.invalid} invalid IP addresses when mirroring to EndpointSlices",
        )
    if wanted.skipped > wanted.invalid:
        yield (
            "TooManyAddressesToMirror",
            f"A max of {maximum} addresses can be mirrored to EndpointSlices per Endpoints subset."
            f" {wanted.skipped} addresses were skipped",
        )

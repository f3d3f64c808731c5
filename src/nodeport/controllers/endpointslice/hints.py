"""Which part of the cluster an endpoint is meant for: ``hints`` on the slices of a plan.

Rules: the EndpointSlice controller of Kubernetes 1.36. The annotation for topology mode Auto wins over
``trafficDistribution``. Endpoints that are not ready are never hinted anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from nodeport.api.meta import JsonObject
from nodeport.api.meta import annotations as annotations_of
from nodeport.controllers.endpointslice.changes import SliceChanges
from nodeport.controllers.endpointslice.topology import (
    NO_ZONE,
    Allocation,
    NoHints,
    Shares,
    ZoneHints,
    allocate,
    fitting_zones,
    redistribution,
)

_MODE = "service.kubernetes.io/topology-mode"
_OLD_MODE = "service.kubernetes.io/topology-aware-hints"
_NEAR = ("PreferClose", "PreferSameZone", "PreferSameNode")


def wants_auto(service: JsonObject) -> bool:
    """Whether the Service asks for topology mode Auto; the older annotation counts alone where it is given."""
    notes = annotations_of(service)
    return notes.get(_OLD_MODE, notes.get(_MODE)) in ("Auto", "auto")


def apply_hints(changes: SliceChanges, service: JsonObject, shares: Shares | None) -> ZoneHints | None:
    """Hint the slices of one address type; what came of topology mode Auto, None where it is not wanted."""
    outcome = _apply(changes, service, shares)
    changes.put_back_unchanged()
    return outcome


def _apply(changes: SliceChanges, service: JsonObject, shares: Shares | None) -> ZoneHints | None:
    distribution = service["spec"].get("trafficDistribution") or ""
    if wants_auto(service):
        try:
            return ZoneHints(_assign_zones(changes, shares))
        except NoHints as impossible:
            _remove_hints(changes)
            return ZoneHints({}, str(impossible))
    if distribution in _NEAR:
        _prefer_near(changes, with_nodes=distribution == "PreferSameNode")
    else:
        _remove_hints(changes)
    return None


def _prefer_near(changes: SliceChanges, *, with_nodes: bool) -> None:
    """Each ready endpoint is for its own zone, and with ``with_nodes`` for its own node as well."""

    def hinted(endpoint: JsonObject) -> JsonObject:
        return (
            _with_hints(endpoint, _own(endpoint, with_nodes=with_nodes)) if _is_ready(endpoint) else endpoint
        )

    for kept in list(changes.kept):
        if any(hinted(endpoint) is not endpoint for endpoint in kept.get("endpoints") or ()):
            changes.take_up(kept)
    for written in changes.written():
        written["endpoints"] = [hinted(endpoint) for endpoint in written["endpoints"]]


def _own(endpoint: JsonObject, *, with_nodes: bool) -> JsonObject:
    hints: JsonObject = {"forZones": [{"name": endpoint["zone"]}]} if endpoint.get("zone") else {}
    if with_nodes and endpoint.get("nodeName"):
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


def _remove_hints(changes: SliceChanges) -> None:
    for kept in list(changes.kept):
        if any(endpoint.get("hints") is not None for endpoint in kept.get("endpoints") or ()):
            changes.take_up(kept)
    for written in changes.written():
        written["endpoints"] = [_with_hints(endpoint, {}) for endpoint in written["endpoints"]]


def _assign_zones(changes: SliceChanges, shares: Shares | None) -> Mapping[str, int]:
    """Give the zones their endpoints, moving as few as possible; how many each has then."""
    everything = [*changes.written(), *changes.kept]
    allocations = allocate(shares, sum(1 for found in everything for _ in _ready(found)))
    counts, unfit = _untouched(changes, allocations)
    if any(not endpoint.get("zone") for found in (*changes.written(), *unfit) for endpoint in _ready(found)):
        raise NoHints(NO_ZONE)
    for kept in unfit:
        changes.take_up(kept)
    own = Counter(endpoint["zone"] for written in changes.written() for endpoint in _ready(written))
    giving, receiving = redistribution(allocations, counts + own)
    takers = receiving.elements()
    for written in changes.written():
        written["endpoints"] = [_for_zone(endpoint, giving, takers) for endpoint in written["endpoints"]]
        counts.update(zone for endpoint in _ready(written) for zone in _zones(endpoint))
    return dict(counts)


def _untouched(
    changes: SliceChanges, allocations: Mapping[str, Allocation]
) -> tuple[Counter[str], list[JsonObject]]:
    """What the kept slices give to each zone already, and those of them that must be hinted anew."""
    counts: Counter[str] = Counter()
    unfit: list[JsonObject] = []
    for kept in changes.kept:
        fitting = fitting_zones((_zones(endpoint) for endpoint in _ready(kept)), counts, allocations)
        if fitting is None:
            unfit.append(kept)
        else:
            counts += fitting
    return counts, unfit


def _for_zone(endpoint: JsonObject, giving: Counter[str], takers: Iterator[str]) -> JsonObject:
    if not _is_ready(endpoint):
        return endpoint
    zone = endpoint["zone"]
    if giving[zone] > 0:
        giving[zone] -= 1
        zone = next(takers)
    return _with_hints(endpoint, {"forZones": [{"name": zone}]})


def _ready(found: JsonObject) -> Iterator[JsonObject]:
    return (endpoint for endpoint in found.get("endpoints") or () if _is_ready(endpoint))


def _is_ready(endpoint: JsonObject) -> bool:
    return bool((endpoint.get("conditions") or {}).get("ready"))


def _zones(endpoint: JsonObject) -> list[str]:
    return [zone.get("name") or "" for zone in (endpoint.get("hints") or {}).get("forZones") or ()]


def _with_hints(endpoint: JsonObject, hints: JsonObject) -> JsonObject:
    """The endpoint with exactly these hints, itself when it has them."""
    if hints:
        return endpoint if endpoint.get("hints") == hints else {**endpoint, "hints": hints}
    if endpoint.get("hints") is None:
        return endpoint
    return {key: value for key, value in endpoint.items() if key != "hints"}

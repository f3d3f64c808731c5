"""From the slices a Service has to the slices it should have, in as few writes as possible: pure.

Per address type and list of ports: endpoints stay where they are; slices that change anyway are filled,
fullest first; the rest goes into the one untouched slice it fills best, else into new ones. Slices are never
rebalanced. New slices take over objects that would be deleted. An empty plan means settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject, labels
from nodeport.api.resources import SERVICES
from nodeport.controllers.endpointslice.desired import (
    EndpointKey,
    Port,
    Ports,
    desired_endpoints,
    key_of,
)
from nodeport.controllers.ownership import controller_reference

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MANAGER = "endpointslice-controller.k8s.io"
DEFAULT_MAX_ENDPOINTS = 100

_RESERVED_LABELS = (SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL)
_NAME_ROOM = 58


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """What to write: create, then update, then delete."""

    create: tuple[JsonObject, ...] = ()
    update: tuple[JsonObject, ...] = ()
    delete: tuple[JsonObject, ...] = ()
    is_missing_nodes: bool = False

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


@dataclass(slots=True)
class _Changes:
    """The plan of one address type while it grows; ``kept`` are the slices that stay untouched."""

    create: list[JsonObject] = field(default_factory=list)
    update: list[JsonObject] = field(default_factory=list)
    delete: list[JsonObject] = field(default_factory=list)
    kept: list[JsonObject] = field(default_factory=list)


def plan_slices(
    service: JsonObject,
    pods: Sequence[JsonObject],
    zones: Mapping[str, str],
    existing: Iterable[JsonObject],
    *,
    trigger_time: str = "",
    max_endpoints: int = DEFAULT_MAX_ENDPOINTS,
) -> SlicePlan:
    """``existing``: this controller's slices for the Service; ``zones``: node name to zone, empty for none."""
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    by_type: dict[str, list[JsonObject]] = {family: [] for family in families}
    delete: list[JsonObject] = []
    for found in existing:
        by_type.get(found["addressType"], delete).append(found)
    create: list[JsonObject] = []
    update: list[JsonObject] = []
    missing = False
    for family, slices in by_type.items():
        desired = desired_endpoints(service, pods, zones, family)
        missing |= desired.is_missing_nodes
        packer = _Packer(service, family, max_endpoints)
        changes = packer.pack(desired.groups, slices)
        create += changes.create
        update += changes.update
        delete += changes.delete
    stamped = [[_stamp(written, trigger_time) for written in group] for group in (create, update)]
    return SlicePlan(tuple(stamped[0]), tuple(stamped[1]), tuple(delete), is_missing_nodes=missing)


def slice_labels(service: JsonObject) -> dict[str, str]:
    """The Service's own labels and ours, which win."""
    own = {key: value for key, value in labels(service).items() if key not in _RESERVED_LABELS}
    own[SERVICE_NAME_LABEL] = service["metadata"]["name"]
    own[MANAGED_BY_LABEL] = MANAGER
    if service["spec"].get("clusterIP") in (None, "", "None"):
        own[HEADLESS_LABEL] = ""
    return own


@dataclass(frozen=True, slots=True)
class _Packer:
    service: JsonObject
    family: str
    maximum: int

    def pack(
        self, groups: Mapping[Ports, Mapping[EndpointKey, JsonObject]], slices: Iterable[JsonObject]
    ) -> _Changes:
        """All groups of one address type, and the placeholder that stands for none."""
        by_ports: dict[Ports, list[JsonObject]] = {ports: [] for ports in groups}
        changes = _Changes()
        for found in slices:
            ports = tuple(Port.of(port) for port in found.get("ports") or ())
            by_ports.setdefault(ports, []).append(found)
        for ports, found_slices in by_ports.items():
            self._pack_group(changes, ports, dict(groups.get(ports, {})), found_slices)
        if not (changes.create or changes.update or changes.kept):
            self._keep_placeholder(changes)
        _reuse_deleted(changes)
        return changes

    def _pack_group(
        self,
        changes: _Changes,
        ports: Ports,
        missing: dict[EndpointKey, JsonObject],
        slices: Iterable[JsonObject],
    ) -> None:
        changing: list[JsonObject] = []
        untouched: list[JsonObject] = []
        for found in slices:
            kept, is_changed = _keep(found, missing)
            if not kept:
                changes.delete.append(found)
            elif is_changed or not self._has_our_metadata(found):
                changing.append(self._with_endpoints(found, kept))
            else:
                untouched.append(found)
        rest = list(missing.values())
        for open_slice in sorted(changing, key=lambda s: len(s["endpoints"]), reverse=True):
            room = max(0, self.maximum - len(open_slice["endpoints"]))
            open_slice["endpoints"] += rest[:room]
            rest = rest[room:]
        if rest and len(rest) < self.maximum:
            best = _best_fit(untouched, len(rest), self.maximum)
            if best is not None:
                untouched.remove(best)
                changing.append(self._with_endpoints(best, [*best["endpoints"], *rest]))
                rest = []
        for start in range(0, len(rest), self.maximum):
            changes.create.append(self._new(ports, rest[start : start + self.maximum]))
        changes.update += changing
        changes.kept += untouched

    def _keep_placeholder(self, changes: _Changes) -> None:
        """A Service without endpoints still has a slice, so that followers know it was looked at."""
        for found in changes.delete:
            is_empty = not (found.get("endpoints") or found.get("ports"))
            if is_empty and self._has_our_metadata(found):
                changes.delete.remove(found)
                changes.kept.append(found)
                return
        changes.create.append(self._new((), []))

    def _new(self, ports: Ports, endpoints: list[JsonObject]) -> JsonObject:
        meta = self.service["metadata"]
        return {
            "metadata": {
                "generateName": f"{meta['name'][:_NAME_ROOM]}-",
                "namespace": meta["namespace"],
                "labels": slice_labels(self.service),
                "ownerReferences": [controller_reference(SERVICES, self.service)],
            },
            "addressType": self.family,
            "endpoints": endpoints,
            "ports": [port.to_json() for port in ports],
        }

    def _with_endpoints(self, found: JsonObject, endpoints: list[JsonObject]) -> JsonObject:
        metadata = {
            **found["metadata"],
            "labels": slice_labels(self.service),
            "ownerReferences": [controller_reference(SERVICES, self.service)],
        }
        return {**found, "metadata": metadata, "endpoints": endpoints}

    def _has_our_metadata(self, found: JsonObject) -> bool:
        owners = found["metadata"].get("ownerReferences") or []
        reference = controller_reference(SERVICES, self.service)
        return labels(found) == slice_labels(self.service) and reference in owners


def _keep(found: JsonObject, missing: dict[EndpointKey, JsonObject]) -> tuple[list[JsonObject], bool]:
    """What stays in this slice, in its newest form, and whether that changes it; kept ones leave ``missing``."""
    kept: list[JsonObject] = []
    is_changed = False
    for endpoint in found.get("endpoints") or ():
        wanted = missing.pop(key_of(endpoint), None)
        if wanted is None:
            is_changed = True
            continue
        is_changed = is_changed or wanted != endpoint
        kept.append(wanted)
    return kept, is_changed


def _best_fit(slices: Iterable[JsonObject], additional: int, maximum: int) -> JsonObject | None:
    """The slice that would be fullest afterwards, of those that can take them all."""
    fitting = [found for found in slices if len(found["endpoints"]) + additional <= maximum]
    return max(fitting, key=lambda found: len(found["endpoints"]), default=None)


def _reuse_deleted(changes: _Changes) -> None:
    """One update is less work for every follower than a deletion and a creation."""
    while changes.create and changes.delete:
        new, old = changes.create.pop(), changes.delete.pop()
        metadata = {
            **old["metadata"],
            "labels": new["metadata"]["labels"],
            "ownerReferences": new["metadata"]["ownerReferences"],
        }
        changes.update.append({**old, **new, "metadata": metadata})


def _stamp(written: JsonObject, trigger_time: str) -> JsonObject:
    """Note what set this change off, or take an outdated note away."""
    notes = dict(written["metadata"].get("annotations") or {})
    notes.pop(TRIGGER_TIME, None)
    if trigger_time:
        notes[TRIGGER_TIME] = trigger_time
    metadata = {key: value for key, value in written["metadata"].items() if key != "annotations"}
    if notes:
        metadata["annotations"] = notes
    return {**written, "metadata": metadata}

"""From the slices a Service has to the slices it should have, in as few writes as possible: pure.

Per address type and set of ports: endpoints stay where they are; slices that change anyway are filled, fullest
first; the rest goes into new slices as long as it fills them, and what is left over then into the one untouched
slice that it fills best, else into a new one. Slices are never rebalanced. New slices take over objects that
would be deleted. Whoever came from a former Service of the same name is left to nobody. An empty plan means
settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject, is_being_deleted, labels, owner_references
from nodeport.api.names import dns_subdomain
from nodeport.api.resources import SERVICES
from nodeport.controllers.endpointslice.changes import SliceChanges, SlicePlan
from nodeport.controllers.endpointslice.desired import (
    EndpointKey,
    Port,
    PortGroup,
    Ports,
    desired_endpoints,
    key_of,
)
from nodeport.controllers.endpointslice.hints import apply_hints
from nodeport.controllers.endpointslice.topology import Shares, ZoneHints
from nodeport.controllers.ownership import controller_reference

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MANAGER = "endpointslice-controller.k8s.io"
DEFAULT_MAX_ENDPOINTS = 100
LARGEST_MAX_ENDPOINTS = 1000

_RESERVED_LABELS = (SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL)


def plan_slices(
    service: JsonObject,
    pods: Sequence[JsonObject],
    zones: Mapping[str, str],
    existing: Iterable[JsonObject],
    *,
    shares: Shares | None = None,
    trigger_time: str = "",
    max_endpoints: int = DEFAULT_MAX_ENDPOINTS,
) -> SlicePlan:
    """``existing``: this controller's slices for the Service; ``zones``: node name to zone, empty for none;
    ``shares``: what topology mode Auto goes by.
    """
    by_type: dict[str, list[JsonObject]] = {family: [] for family in families_of(service)}
    delete: list[JsonObject] = []
    for found in existing:
        if not is_being_deleted(found):
            by_type.get(found["addressType"], delete).append(found)
    create: list[JsonObject] = []
    update: list[JsonObject] = []
    nodeless: dict[str, None] = {}
    zone_hints: dict[str, ZoneHints | None] = {}
    for family, slices in by_type.items():
        desired = desired_endpoints(service, pods, zones, family)
        nodeless.update(dict.fromkeys(desired.nodeless))
        changes = _Packer(service, family, max_endpoints).pack(desired.groups, slices)
        zone_hints[family] = apply_hints(changes, service, shares)
        create += changes.create
        update += changes.update
        delete += changes.delete + changes.orphans
    if is_being_deleted(service):
        create = []  # the garbage collector would race with us
    create, update = ([_stamp(written, trigger_time) for written in group] for group in (create, update))
    return SlicePlan(tuple(create), tuple(update), tuple(delete), tuple(nodeless), zone_hints)


def families_of(service: JsonObject) -> list[str]:
    """The address types its slices are to have."""
    return service["spec"].get("ipFamilies") or ["IPv4"]


def name_prefix(owner: str) -> str:
    """What the names of an owner's slices begin with: the dash only where a name can still be made of it."""
    return f"{owner}-" if not dns_subdomain(f"{owner}a") else owner


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

    def pack(self, groups: Mapping[Ports, PortGroup], slices: Iterable[JsonObject]) -> SliceChanges:
        """All groups of one address type, and the placeholder that stands for none."""
        by_ports: dict[Ports, list[JsonObject]] = {ports: [] for ports in groups}
        changes = SliceChanges()
        for found in slices:
            if self._is_ours(found):
                ports = tuple(sorted(Port.of(port) for port in found.get("ports") or ()))
                by_ports.setdefault(ports, []).append(found)
            else:
                changes.orphans.append(found)
        for ports, found_slices in by_ports.items():
            self._pack_group(changes, groups.get(ports) or PortGroup(ports), found_slices)
        if not (changes.create or changes.update or changes.kept):
            self._keep_placeholder(changes)
        _reuse_deleted(changes)
        return changes

    def _pack_group(self, changes: SliceChanges, group: PortGroup, slices: Iterable[JsonObject]) -> None:
        missing = dict(group.endpoints)
        changing: list[JsonObject] = []
        untouched: list[JsonObject] = []
        for found in slices:
            kept, is_changed = _keep(found, missing)
            if not kept:
                changes.delete.append(found)
            elif is_changed or labels(found) != slice_labels(self.service):
                changing.append(self._with_endpoints(found, kept))
            else:
                untouched.append(found)
        rest = list(missing.values())
        for open_slice in sorted(changing, key=_size, reverse=True):
            room = max(0, self.maximum - _size(open_slice))
            open_slice["endpoints"] += rest[:room]
            rest = rest[room:]
        while rest:
            best = _best_fit(untouched, len(rest), self.maximum)
            if best is not None:
                untouched.remove(best)
                changing.append(self._with_endpoints(best, [*best["endpoints"], *rest]))
                break
            changes.create.append(self._new(group.ports, rest[: self.maximum]))
            rest = rest[self.maximum :]
        changes.update += changing
        changes.kept += untouched

    def _keep_placeholder(self, changes: SliceChanges) -> None:
        """A Service without endpoints still has a slice, so that followers know it was looked at."""
        for found in changes.delete:
            is_empty = not (found.get("endpoints") or found.get("ports"))
            if is_empty and labels(found) == slice_labels(self.service):
                changes.delete.remove(found)
                changes.kept.append(found)
                return
        changes.create.append(self._new((), []))

    def _new(self, ports: Ports, endpoints: list[JsonObject]) -> JsonObject:
        meta = self.service["metadata"]
        return {
            "metadata": {
                "generateName": name_prefix(meta["name"]),
                "namespace": meta["namespace"],
                "labels": slice_labels(self.service),
                "ownerReferences": [controller_reference(SERVICES, self.service)],
            },
            "addressType": self.family,
            "endpoints": endpoints,
            "ports": [port.to_json() for port in ports],
        }

    def _with_endpoints(self, found: JsonObject, endpoints: list[JsonObject]) -> JsonObject:
        metadata = {**found["metadata"], "labels": slice_labels(self.service)}
        return {**found, "metadata": metadata, "endpoints": endpoints}

    def _is_ours(self, found: JsonObject) -> bool:
        uid = self.service["metadata"]["uid"]
        return any(
            (owner.get("uid"), owner.get("kind"), owner.get("apiVersion")) == (uid, "Service", "v1")
            for owner in owner_references(found)
        )


def _keep(found: JsonObject, missing: dict[EndpointKey, JsonObject]) -> tuple[list[JsonObject], bool]:
    """What stays in this slice, in its newest form, and whether that changes it; kept ones leave ``missing``."""
    kept: list[JsonObject] = []
    is_changed = False
    for endpoint in found.get("endpoints") or ():
        wanted = missing.pop(key_of(endpoint), None)
        if wanted is None:
            is_changed = True
            continue
        is_changed = is_changed or not _is_same(wanted, endpoint)
        kept.append(wanted)
    return kept, is_changed


def _is_same(wanted: JsonObject, endpoint: JsonObject) -> bool:
    """Hints apart: they are a matter of all endpoints together."""
    if wanted == endpoint:
        return True
    return wanted == {key: value for key, value in endpoint.items() if key != "hints"}


def _size(found: JsonObject) -> int:
    return len(found["endpoints"])


def _best_fit(slices: Iterable[JsonObject], additional: int, maximum: int) -> JsonObject | None:
    """The slice that would be fullest afterwards, of those that can take them all; none for a slice's worth."""
    if additional >= maximum:
        return None
    fitting = [found for found in slices if _size(found) + additional <= maximum]
    return max(fitting, key=_size, default=None)


def _reuse_deleted(changes: SliceChanges) -> None:
    """One update is less work for every follower than a deletion and a creation."""
    while changes.create and changes.delete:
        new, old = changes.create.pop(), changes.delete.pop()
        metadata = {**old["metadata"], "labels": new["metadata"]["labels"]}
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

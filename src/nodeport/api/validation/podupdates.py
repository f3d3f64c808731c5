"""Rules on changes of Pods: a pod's spec is fixed but for a few fields, and its status goes one way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.status import FieldError, forbidden, invalid, required
from nodeport.api.validation.meta import immutable
from nodeport.api.validation.pods import validate_pod_content
from nodeport.api.validation.scheduling import validate_tolerations

_MOST_SECONDS = 2**31 - 1
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_COUNT_TEXT = "pod updates may not add or remove containers"
_LEFT_OUT: tuple[Any, ...] = (None, "", [], {}, False, 0)


def validate_pod_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_pod_content(new)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or []) != len(before.get(field) or []):
            yield forbidden(f"spec.{field}", _COUNT_TEXT)
            return
        yield from _images(spec.get(field) or [], f"spec.{field}")
    errors = list(_deadline_update(spec, before))
    yield from errors
    if errors and spec.get("activeDeadlineSeconds") is not None:
        return
    yield from _only_added(spec, before)
    yield from _only_deleted_gates(spec, before)
    munged = _munged(spec, before)
    if before.get("schedulingGates"):
        yield from _gated_changes(munged, before)
    if changed := [field for field in sorted({*munged, *before}) if not alike(munged, before, field)]:
        yield forbidden("spec", f"{_UPDATE_TEXT}\n{difference('PodSpec', munged, before, changed)}")


def _images(containers: list[JsonObject], path: str) -> Iterator[FieldError]:
    for index, container in enumerate(containers):
        image = container.get("image") or ""
        if not image:
            yield required(f"{path}[{index}].image")
        if image != image.strip():
            yield invalid(f"{path}[{index}].image", image, "must not have leading or trailing whitespace")


def _deadline_update(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    path = "spec.activeDeadlineSeconds"
    new, old = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if new is not None:
        if not 0 <= new <= _MOST_SECONDS:
            yield invalid(path, new, f"must be between 0 and {_MOST_SECONDS}, inclusive")
        elif old is not None and old < new:
            yield invalid(path, new, "must be less than or equal to previous value")
    elif old is not None:
        yield invalid(path, None, "must not update from a positive integer to nil value")


def _only_added(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    tolerations = spec.get("tolerations") or []
    for toleration in before.get("tolerations") or []:
        wanted = {**toleration, "tolerationSeconds": None}
        if not any({**other, "tolerationSeconds": None} == wanted for other in tolerations):
            detail = "existing toleration can not be modified except its tolerationSeconds"
            yield forbidden("spec.tolerations", detail)
            return
    yield from validate_tolerations(tolerations, "spec.tolerations")


def _only_deleted_gates(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    known = {gate.get("name") for gate in before.get("schedulingGates") or []}
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        if gate.get("name") not in known:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name') or ''}'"
            yield forbidden(f"spec.schedulingGates[{index}].name", detail)


def _munged(spec: JsonObject, before: JsonObject) -> JsonObject:
    """``spec`` with everything that may change, or was judged already, as it was before."""
    munged: JsonObject = deep_copy(spec)
    for field in ("containers", "initContainers"):
        for container, previous in zip(munged.get(field) or [], before.get(field) or [], strict=True):
            container["image"] = previous.get("image")
    for field in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        munged[field] = before.get(field)
    grace = before.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = grace
    return munged


def _gated_changes(munged: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    """Before it is to be scheduled, a pod may be told more exactly where to go."""
    selector, previous = munged.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in previous.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        yield invalid("spec.nodeSelector", selector, detail)
    munged["nodeSelector"] = before.get("nodeSelector")
    affinity, earlier = munged.get("affinity") or {}, before.get("affinity") or {}
    if not earlier.get("nodeAffinity") and affinity.get("nodeAffinity"):
        munged["affinity"] = {key: value for key, value in affinity.items() if key != "nodeAffinity"}


def alike(spec: JsonObject, before: JsonObject, field: str) -> bool:
    """An absent value is the same as an empty one."""
    value, old = spec.get(field), before.get(field)
    return value == old or (value in _LEFT_OUT and old in _LEFT_OUT)


def difference(kind: str, spec: JsonObject, before: JsonObject, changed: list[str]) -> str:
    """The fields that changed, in the manner of Kubernetes' text, which its authors keep from being parsed."""
    lines = [f"  core.{kind}{{"]
    for field in changed:
        name = field[0].upper() + field[1:]
        for sign, value in (("-", before.get(field)), ("+", spec.get(field))):
            if value not in _LEFT_OUT:
                lines.append(
                    f"{sign} \t{name}: {json.dumps(value, separators=(',', ':'), ensure_ascii=False)},"
                )
    return "\n".join([*lines, "  \t... // other fields are identical", "  }", ""])


def validate_pod_status_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    spec, status, before = new.get("spec") or {}, new.get("status") or {}, old.get("status") or {}
    nominated = status.get("nominatedNodeName") or ""
    if nominated and nominated != before.get("nominatedNodeName"):
        yield from (
            invalid("status.nominatedNodeName", nominated, why) for why in names.dns_subdomain(nominated)
        )
    yield from immutable(status.get("qosClass") or "", before.get("qosClass") or "", "status.qosClass")
    restart = (old.get("spec") or {}).get("restartPolicy") or "Always"
    restarted = {
        container.get("name")
        for container in spec.get("initContainers") or []
        if container.get("restartPolicy") == "Always"
    }
    for field, policy in (
        ("containerStatuses", restart), ("initContainerStatuses", restart), ("ephemeralContainerStatuses", "Never"),
    ):  # fmt: skip
        yield from _transitions(
            status.get(field) or [], before.get(field) or [], policy, restarted, f"status.{field}"
        )
    yield from _addresses(status, "podIPs")
    yield from _addresses(status, "hostIPs")


def _transitions(
    new: list[JsonObject], old: list[JsonObject], policy: str, restarted: set[str | None], path: str
) -> Iterator[FieldError]:
    """What has ended for good does not come to life again."""
    if policy == "Always":
        return
    states = {each.get("name"): each.get("state") or {} for each in new}
    for index, previous in enumerate(old):
        ended = (previous.get("state") or {}).get("terminated")
        if ended is None or previous.get("name") in restarted:
            continue
        if policy == "OnFailure" and ended.get("exitCode"):
            continue
        state = states.get(previous.get("name"))
        if state is not None and state.get("terminated") is None:
            yield forbidden(f"{path}[{index}].state", "may not be transitioned to non-terminated state")


def _addresses(status: JsonObject, field: str) -> Iterator[FieldError]:
    addresses = [entry.get("ip") or "" for entry in status.get(field) or []]
    for index, address in enumerate(addresses):
        yield from (invalid(f"status.{field}[{index}]", address, why) for why in ip.ip_complaints(address))
    if len(addresses) > 1 and len({ip.family(address) for address in addresses}) < len(addresses):
        yield invalid(f"status.{field}", addresses, "may specify no more than one IP for each IP family")

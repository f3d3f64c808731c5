"""Rules on Pods and pod templates: everything but their containers and volumes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, not_supported, required
from nodeport.api.validation.containers import validate_containers
from nodeport.api.validation.meta import validate_labels
from nodeport.api.validation.volumes import validate_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MOST_SECONDS = 2**31 - 1
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_COUNT_TEXT = "pod updates may not add or remove containers"


def validate_pod(pod: JsonObject) -> Iterator[FieldError]:
    return validate_pod_spec(pod.get("spec") or {}, "spec")


def validate_pod_spec(spec: JsonObject, path: str) -> Iterator[FieldError]:
    """A defaulted ``PodSpec``, of a pod or of a template."""
    volumes = spec.get("volumes") or []
    yield from validate_volumes(volumes, f"{path}.volumes")
    known = frozenset(volume.get("name") or "" for volume in volumes)
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    yield from validate_containers(spec, path, known)
    if not spec.get("restartPolicy"):
        yield required(f"{path}.restartPolicy")
    elif spec["restartPolicy"] not in _RESTART_POLICIES:
        yield not_supported(f"{path}.restartPolicy", spec["restartPolicy"], _RESTART_POLICIES)
    if not spec.get("dnsPolicy"):
        yield required(f"{path}.dnsPolicy")
    elif spec["dnsPolicy"] not in _DNS_POLICIES:
        yield not_supported(f"{path}.dnsPolicy", spec["dnsPolicy"], _DNS_POLICIES)
    yield from validate_labels(spec.get("nodeSelector") or {}, f"{path}.nodeSelector")
    yield from _names(spec, path)
    yield from _seconds(spec, path)
    yield from _tolerations(spec.get("tolerations") or [], f"{path}.tolerations")
    for index, alias in enumerate(spec.get("hostAliases") or []):
        text = alias.get("ip") or ""
        yield from (invalid(f"{path}.hostAliases[{index}].ip", text, why) for why in ip.ip_complaints(text))


def _names(spec: JsonObject, path: str) -> Iterator[FieldError]:
    for field, rule in (
        ("serviceAccountName", names.dns_subdomain), ("nodeName", names.dns_subdomain), ("hostname", names.dns_label),
        ("subdomain", names.dns_label), ("priorityClassName", names.dns_subdomain),
        ("runtimeClassName", names.dns_subdomain), ("schedulerName", names.qualified_name),
    ):  # fmt: skip
        value = spec.get(field) or ""
        if value:
            yield from (invalid(f"{path}.{field}", value, why) for why in rule(value))


def _seconds(spec: JsonObject, path: str) -> Iterator[FieldError]:
    deadline, grace = spec.get("activeDeadlineSeconds"), spec.get("terminationGracePeriodSeconds")
    if deadline is not None and not 1 <= deadline <= _MOST_SECONDS:
        detail = f"must be between 1 and {_MOST_SECONDS}, inclusive"
        yield invalid(f"{path}.activeDeadlineSeconds", deadline, detail)
    if grace is not None and grace < 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0")


def _tolerations(tolerations: list[JsonObject], path: str) -> Iterator[FieldError]:
    for index, toleration in enumerate(tolerations):
        yield from _toleration(toleration, f"{path}[{index}]")


def _toleration(toleration: JsonObject, path: str) -> Iterator[FieldError]:
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        yield from (invalid(f"{path}.key", key, why) for why in names.qualified_name(key))
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid(f"{path}.operator", operator, detail)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    match operator:
        case "" | "Equal":
            yield from (invalid(f"{path}.operator", value, why) for why in names.label_value(value))
        case "Exists":
            if value:
                yield invalid(
                    f"{path}.operator", toleration, "value must be empty when `operator` is 'Exists'"
                )
        case _:
            yield not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    if effect and effect not in _TAINT_EFFECTS:
        yield not_supported(f"{path}.effect", effect, _TAINT_EFFECTS)


def validate_pod_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """A pod's spec is fixed but for images, deadlines and added tolerations."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or []) != len(before.get(field) or []):
            yield forbidden(f"spec.{field}", _COUNT_TEXT)
            return
        for index, container in enumerate(spec.get(field) or []):
            if not (container.get("image") or "").strip():
                yield required(f"spec.{field}[{index}].image")
    yield from _deadline_update(spec, before)
    if _fixed_part(spec, before) != _fixed_part(before, before):
        yield forbidden("spec", _UPDATE_TEXT)


def _deadline_update(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    path = "spec.activeDeadlineSeconds"
    new, old = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if new is not None:
        if not 1 <= new <= _MOST_SECONDS:
            yield invalid(path, new, f"must be between 1 and {_MOST_SECONDS}, inclusive")
        elif old is not None and old < new:
            yield invalid(path, new, "must be less than or equal to previous value")
    elif old is not None:
        yield invalid(path, None, "must not update from a positive integer to nil value")


def _fixed_part(spec: JsonObject, before: JsonObject) -> JsonObject:
    """``spec`` with everything that may change taken out."""
    fixed: JsonObject = {key: value for key, value in spec.items() if key != "activeDeadlineSeconds"}
    for field in ("containers", "initContainers"):
        if fixed.get(field):
            fixed[field] = [{**container, "image": ""} for container in fixed[field]]
    tolerations: list[Any] = fixed.get("tolerations") or []
    old_tolerations = before.get("tolerations") or []
    kept = all(_tolerated(toleration, tolerations) for toleration in old_tolerations)
    fixed["tolerations"] = [] if kept else "changed"
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") in (
        1, before["terminationGracePeriodSeconds"],
    ):  # fmt: skip
        fixed["terminationGracePeriodSeconds"] = 1
    return {key: value for key, value in fixed.items() if value not in (None, "", [], False, 0)}


def _tolerated(toleration: JsonObject, tolerations: list[Any]) -> bool:
    """Whether it is still there; its seconds may have changed."""
    wanted = {**toleration, "tolerationSeconds": None}
    return any({**other, "tolerationSeconds": None} == wanted for other in tolerations)


def validate_pod_status_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    addresses = [entry.get("ip") or "" for entry in (new.get("status") or {}).get("podIPs") or []]
    for index, address in enumerate(addresses):
        yield from (invalid(f"status.podIPs[{index}]", address, why) for why in ip.ip_complaints(address))
    if len(addresses) > 1 and len({ip.family(address) for address in addresses}) < len(addresses):
        yield invalid("status.podIPs", addresses, "may specify no more than one IP for each IP family")

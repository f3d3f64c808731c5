"""Rules on the two ways to change what runs in a pod: /ephemeralcontainers adds containers, /resize gives them more or
less of cpu and memory. Each keeps everything else of the pod as it is before these rules are asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api.meta import JsonObject
from nodeport.api.pods import qos_class
from nodeport.api.quantity import parse_quantity
from nodeport.api.status import FieldError, forbidden, go_quoted, invalid
from nodeport.api.validation.pods import validate_pod_content
from nodeport.api.validation.podupdates import alike, difference

EPHEMERAL_CONTAINERS, RESIZE = "ephemeralcontainers", "resize"
MIRROR = "kubernetes.io/config.mirror"
RESIZED = ("cpu", "memory")
_LISTS = ("containers", "initContainers")
_ONLY = "only cpu and memory resources are mutable"


def keep_but_ephemeral_containers(new: JsonObject, old: JsonObject) -> None:
    """All of ``new`` but its ephemeral containers is as it was in ``old``."""
    added = (new.get("spec") or {}).get("ephemeralContainers")
    new["spec"] = {**old["spec"], "ephemeralContainers": added}
    if not added:
        del new["spec"]["ephemeralContainers"]


def keep_but_resources(new: JsonObject, old: JsonObject) -> None:
    """All of ``new`` but the amounts of its containers is as it was. Other containers are left to be judged."""
    spec = new.get("spec") or {}
    if any(len(spec.get(field) or []) != len(old["spec"].get(field) or []) for field in _LISTS):
        return
    kept: JsonObject = dict(old["spec"])
    for field in _LISTS:
        if field in old["spec"] and spec.get(field):
            kept[field] = _resized(spec[field], old["spec"][field])
    new["spec"] = kept


def _resized(containers: list[JsonObject], before: list[JsonObject]) -> list[JsonObject]:
    pairs = list(zip(containers, before, strict=True))
    if any(container.get("name") != previous["name"] for container, previous in pairs):
        return containers
    made = []
    for container, previous in pairs:
        one: JsonObject = {**previous, "resources": container.get("resources") or {}}
        one.pop("resizePolicy", None)
        if container.get("resizePolicy"):
            one["resizePolicy"] = container["resizePolicy"]
        made.append(one)
    return made


def validate_ephemeral_containers(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    if _is_mirror(old):
        yield forbidden("", "static pods do not support ephemeral containers")
        return
    yield from validate_pod_content(new)
    path, known = (
        "spec.ephemeralContainers",
        {each["name"]: each for each in _ephemeral(new) if each.get("name")},
    )
    for before in _ephemeral(old):
        name = go_quoted(before["name"])
        after = known.get(before["name"])
        if after is None:
            yield forbidden(path, f"existing ephemeral containers {name} may not be removed\n")
        elif changed := [field for field in sorted({*before, *after}) if not alike(after, before, field)]:
            told = difference("EphemeralContainer", after, before, changed)
            yield forbidden(path, f"existing ephemeral containers {name} may not be changed\n{told}")


def _ephemeral(pod: JsonObject) -> list[JsonObject]:
    found: list[JsonObject] = (pod.get("spec") or {}).get("ephemeralContainers") or []
    return found


def validate_resize(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    refusal = _never_resized(new, old)
    if refusal:
        yield forbidden("", refusal)
        return
    yield from validate_pod_content(new)
    yield from _resize(new, old)


def _resize(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    spec, before = new["spec"], old["spec"]
    status = old.get("status") or {}
    if qos_class(new) != (status.get("qosClass") or qos_class(old)):
        shown = (new.get("status") or {}).get("qosClass") or ""
        yield invalid("spec", shown, "Pod QOS Class may not change as a result of resizing")
    if not _node_resizes(status):
        yield forbidden("spec", "Pod running on node without support for resize")
    order = [error for field in _LISTS for error in _same_order(spec, before, field)]
    yield from order
    if order:
        return
    for field in ("initContainers", "containers"):
        for index, previous in enumerate(before.get(field) or []):
            if field == "containers" or _is_sidecar(previous):
                where = f"spec.{field}[{index}].resources"
                yield from _removed(spec[field][index], previous, where)
    yield from _other_changes(spec, before)


def _never_resized(new: JsonObject, old: JsonObject) -> str:
    if any(_has_amounts(pod["spec"].get("resources") or {}) for pod in (old, new)):
        return "pods with pod-level resources cannot be resized"
    if _is_mirror(old):
        return "static pods cannot be resized"
    if (old["spec"].get("os") or {}).get("name") == "windows":
        return "windows pods cannot be resized"
    return ""


def _has_amounts(resources: JsonObject) -> bool:
    return bool(resources.get("requests") or resources.get("limits"))


def _is_mirror(pod: JsonObject) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def _node_resizes(status: JsonObject) -> bool:
    """A node that resizes tells what its running containers have."""
    running = (
        each for each in status.get("containerStatuses") or [] if (each.get("state") or {}).get("running")
    )
    first = next(running, None)
    return first is None or first.get("resources") is not None


def _same_order(spec: JsonObject, before: JsonObject, field: str) -> Iterator[FieldError]:
    containers, previous = spec.get(field) or [], before.get(field) or []
    if len(containers) != len(previous):
        yield forbidden(f"spec.{field}", f"{field} may not be added or removed on resize")
        return
    for index, (one, other) in enumerate(zip(containers, previous, strict=True)):
        if one.get("name") != other["name"]:
            yield forbidden(
                f"spec.{field}[{index}].name", f"{field} may not be renamed or reordered on resize"
            )


def _is_sidecar(container: JsonObject) -> bool:
    return container.get("restartPolicy") == "Always"


def _removed(container: JsonObject, previous: JsonObject, path: str) -> Iterator[FieldError]:
    for field in ("requests", "limits"):
        had = (previous.get("resources") or {}).get(field) or {}
        if had.keys() - ((container.get("resources") or {}).get(field) or {}).keys():
            yield forbidden(f"{path}.{field}", f"resource {field} cannot be removed")


def _other_changes(spec: JsonObject, before: JsonObject) -> Iterator[FieldError]:
    for container, previous in zip(spec["containers"], before["containers"], strict=True):
        if _with_amounts_of(container, previous) != _plain(previous):
            yield forbidden("spec", _ONLY)
    initial = zip(spec.get("initContainers") or [], before.get("initContainers") or [], strict=True)
    for container, previous in initial:
        if _is_sidecar(container):
            if _with_amounts_of(container, previous) != _plain(previous):
                yield forbidden("spec", "only cpu and memory resources for sidecar containers are mutable")
        elif _plain(container) != _plain(previous):
            yield forbidden("spec", "resources for non-sidecar init containers are immutable")


def _with_amounts_of(container: JsonObject, previous: JsonObject) -> JsonObject:
    """``container`` with cpu and memory as ``previous`` has them."""
    found = _plain(container)
    for field in ("requests", "limits"):
        had = (previous.get("resources") or {}).get(field) or {}
        amounts = {
            name: text for name, text in found["resources"].get(field, {}).items() if name not in RESIZED
        }
        amounts |= {name: _amount(had[name]) for name in RESIZED if name in had}
        found["resources"][field] = amounts if had else {}
    return found


def _plain(container: JsonObject) -> JsonObject:
    """Amounts as numbers, and always there."""
    resources = container.get("resources") or {}
    found = {
        field: {name: _amount(text) for name, text in (resources.get(field) or {}).items()}
        for field in ("requests", "limits")
    }
    claims = {"claims": resources["claims"]} if resources.get("claims") else {}
    kept = {name: value for name, value in container.items() if name not in ("resources", "resizePolicy")}
    policy = {"resizePolicy": container["resizePolicy"]} if container.get("resizePolicy") else {}
    return {**kept, **policy, "resources": {**found, **claims}}


def _amount(text: object) -> str:
    return str(parse_quantity(str(text)))

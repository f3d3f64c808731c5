"""Rules on ``metadata``: names, labels, annotations, owners, finalizers, and what an update may not touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, required, too_long

NameRule = Callable[[str], tuple[str, ...]]

MOST_ANNOTATION_BYTES = 262_144
_STANDARD_FINALIZERS = frozenset(("kubernetes", "orphan", "foregroundDeletion"))
_IMMUTABLE = "field is immutable"
_FIXED = (
    "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
_NO_OWNERS = frozenset((("v1", "Event"),))


@dataclass(frozen=True, slots=True)
class Again:
    """How often a kind's own rules for updates judge metadata, which the rules of all kinds have judged before: each
    time is one more cause of the same error. ``compared``: what changed and what it is; ``whole``: as on creation.

    ``finalizers`` False: the kind does not ask that finalizers be fully qualified.
    """

    compared: int = 1
    whole: int = 0
    finalizers: bool = True


def validate_meta(
    meta: JsonObject,
    *,
    namespaced: bool,
    name_rule: NameRule,
    finalizers: bool = True,
    path: str = "metadata",
) -> list[FieldError]:
    """Everything that holds for the metadata of a new object. ``finalizers``: they must be fully qualified."""
    return [
        *_name_errors(meta, name_rule, path),
        *_namespace_errors(meta.get("namespace") or "", namespaced, path),
        *_content_errors(meta, path),
        *_finalizer_errors(meta.get("finalizers") or [], f"{path}.finalizers"),
        *(_unqualified_finalizers(meta.get("finalizers") or [], f"{path}.finalizers") if finalizers else ()),
    ]


def _namespace_errors(namespace: str, namespaced: bool, path: str) -> Iterator[FieldError]:
    if not namespaced:
        if namespace:
            yield forbidden(f"{path}.namespace", "not allowed on this type")
    elif not namespace:
        yield required(f"{path}.namespace")
    else:
        for why in names.dns_label(namespace):
            yield invalid(f"{path}.namespace", namespace, why)


def _name_errors(meta: JsonObject, name_rule: NameRule, path: str) -> Iterator[FieldError]:
    generate_name, name = meta.get("generateName") or "", meta.get("name") or ""
    if generate_name:
        masked = (
            generate_name[:-1] + "a" if len(generate_name) > 1 and generate_name[-1] == "-" else generate_name
        )
        for why in name_rule(masked):
            yield invalid(f"{path}.generateName", generate_name, why)
    if not name:
        yield required(f"{path}.name", "name or generateName is required")
    else:
        for why in name_rule(name):
            yield invalid(f"{path}.name", name, why)


def _content_errors(meta: JsonObject, path: str) -> Iterator[FieldError]:
    """What is checked on creation and of every change alike."""
    if (meta.get("generation") or 0) < 0:
        yield invalid(f"{path}.generation", meta["generation"], "must be greater than or equal to 0")
    yield from validate_labels(meta.get("labels") or {}, f"{path}.labels")
    yield from validate_annotations(meta.get("annotations") or {}, f"{path}.annotations")
    yield from _owner_errors(meta.get("ownerReferences") or [], f"{path}.ownerReferences")


def validate_labels(labels: Mapping[str, str], path: str) -> Iterator[FieldError]:
    """Keys and values of labels, also of a Service's selector."""
    for key, value in labels.items():
        for why in names.qualified_name(key):
            yield invalid(path, key, why)
        for why in names.label_value(value):
            yield invalid(path, value, why)


def validate_annotations(annotations: Mapping[str, str], path: str) -> Iterator[FieldError]:
    size = 0
    for key, value in annotations.items():
        for why in names.qualified_name(key.lower()):
            yield invalid(path, key, why)
        size += len(key.encode()) + len(value.encode())
    if size > MOST_ANNOTATION_BYTES:
        yield too_long(path, MOST_ANNOTATION_BYTES)


def _owner_errors(owners: Sequence[JsonObject], path: str) -> Iterator[FieldError]:
    controller = ""
    for owner in owners:
        yield from _one_owner_errors(owner, path)
        if not owner.get("controller"):
            continue
        name = f"{owner.get('kind') or ''}/{owner.get('name') or ''}"
        if controller:
            detail = (
                'Only one reference can have Controller set to true. Found "true" in references for'
                f" {controller} and {name}"
            )
            yield invalid(path, [_as_go_has_it(each) for each in owners], detail)
        controller = controller or name


def _one_owner_errors(owner: JsonObject, path: str) -> Iterator[FieldError]:
    """Which owner it is about is not told."""
    api_version = owner.get("apiVersion") or ""
    if not api_version.rpartition("/")[2]:
        yield invalid(f"{path}.apiVersion", api_version, "version must not be empty")
    for field in ("kind", "name", "uid"):
        if not owner.get(field):
            yield invalid(f"{path}.{field}", owner.get(field) or "", "must not be empty")
    if (api_version, owner.get("kind")) in _NO_OWNERS:
        yield invalid(
            path, _as_go_has_it(owner), f"/v1, Kind={owner['kind']} is disallowed from being an owner"
        )


def _as_go_has_it(owner: JsonObject) -> JsonObject:
    """An owner reference with its fields in the order of their definition."""
    made = {field: owner.get(field) or "" for field in ("apiVersion", "kind", "name", "uid")}
    more = {
        field: owner[field] for field in ("controller", "blockOwnerDeletion") if owner.get(field) is not None
    }
    return {**made, **more}


def _finalizer_errors(finalizers: Sequence[str], path: str) -> Iterator[FieldError]:
    for name in finalizers:
        for why in names.qualified_name(name):
            yield invalid(path, name, why)
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        yield invalid(path, list(finalizers), detail)


def _unqualified_finalizers(finalizers: Sequence[str], path: str) -> Iterator[FieldError]:
    for index, name in enumerate(finalizers):
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            yield invalid(f"{path}[{index}]", name, detail)


def validate_meta_update(
    new: JsonObject,
    old: JsonObject,
    *,
    namespaced: bool,
    name_rule: NameRule,
    again: Again,
    path: str = "metadata",
) -> list[FieldError]:
    """Everything that holds for the metadata of a changed object. Fields that the server itself restores when a client
    leaves them out may be absent from ``new``."""
    content = list(_content_errors(new, path))
    changes = [*_added_finalizers(new, old, path), *_forbidden_changes(new, old, path), *content]
    finalizers = list(_finalizer_errors(new.get("finalizers") or [], f"{path}.finalizers"))
    unqualified = (
        list(_unqualified_finalizers(new.get("finalizers") or [], f"{path}.finalizers"))
        if again.finalizers
        else []
    )
    place = list(_namespace_errors(new.get("namespace") or "", namespaced, path))
    every_kind = [*_name_errors(new, names.path_segment, path), *place, *content, *finalizers, *changes]
    whole = [*_name_errors(new, name_rule, path), *place, *content, *finalizers, *unqualified]
    return [*every_kind, *((*changes, *unqualified) * again.compared), *(whole * again.whole)]


def _added_finalizers(new: JsonObject, old: JsonObject, path: str) -> Iterator[FieldError]:
    if not old.get("deletionTimestamp"):
        return
    if added := sorted(set(new.get("finalizers") or ()) - set(old.get("finalizers") or ())):
        shown = ", ".join(f'"{name}"' for name in added)
        yield forbidden(
            f"{path}.finalizers",
            "no new finalizers can be added if the object is being deleted, found new finalizers"
            f" []string{{{shown}}}",
        )


def _forbidden_changes(new: JsonObject, old: JsonObject, path: str) -> Iterator[FieldError]:
    if (new.get("generation") or 0) < (old.get("generation") or 0) and new.get("generation") is not None:
        yield invalid(f"{path}.generation", new["generation"], "must not be decremented")
    for field in _FIXED:
        if new.get(field) is not None:
            yield from immutable(new[field], old.get(field), f"{path}.{field}")


def immutable(new: Any, old: Any, path: str) -> Iterator[FieldError]:
    """One error when a field changed that may not."""
    if new != old:
        yield invalid(path, new, _IMMUTABLE)

"""Who controls what: references to a controlling owner, and which objects it may claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nodeport.api.meta import JsonObject, controller_of, is_being_deleted, labels, owner_references
from nodeport.api.resources import Resource
from nodeport.api.selectors import LabelSelector

ORPHANS = "orphans"
BY_CONTROLLER = "controller"


def controller_reference(resource: Resource, owner: JsonObject) -> JsonObject:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def index_by_controller(obj: JsonObject) -> list[str]:
    """For an informer's index: the uid of the object's controller."""
    reference = controller_of(obj)
    return [reference["uid"]] if reference else []


def index_orphans(obj: JsonObject) -> list[str]:
    """For an informer's index: the namespace of an object that nobody controls."""
    return [] if controller_of(obj) else [obj["metadata"].get("namespace") or ""]


@dataclass(frozen=True, slots=True)
class Claim:
    """``owned`` includes ``adopt`` (to be given a reference) and excludes ``release`` (to lose theirs)."""

    owned: tuple[JsonObject, ...]
    adopt: tuple[JsonObject, ...]
    release: tuple[JsonObject, ...]


def claim(
    owner: JsonObject,
    selector: LabelSelector,
    candidates: Iterable[JsonObject],
    *,
    is_claimable: Callable[[JsonObject], bool] = lambda obj: True,
) -> Claim:
    """Sort ``candidates`` into ours, to be adopted, to be released.

    An owner that is being deleted adopts nothing, nor does anyone adopt what is being deleted.
    """
    owned: list[JsonObject] = []
    adopt: list[JsonObject] = []
    release: list[JsonObject] = []
    dying = is_being_deleted(owner)
    for obj in candidates:
        reference = controller_of(obj)
        matches = selector.matches(labels(obj))
        if reference is not None:
            if reference["uid"] != owner["metadata"]["uid"]:
                continue
            if matches:
                owned.append(obj)
            elif not dying:
                release.append(obj)
        elif matches and not dying and not is_being_deleted(obj) and is_claimable(obj):
            adopt.append(obj)
            owned.append(obj)
    return Claim(tuple(owned), tuple(adopt), tuple(release))


def adoption_patch(resource: Resource, owner: JsonObject, obj: JsonObject) -> JsonObject:
    """A merge patch that makes ``owner`` the controller; the uid in it refuses another object of that name."""
    references = [*owner_references(obj), controller_reference(resource, owner)]
    return _references_patch(obj, references)


def release_patch(owner: JsonObject, obj: JsonObject) -> JsonObject:
    references = [ref for ref in owner_references(obj) if ref["uid"] != owner["metadata"]["uid"]]
    return _references_patch(obj, references)


def _references_patch(obj: JsonObject, references: list[JsonObject]) -> JsonObject:
    meta = obj["metadata"]
    return {
        "metadata": {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "ownerReferences": references or None,
        }
    }

"""What becomes of an object whose owners went away or are going: pure.

Rules: the garbage collector of Kubernetes 1.36. An object goes when none of its owners is left. An owner
deleted in the foreground stays until the dependents that block it are gone; one deleted with ``orphan`` lets
them live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from nodeport.api.meta import JsonObject, is_being_deleted, owner_references

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class OwnerState(Enum):
    """``WAITING``: it is there, being deleted in the foreground. ``UNRESOLVABLE``: a cluster-scoped object cannot
    have a namespaced owner, so nobody can ever tell."""

    PRESENT = "present"
    ABSENT = "absent"
    WAITING = "waiting"
    UNRESOLVABLE = "unresolvable"


class Fate(Enum):
    KEEP = "keep"
    DELETE = "delete"
    DELETE_FOREGROUND = "delete-foreground"
    DROP_REFERENCES = "drop-references"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``gone`` are the uids whose references are to be dropped, for DROP_REFERENCES."""

    fate: Fate
    gone: tuple[str, ...] = ()


def finalizers_of(obj: JsonObject) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def is_waiting_for_dependents(obj: JsonObject) -> bool:
    return is_being_deleted(obj) and FOREGROUND in finalizers_of(obj)


def is_orphaning(obj: JsonObject) -> bool:
    return is_being_deleted(obj) and ORPHAN in finalizers_of(obj)


def judge(
    obj: JsonObject, owners: Sequence[tuple[JsonObject, OwnerState]], *, has_dependents: bool
) -> Verdict:
    """``owners``: each of its owner references with what is known of that owner."""
    if is_being_deleted(obj) or not owners:
        return Verdict(Fate.KEEP)
    by_state = {state: [ref for ref, found in owners if found is state] for state in OwnerState}
    absent, waiting = by_state[OwnerState.ABSENT], by_state[OwnerState.WAITING]
    if by_state[OwnerState.UNRESOLVABLE]:
        return Verdict(Fate.KEEP)
    if by_state[OwnerState.PRESENT]:
        if not (absent or waiting):
            return Verdict(Fate.KEEP)
        return Verdict(Fate.DROP_REFERENCES, tuple(ref["uid"] for ref in (*absent, *waiting)))
    if waiting and has_dependents:
        return Verdict(Fate.DELETE_FOREGROUND)
    return Verdict(Fate.DELETE)


def policy_of(obj: JsonObject) -> str:
    """How to delete ``obj`` when no owner waits for it: as a finalizer it already has would have it."""
    finalizers = finalizers_of(obj)
    if ORPHAN in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in finalizers else "Background"


def blocking(owner: JsonObject, dependents: Iterable[JsonObject]) -> list[JsonObject]:
    """The dependents that a foreground deletion of ``owner`` waits for."""
    own = owner["metadata"]["uid"]
    return [
        obj
        for obj in dependents
        if any(ref["uid"] == own and ref.get("blockOwnerDeletion") for ref in owner_references(obj))
    ]


def without_references(obj: JsonObject, uids: Iterable[str]) -> JsonObject:
    """A merge patch that drops the references to ``uids``, refused if the object changed since."""
    dropped = set(uids)
    left = [ref for ref in owner_references(obj) if ref["uid"] not in dropped]
    meta = obj["metadata"]
    return {
        "metadata": {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "ownerReferences": left or None,
        }
    }


def unblocking(obj: JsonObject) -> JsonObject | None:
    """A merge patch after which no owner waits for ``obj``; None when none does."""
    references = owner_references(obj)
    if not any(ref.get("blockOwnerDeletion") for ref in references):
        return None
    meta = obj["metadata"]
    changed = [{**ref, "blockOwnerDeletion": False} for ref in references]
    return {
        "metadata": {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "ownerReferences": changed,
        }
    }


def without_finalizer(obj: JsonObject, finalizer: str) -> JsonObject:
    left = [found for found in finalizers_of(obj) if found != finalizer]
    meta = obj["metadata"]
    return {
        "metadata": {
            "uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": left or None,
        }
    }  # fmt: skip

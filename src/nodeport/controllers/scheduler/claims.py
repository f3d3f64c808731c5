"""What keeps a pod from every node for the claims on volumes that it names, in the scheduler's words. Pure."""

from __future__ import annotations

from collections.abc import Callable

from nodeport.api.meta import JsonObject, NamespacedName, controller_of, is_being_deleted
from nodeport.api.storage import BOUND, LOST

FindClaim = Callable[[NamespacedName], JsonObject | None]
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"


def why_not_yet(pod: JsonObject, find: FindClaim) -> str:
    """The first claim that is not there tells, then all that are not bound; empty: the pod may go.

    Nothing here waits for a pod before it binds, so that every claim counts as one that is bound at once.
    """
    unbound = False
    for volume in pod["spec"].get("volumes") or ():
        named, own = volume.get("persistentVolumeClaim"), volume.get("ephemeral")
        if named is None and own is None:
            continue
        name = named["claimName"] if named is not None else f"{pod['metadata']['name']}-{volume['name']}"
        claim = find(NamespacedName(pod["metadata"]["namespace"], name))
        if reason := _unusable(claim, name, pod if named is None else None):
            return reason
        unbound = unbound or not _is_bound(claim or {})
    return UNBOUND if unbound else ""


def _unusable(claim: JsonObject | None, name: str, maker: JsonObject | None) -> str:
    """``maker``: the pod that the claim must have been made for, if it is one of a pod's own."""
    if claim is None:
        if maker is not None:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if (claim.get("status") or {}).get("phase") == LOST:
        volume = (claim.get("spec") or {}).get("volumeName") or ""
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
    if is_being_deleted(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    if maker is not None and (controller_of(claim) or {}).get("uid") != maker["metadata"].get("uid"):
        shown = NamespacedName.of(claim), NamespacedName.of(maker)
        return 'PVC "{}" was not created for pod "{}" (pod is not owner)'.format(*shown)
    return ""


def _is_bound(claim: JsonObject) -> bool:
    has_volume = bool((claim.get("spec") or {}).get("volumeName"))
    return has_volume and (claim.get("status") or {}).get("phase") == BOUND

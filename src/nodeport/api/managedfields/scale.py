"""Owners of an object's replicas as owners of its Scale, and back.

Rules: Kubernetes' scale handler. Through /scale only the number of replicas is owned, under the version of Scale; in
the object the same owner stands with the object's version and field.
"""

from __future__ import annotations

from nodeport.api.managedfields.entries import UPDATE, Manager, Owned, Owners
from nodeport.api.managedfields.sets import Tree, contains, difference, tree_of, union

SCALE_VERSION = "autoscaling/v1"
REPLICAS = ("f:spec", "f:replicas")
_REPLICAS_ONLY: Tree = tree_of(REPLICAS)


def to_scale(owners: Owners) -> Owners:
    """Who owns the replicas, as owners of the Scale."""
    return {
        _in_version(manager, SCALE_VERSION): Owned(_REPLICAS_ONLY, SCALE_VERSION, owned.time)
        for manager, owned in owners.items()
        if contains(owned.fields, REPLICAS)
    }


def from_scale(owners: Owners, scale_owners: Owners, api_version: str) -> Owners:
    """The object's owners after a write of the Scale made ``scale_owners`` of ``to_scale(owners)``."""
    left = {_in_version(manager, api_version): owned for manager, owned in scale_owners.items()}
    made: Owners = {}
    for manager, owned in owners.items():
        mine = left.pop(manager, None)
        change = difference if mine is None else union
        fields = change(owned.fields, _REPLICAS_ONLY)
        if fields:
            made[manager] = Owned(fields, owned.api_version, mine.time if mine else owned.time)
    for manager, owned in left.items():
        if contains(owned.fields, REPLICAS):
            made[manager] = Owned(_REPLICAS_ONLY, api_version, owned.time)
    return made


def _in_version(manager: Manager, api_version: str) -> Manager:
    return manager._replace(api_version=api_version) if manager.operation == UPDATE else manager

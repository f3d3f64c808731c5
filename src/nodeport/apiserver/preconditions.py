"""What a request says of the object that it means, held against the object that is there: 409 when it is another.

Kubernetes has two texts for it: one before a deletion, and its storage's for whatever is written.
"""

from __future__ import annotations

from dataclasses import replace

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import Conflict, conflict
from nodeport.apiserver.options import DeleteOptions
from nodeport.apiserver.routes import Target

_STORED_AT = {
    "services": "services/specs", "endpoints": "services/endpoints", "nodes": "minions",
    "replicationcontrollers": "controllers", "ingresses.networking.k8s.io": "ingress",
}  # fmt: skip
"""Where Kubernetes keeps what it does not keep under the name of the resource."""


def check_preconditions(resource: Resource, obj: JsonObject, options: DeleteOptions) -> None:
    """409 when the object is not the one the client means. Kubernetes' texts name the kind here, not the resource."""
    metadata = obj["metadata"]
    if options.uid is not None and options.uid != metadata["uid"]:
        raise _unmet(resource, metadata["name"], "UID", options.uid, metadata["uid"],
                     "been deleted and then recreated")  # fmt: skip
    version = metadata["resourceVersion"]
    if options.resource_version is not None and options.resource_version != version:
        raise _unmet(
            resource, metadata["name"], "ResourceVersion", options.resource_version, version, "been modified"
        )


def _unmet(resource: Resource, name: str, what: str, asked: str, found: str, how: str) -> Conflict:
    named = replace(resource, plural=resource.kind)
    why = f"the {what} in the precondition ({asked}) does not match the {what} in record ({found})."
    return conflict(named, name, f"{why} The object might have {how}")


def check_uid(target: Target, found: str, asked: str) -> None:
    """``found``: of the object that is there; empty when there is none."""
    if asked and asked != found:
        raise conflict(target.resource, target.name, storage_fault(target, "UID", asked, found))


def storage_fault(target: Target, what: str, asked: str, found: str) -> str:
    """``what``: ``UID`` or ``ResourceVersion``."""
    resource = target.resource
    place = _STORED_AT.get(resource.qualified_name, resource.plural)
    parts = (place, target.namespace if resource.namespaced else "", target.name)
    return (
        f"StorageError: invalid object, Code: 4, Key: /registry/{'/'.join(filter(None, parts))}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}"
    )

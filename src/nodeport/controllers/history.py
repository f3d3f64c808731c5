"""ControllerRevisions: the templates that a StatefulSet or DaemonSet has had. Pure.

Rules: the controller history of Kubernetes 1.36. ``data`` is a patch that ``kubectl rollout undo`` sends back: it
replaces the template as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.controllers.ownership import controller_reference
from nodeport.controllers.templates import settled, template_hash

HASH_LABEL = "controller.kubernetes.io/hash"
POD_HASH_LABEL = "controller-revision-hash"


def revision_data(owner: JsonObject) -> JsonObject:
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def with_template(owner: JsonObject, revision: JsonObject) -> JsonObject:
    """``owner`` with the template that it had at ``revision``."""
    kept = revision["data"]["spec"]["template"]
    template = {key: value for key, value in kept.items() if key != "$patch"}
    return {**owner, "spec": {**owner["spec"], "template": template}}


def new_revision(
    resource: Resource, owner: JsonObject, *, number: int, collisions: int, hash_label: str
) -> JsonObject:
    """``hash_label``: where the kind keeps the hash that is part of the name."""
    template = owner["spec"]["template"]
    name = template_hash(template, collisions)
    template_labels = (template.get("metadata") or {}).get("labels") or {}
    return {
        "metadata": {
            "name": f"{owner['metadata']['name']}-{name}",
            "namespace": owner["metadata"]["namespace"],
            "labels": {**template_labels, hash_label: name},
            "annotations": dict(owner["metadata"].get("annotations") or {}),
            "ownerReferences": [controller_reference(resource, owner)],
        },
        "data": revision_data(owner),
        "revision": number,
    }


def by_number(revision: JsonObject) -> tuple[int, str, str]:
    meta = revision["metadata"]
    return revision.get("revision") or 0, meta.get("creationTimestamp") or "", meta["name"]


def equal_revision(owner: JsonObject, revisions: Iterable[JsonObject]) -> JsonObject | None:
    """The newest revision that has the owner's present template."""
    data = settled(revision_data(owner))
    same = [found for found in revisions if settled(found.get("data")) == data]
    return max(same, key=by_number, default=None)


def next_number(revisions: Iterable[JsonObject]) -> int:
    return max((found.get("revision") or 0 for found in revisions), default=0) + 1


def surplus(owner: JsonObject, revisions: Sequence[JsonObject], live: Collection[str]) -> list[JsonObject]:
    """The oldest revisions beyond ``revisionHistoryLimit``, of those whose names are not ``live``."""
    limit = owner["spec"].get("revisionHistoryLimit")
    dead = sorted((found for found in revisions if found["metadata"]["name"] not in live), key=by_number)
    return dead[: max(0, len(dead) - (10 if limit is None else limit))]

"""Which ReplicaSet is which revision of a Deployment: template hashes, annotations, new ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nodeport.api.meta import JsonObject
from nodeport.api.resources import DEPLOYMENTS
from nodeport.controllers.ownership import controller_reference
from nodeport.controllers.templates import settled, template_hash

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"

_NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
}


def has_template(replica_set: JsonObject, template: JsonObject) -> bool:
    """Whether the pods of both are the same but for the hash label."""
    ours = settled(template)
    theirs = settled(replica_set["spec"]["template"])
    return bool(_without_hash(ours) == _without_hash(theirs))


def _without_hash(template: JsonObject) -> JsonObject:
    meta = template.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**meta, "labels": labels}}


def current(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> JsonObject | None:
    """The ReplicaSet of the Deployment's template as it is now; of several, the oldest."""
    template = deployment["spec"]["template"]
    same = [replica_set for replica_set in replica_sets if has_template(replica_set, template)]
    return min(same, key=by_age, default=None)


def by_age(obj: JsonObject) -> tuple[str, str]:
    return obj["metadata"].get("creationTimestamp") or "", obj["metadata"]["name"]


def revision_of(obj: JsonObject) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def new_replica_set(
    deployment: JsonObject, *, revision: int, replicas: int, annotations: dict[str, str]
) -> JsonObject:
    """``annotations``: those about sizes; the Deployment's own and the revision are added."""
    meta, spec = deployment["metadata"], deployment["spec"]
    collisions = (deployment.get("status") or {}).get("collisionCount") or 0
    name = template_hash(spec["template"], collisions)
    template_meta = spec["template"].get("metadata") or {}
    labels = {**(template_meta.get("labels") or {}), HASH_LABEL: name}
    selector = dict(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: name}
    return {
        "metadata": {
            "name": f"{meta['name']}-{name}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": {**copied_annotations(deployment), REVISION: str(revision), **annotations},
            "ownerReferences": [controller_reference(DEPLOYMENTS, deployment)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec.get("minReadySeconds") or 0,
            "selector": selector,
            "template": {**spec["template"], "metadata": {**template_meta, "labels": labels}},
        },
    }


def copied_annotations(deployment: JsonObject) -> dict[str, str]:
    found = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in found.items() if key not in _NOT_COPIED}


def as_revision(replica_set: JsonObject, deployment: JsonObject, revision: int) -> JsonObject:
    """The ReplicaSet as the Deployment's newest revision; the same object when it is that already."""
    before = replica_set["metadata"].get("annotations") or {}
    after = {**before, **copied_annotations(deployment)}
    old = revision_of(replica_set)
    if old < revision:
        after[REVISION] = str(revision)
        if old:
            history = before.get(REVISION_HISTORY, "")
            after[REVISION_HISTORY] = f"{history},{old}" if history else str(old)
    seconds = deployment["spec"].get("minReadySeconds") or 0
    if after == before and (replica_set["spec"].get("minReadySeconds") or 0) == seconds:
        return replica_set
    return {
        **replica_set,
        "metadata": {**replica_set["metadata"], "annotations": after},
        "spec": {**replica_set["spec"], "minReadySeconds": seconds},
    }

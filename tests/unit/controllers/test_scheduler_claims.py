"""What the claims on volumes that a pod names tell the scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.controllers.scheduler.claims import UNBOUND, why_not_yet

BOUND = {"spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}
PENDING: JsonObject = {"spec": {}, "status": {"phase": "Pending"}}
OWNED = {"ownerReferences": [{"controller": True, "uid": "u"}]}


def found(content: JsonObject, name: str, **meta: Any) -> JsonObject:
    return {"metadata": {"name": name, "namespace": "ns", **meta}, **content}


@pytest.mark.parametrize(
    ("source", "claim", "expected"),
    [
        ({"emptyDir": {}}, None, ""),
        ({"persistentVolumeClaim": {"claimName": "c"}}, None, 'persistentvolumeclaim "c" not found'),
        ({"persistentVolumeClaim": {"claimName": "c"}}, found(PENDING, "c"), UNBOUND),
        ({"persistentVolumeClaim": {"claimName": "c"}}, found(BOUND, "c"), ""),
        ({"persistentVolumeClaim": {"claimName": "c"}},
         found(BOUND, "c", deletionTimestamp="2026-01-01T00:00:00Z"), 'persistentvolumeclaim "c" is being deleted'),
        ({"persistentVolumeClaim": {"claimName": "c"}},
         found({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}}, "c"),
         'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'),
        ({"ephemeral": {}}, None,
         'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-d"'),
        ({"ephemeral": {}}, found(BOUND, "p-d"),
         'PVC "ns/p-d" was not created for pod "ns/p" (pod is not owner)'),
        ({"ephemeral": {}}, found(BOUND, "p-d", **OWNED), ""),
    ],
)  # fmt: skip
def test_a_pod_goes_when_every_claim_is_bound(
    source: JsonObject, claim: JsonObject | None, expected: str
) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"volumes": [{"name": "d", **source}]},
    }
    claims = {} if claim is None else {NamespacedName.of(claim): claim}
    assert why_not_yet(pod, claims.get) == expected

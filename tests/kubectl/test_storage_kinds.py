"""kubectl with volumes, claims on them and classes: nothing binds them, and all of it is shown."""

from __future__ import annotations

import json
from typing import Any

CLASS = {
    "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/p",
    "metadata": {"name": "slow", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
}  # fmt: skip
VOLUME = {
    "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
    "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/srv"}},
}  # fmt: skip
CLAIM = {
    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}  # fmt: skip


async def test_kubectl_applies_shows_and_deletes_volumes_claims_and_classes(kubectl: Any) -> None:
    for made in (CLASS, VOLUME, CLAIM):
        await kubectl("apply", "-f", "-", stdin=json.dumps(made))
    claim = (await kubectl("get", "pvc", "data")).lines[1].split()
    assert (claim[:2], claim[2]) == (["data", "Pending"], "slow")
    volume = (await kubectl("get", "pv", "disk")).lines[1].split()
    assert volume[:5] == ["disk", "1Gi", "RWO", "Retain", "Pending"]
    storage_class = (await kubectl("get", "sc", "slow")).lines[1]
    assert storage_class.startswith("slow (default)")
    for kind, name in (("pvc", "data"), ("pv", "disk"), ("sc", "slow")):
        assert "Name:" in (await kubectl("describe", kind, name)).out
    patch = json.dumps({"metadata": {"labels": {"a": "b"}}})
    await kubectl("patch", "pvc", "data", "-p", patch)
    assert "data" in (await kubectl("get", "pvc", "-l", "a=b")).out
    for kind, name in (("pvc", "data"), ("pv", "disk"), ("sc", "slow")):
        assert f'"{name}" deleted' in (await kubectl("delete", kind, name)).out
    assert (await kubectl("get", "pvc,pv,sc", "-o", "name")).out == ""

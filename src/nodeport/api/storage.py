"""Volumes, the claims on them and their classes: words and defaults. Rules: core/v1, storage/v1 of Kubernetes 1.36."""

from __future__ import annotations

from nodeport.api.meta import JsonObject

PENDING, BOUND, LOST = "Pending", "Bound", "Lost"
"""Phases: a volume may be ``Pending`` and ``Bound`` too."""
FILESYSTEM, BLOCK = "Filesystem", "Block"
VOLUME_MODES = (BLOCK, FILESYSTEM)
ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
"""And how tables write them, in their order."""
IS_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
"""What named a claim's or a volume's class before there was a field."""


def class_of(obj: JsonObject) -> str:
    """The StorageClass of a claim or volume; empty for none."""
    annotations = obj["metadata"].get("annotations") or {}
    if CLASS_ANNOTATION in annotations:
        return str(annotations[CLASS_ANNOTATION])
    return (obj.get("spec") or {}).get("storageClassName") or ""


def is_default_class(storage_class: JsonObject) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(name) == "true" for name in IS_DEFAULT_CLASS)


def default_claim(obj: JsonObject) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    status = obj["status"] = obj.get("status") or {}
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = FILESYSTEM
    status["phase"] = status.get("phase") or PENDING


def default_volume(obj: JsonObject) -> None:
    default_claim(obj)
    spec = obj["spec"]
    spec["persistentVolumeReclaimPolicy"] = spec.get("persistentVolumeReclaimPolicy") or "Retain"
    host_path = spec.get("hostPath")
    if isinstance(host_path, dict) and host_path.get("type") is None:
        host_path["type"] = ""


def default_class(obj: JsonObject) -> None:
    if obj.get("reclaimPolicy") is None:
        obj["reclaimPolicy"] = "Delete"
    if obj.get("volumeBindingMode") is None:
        obj["volumeBindingMode"] = "Immediate"

"""Volumes, claims and their classes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.storage import ACCESS_MODES, class_of, is_default_class
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    UNSET,
    Cells,
    Column,
    Printer,
    age,
    name_of,
    wide,
)


def _modes(modes: Sequence[str] | None) -> str:
    return ",".join(short for mode, short in ACCESS_MODES.items() if mode in (modes or ()))


def _phase(obj: JsonObject) -> str:
    return "Terminating" if is_being_deleted(obj) else (obj.get("status") or {}).get("phase") or ""


def _claim(obj: JsonObject, now: datetime) -> Cells:
    """What a claim has got is shown once it has a volume."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume = spec.get("volumeName") or ""
    storage = str((status.get("capacity") or {}).get("storage") or "0") if volume else ""
    return [
        name_of(obj), _phase(obj), volume, storage, _modes(status.get("accessModes")) if volume else "",
        class_of(obj), spec.get("volumeAttributesClassName") or UNSET, age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]  # fmt: skip


def _volume(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    return [
        name_of(obj), str((spec.get("capacity") or {}).get("storage") or "0"), _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "", _phase(obj),
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "", class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET, status.get("reason") or "", age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]  # fmt: skip


def _class(obj: JsonObject, now: datetime) -> Cells:
    name = name_of(obj)
    return [
        f"{name} (default)" if is_default_class(obj) else name, obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete", obj.get("volumeBindingMode") or "Immediate",
        "true" if obj.get("allowVolumeExpansion") else "false", age(obj, now),
    ]  # fmt: skip


CLAIM = Printer(
    (
        NAME, Column("Status"), Column("Volume"), Column("Capacity"), Column("Access Modes"), Column("StorageClass"),
        Column("VolumeAttributesClass"), AGE, wide("VolumeMode"),
    ),
    _claim,
)  # fmt: skip
VOLUME = Printer(
    (
        NAME, Column("Capacity"), Column("Access Modes"), Column("Reclaim Policy"), Column("Status"), Column("Claim"),
        Column("StorageClass"), Column("VolumeAttributesClass"), Column("Reason"), AGE, wide("VolumeMode"),
    ),
    _volume,
)  # fmt: skip
CLASS = Printer(
    (
        NAME, Column("Provisioner"), Column("ReclaimPolicy"), Column("VolumeBindingMode"),
        Column("AllowVolumeExpansion"), AGE,
    ),
    _class,
)  # fmt: skip

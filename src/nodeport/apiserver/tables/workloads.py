"""Deployments and ReplicaSets."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.subresources import selector_text
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    Cells,
    Column,
    Printer,
    age,
    containers_and_images,
    name_of,
    number,
    wide,
)


def _deployment(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    containers, images = containers_and_images(spec.get("template"))
    return [
        name_of(obj), f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0, age(obj, now), containers, images,
        selector_text(spec.get("selector") or {}) or NONE,
    ]  # fmt: skip


def _replica_set(obj: JsonObject, now: datetime) -> Cells:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    containers, images = containers_and_images(spec.get("template"))
    return [
        name_of(obj), spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0,
        age(obj, now), containers, images, selector_text(spec.get("selector") or {}) or NONE,
    ]  # fmt: skip


_WIDE = (wide("Containers"), wide("Images"), wide("Selector"))
DEPLOYMENT = Printer(
    (NAME, Column("Ready"), number("Up-to-date"), number("Available"), AGE, *_WIDE), _deployment
)
REPLICA_SET = Printer(
    (NAME, number("Desired"), number("Current"), number("Ready"), AGE, *_WIDE), _replica_set
)

"""Volumes and claims. They are kept, shown and judged; nothing here provisions or binds."""

from __future__ import annotations

from nodeport.api import limits
from nodeport.api.meta import JsonObject, name_or_base
from nodeport.api.resources import LIMIT_RANGES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from nodeport.api.status import Forbidden
from nodeport.api.storage import CLASS_ANNOTATION, PENDING, is_default_class
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.apiserver.strategies.base import Strategy, WriteContext
from nodeport.kit.clock import rfc3339
from nodeport.store.base import Store


class PersistentVolumeClaimStrategy(Strategy):
    """A claim that names no class, not even the empty one, gets the default one where there is one."""

    def __init__(self) -> None:
        super().__init__(PERSISTENT_VOLUME_CLAIMS)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"phase": PENDING}

    async def admit(self, obj: JsonObject, store: Store) -> None:
        await _fit_limit_ranges(obj, store)
        annotations = obj["metadata"].get("annotations") or {}
        spec = obj["spec"]
        if spec.get("storageClassName") is not None or CLASS_ANNOTATION in annotations:
            return
        classes = [decode(kv.value) for kv in (await store.list(prefix_of(STORAGE_CLASSES))).items]
        if marked := [each["metadata"] for each in classes if is_default_class(each)]:
            newest = max(each["creationTimestamp"] for each in marked)
            latest = (each["name"] for each in marked if each["creationTimestamp"] == newest)
            spec["storageClassName"] = min(latest)


async def _fit_limit_ranges(claim: JsonObject, store: Store) -> None:
    """Raises 403."""
    metadata = claim["metadata"]
    listing = await store.list(prefix_of(LIMIT_RANGES, metadata.get("namespace") or ""))
    if wrong := limits.claim_complaints([decode(kv.value) for kv in listing.items], claim):
        name, plural = name_or_base(metadata), PERSISTENT_VOLUME_CLAIMS.plural
        why = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
        raise Forbidden(f'{plural} "{name}" is forbidden: {why}', details={"name": name, "kind": plural})


class PersistentVolumeStrategy(Strategy):
    def __init__(self) -> None:
        super().__init__(PERSISTENT_VOLUMES)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        obj["status"] = {"phase": PENDING, "lastPhaseTransitionTime": rfc3339(context.now)}

    def prepare_status_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        """A new phase has a new time, unless the writer tells one."""
        super().prepare_status_update(new, old, context)
        status, before = new.get("status") or {}, old.get("status") or {}
        if status.get("phase") != before.get("phase") and (
            status.get("lastPhaseTransitionTime") == before.get("lastPhaseTransitionTime")
        ):
            status["lastPhaseTransitionTime"] = rfc3339(context.now)

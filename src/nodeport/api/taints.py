"""Which taints a pod tolerates."""

from __future__ import annotations

from nodeport.api.meta import JsonObject


def is_tolerated(pod: JsonObject, taint: JsonObject) -> bool:
    return any(tolerates(entry, taint) for entry in pod["spec"].get("tolerations") or ())


def tolerates(toleration: JsonObject, taint: JsonObject) -> bool:
    """An empty effect means every effect; an empty key with Exists means everything."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")

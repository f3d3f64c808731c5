"""Identity and metadata of Kubernetes objects held as plain JSON.

Inside the server and between rooms an object is the ``dict`` that its JSON decodes to: patches, pruning and field
validation are rules on JSON, and nothing that a client wrote may get lost on the way through a typed view.
"""

from collections.abc import Mapping
from typing import Any, NewType, Self

from msgspec import Struct

JsonObject = dict[str, Any]
"""A decoded JSON object; ``None`` stands for JSON ``null``."""

ResourceVersion = NewType("ResourceVersion", str)
"""What clients see of a revision: opaque to them, a decimal integer without leading zeros to us."""


class NamespacedName(Struct, frozen=True, order=True, gc=False):
    """Who an object is within its resource; ``namespace`` is empty for cluster-scoped resources."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Self:
        metadata = obj["metadata"]
        return cls(metadata.get("namespace") or "", metadata["name"])


def deep_copy(value: Any) -> Any:
    """A copy of plain JSON that shares no object or list with ``value``."""
    if value.__class__ is dict:
        return {key: deep_copy(item) for key, item in value.items()}
    return [deep_copy(item) for item in value] if value.__class__ is list else value


def metadata(obj: JsonObject) -> JsonObject:
    """The object's ``metadata``, made when it is missing or null."""
    value = obj.get("metadata")
    if not isinstance(value, dict):
        value = obj["metadata"] = {}
    return value


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def name_or_base(metadata: Mapping[str, Any]) -> str:
    """How a refusal calls a new object, which may not have its generated name yet."""
    return str(metadata.get("name") or metadata.get("generateName") or "Unknown")


def owner_references(obj: Mapping[str, Any]) -> list[JsonObject]:
    return (obj.get("metadata") or {}).get("ownerReferences") or []


def controller_of(obj: Mapping[str, Any]) -> JsonObject | None:
    """The owner reference whose ``controller`` is true: at most one, by the API's own rule."""
    return next((ref for ref in owner_references(obj) if ref.get("controller")), None)


def is_being_deleted(obj: Mapping[str, Any]) -> bool:
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def resource_version(obj: Mapping[str, Any]) -> ResourceVersion:
    return ResourceVersion((obj.get("metadata") or {}).get("resourceVersion") or "")

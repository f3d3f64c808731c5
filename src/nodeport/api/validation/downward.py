"""References to fields of the pod and to amounts of a container, from the environment and from volumes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import format_quantity, parse_quantity
from nodeport.api.status import FieldError, invalid, not_supported, required

ENVIRONMENT_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
    "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
VOLUME_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_KNOWN_FIELDS = frozenset({
    *ENVIRONMENT_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase",
})  # fmt: skip
_AMOUNTS = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage",
    "requests.memory",
)  # fmt: skip
_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SUBSCRIPT = re.compile(r"(.+)\['(.*)'\]\Z", re.DOTALL)
_BYTE_DIVISORS = (
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
)  # fmt: skip


def validate_field_reference(
    reference: JsonObject, fields: tuple[str, ...], path: str
) -> Iterator[FieldError]:
    version, asked = reference.get("apiVersion") or "", reference.get("fieldPath") or ""
    if not version:
        yield required(f"{path}.apiVersion")
    elif not asked:
        yield required(f"{path}.fieldPath")
    elif version != "v1":
        yield invalid(
            f"{path}.fieldPath", asked, f"error converting fieldPath: unsupported pod version: {version}"
        )
    else:
        yield from _field_path("spec.nodeName" if asked == "spec.host" else asked, fields, path)


def _field_path(asked: str, fields: tuple[str, ...], path: str) -> Iterator[FieldError]:
    subscripted = _SUBSCRIPT.match(asked)
    base, key = subscripted.groups() if subscripted else (asked, "")
    if base not in _KNOWN_FIELDS or (subscripted and base not in ("metadata.annotations", "metadata.labels")):
        detail = f"error converting fieldPath: field label not supported: {asked}"
        yield invalid(f"{path}.fieldPath", asked, detail)
    elif subscripted:
        shown = key.lower() if base == "metadata.annotations" else key
        yield from (invalid(path, shown, why) for why in names.qualified_name(shown))
    elif base not in fields:
        yield not_supported(f"{path}.fieldPath", base, sorted(fields))


def validate_amount_reference(
    reference: JsonObject, path: str, *, in_volume: bool = False
) -> Iterator[FieldError]:
    """``resourceFieldRef``; a volume belongs to no container, so that it must name one."""
    asked = reference.get("resource") or ""
    if in_volume and not reference.get("containerName"):
        yield required(f"{path}.containerName")
    elif not asked:
        yield required(f"{path}.resource")
    elif asked not in _AMOUNTS and not asked.startswith(_PAGES):
        yield not_supported(f"{path}.resource", asked, _AMOUNTS)
    yield from _divisor(asked, str(reference.get("divisor") or "0"), f"{path}.divisor")


def _divisor(asked: str, divisor: str, path: str) -> Iterator[FieldError]:
    value = parse_quantity(divisor)
    if not value:
        return
    if asked in ("limits.cpu", "requests.cpu"):
        if format_quantity(value, binary=False) not in ("1m", "1"):
            yield invalid(path, asked, "only divisor's values 1m and 1 are supported with the cpu resource")
        return
    kinds = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}
    kind = "hugepages" if asked.startswith(_PAGES) else kinds.get(asked.partition(".")[2], "")
    if kind and value not in map(parse_quantity, _BYTE_DIVISORS):
        listed = ", ".join(_BYTE_DIVISORS)
        yield invalid(path, asked, f"only divisor's values {listed} are supported with the {kind} resource")

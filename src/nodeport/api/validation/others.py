"""Rules on the small kinds: Namespace, Node, ConfigMap, Secret, Lease."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any, Final

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity, quantity_error
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long
from nodeport.api.validation.meta import immutable

MOST_DATA_BYTES = 1024 * 1024
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def validate_namespace(obj: JsonObject) -> Iterator[FieldError]:
    for index, name in enumerate((obj.get("spec") or {}).get("finalizers") or []):
        yield from (invalid(f"spec.finalizers[{index}]", name, why) for why in names.qualified_name(name))


def validate_namespace_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_namespace(new)


def validate_namespace_status(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    phase = (new.get("status") or {}).get("phase") or ""
    wanted, when = (
        ("Terminating", "not empty") if new["metadata"].get("deletionTimestamp") else ("Active", "empty")
    )
    if phase != wanted:
        yield invalid("status.Phase", phase, f"may only be '{wanted}' if `deletionTimestamp` is {when}")


def validate_node(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from _pod_cidrs(spec)
    yield from _taints(spec.get("taints") or [])
    yield from validate_resource_list((obj.get("status") or {}).get("capacity") or {}, "status.capacity")
    yield from validate_resource_list(
        (obj.get("status") or {}).get("allocatable") or {}, "status.allocatable"
    )


def _pod_cidrs(spec: JsonObject) -> Iterator[FieldError]:
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    for index, cidr in enumerate(cidrs):
        yield from (invalid(f"spec.podCIDRs[{index}]", cidr, why) for why in ip.cidr_complaints(cidr))
    if len(cidrs) > 1 and len({ip.is_ipv6(cidr.partition("/")[0]) for cidr in cidrs}) < len(cidrs):
        yield invalid("spec.podCIDRs", cidrs, "may specify no more than one CIDR for each IP family")


def _taints(taints: list[JsonObject]) -> Iterator[FieldError]:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        path, key, effect = f"spec.taints[{index}]", taint.get("key") or "", taint.get("effect") or ""
        yield from (invalid(f"{path}.key", key, why) for why in names.qualified_name(key))
        value = taint.get("value") or ""
        yield from (invalid(f"{path}.value", value, why) for why in names.label_value(value))
        if not effect:
            yield required(f"{path}.effect")
        elif effect not in _TAINT_EFFECTS:
            yield not_supported(f"{path}.effect", effect, _TAINT_EFFECTS)
        if (key, effect) in seen:
            yield duplicate(path, taint)
        seen.add((key, effect))


def validate_node_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """Once given, a node's pod ranges and provider stay."""
    yield from validate_node(new)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    old_cidrs, cidrs = before.get("podCIDRs") or [], spec.get("podCIDRs") or []
    if old_cidrs and cidrs != old_cidrs:
        yield forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        yield forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')


def validate_resource_list(resources: JsonObject, path: str) -> Iterator[FieldError]:
    """Names and non-negative amounts."""
    for name, amount in resources.items():
        where = f"{path}[{name}]"
        yield from (invalid(where, name, why) for why in names.qualified_name(name))
        if quantity_error(str(amount)) is None and parse_quantity(str(amount)) < 0:
            yield invalid(where, str(amount), "must be greater than or equal to 0")


_WHOLE: Final = "[]"
"""How a path without a name is shown: it stands for the object."""


def validate_config_map(obj: JsonObject) -> Iterator[FieldError]:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, text in data.items():
        yield from (invalid(f"data[{key}]", key, why) for why in names.config_key(key))
        if key in binary:
            yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(text.encode())
    for key, encoded in binary.items():
        yield from (invalid(f"binaryData[{key}]", key, why) for why in names.config_key(key))
        size += len(decoded(encoded))
    if size > MOST_DATA_BYTES:
        yield too_long(_WHOLE, MOST_DATA_BYTES)


def validate_config_map_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from _kept_immutable(new, old, "data", "binaryData")
    yield from validate_config_map(new)


def decoded(encoded: str) -> bytes:
    """The bytes of base64 text that the schema check let through."""
    try:
        return binascii.a2b_base64(encoded)
    except binascii.Error:
        return encoded.encode()


def _kept_immutable(new: JsonObject, old: JsonObject, *fields: str) -> Iterator[FieldError]:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield forbidden("immutable", "field is immutable when `immutable` is set")
    for field in fields:
        if (new.get(field) or {}) != (old.get(field) or {}):
            yield forbidden(field, "field is immutable when `immutable` is set")


def validate_secret(obj: JsonObject) -> Iterator[FieldError]:
    data: dict[str, Any] = obj.get("data") or {}
    size = 0
    for key, encoded in data.items():
        yield from (invalid(f"data[{key}]", key, why) for why in names.config_key(key))
        size += len(decoded(encoded))
    if size > MOST_DATA_BYTES:
        yield too_long("data", MOST_DATA_BYTES)
    kind = obj.get("type") or ""
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        yield required("data[username]")
        yield required("data[password]")
    if kind == "kubernetes.io/service-account-token":
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        if not annotations.get("kubernetes.io/service-account.name"):
            yield required("metadata.annotations[kubernetes.io/service-account.name]")


def validate_secret_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from immutable(new.get("type"), old.get("type"), "type")
    yield from _kept_immutable(new, old, "data")
    yield from validate_secret(new)


def validate_lease(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        yield invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")
    if transitions is not None and transitions < 0:
        yield invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0")
    holder = spec.get("holderIdentity")
    if holder is not None and not holder:
        yield invalid("spec.holderIdentity", holder, "must not be empty")


def validate_lease_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return validate_lease(new)

"""Nodes."""

from __future__ import annotations

from datetime import datetime

from nodeport.api.meta import JsonObject
from nodeport.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Cells,
    Column,
    Printer,
    age,
    name_of,
    wide,
)

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"


def _node(obj: JsonObject, now: datetime) -> Cells:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    addresses = status.get("addresses") or []
    return [
        name_of(obj), node_status(obj), roles(obj), age(obj, now), info.get("kubeletVersion") or "",
        _address(addresses, "InternalIP"), _address(addresses, "ExternalIP"), info.get("osImage") or UNKNOWN,
        _kernel(info), info.get("containerRuntimeVersion") or UNKNOWN,
    ]  # fmt: skip


def node_status(node: JsonObject) -> str:
    ready = next(
        (each for each in (node.get("status") or {}).get("conditions") or [] if each.get("type") == "Ready"),
        None,
    )
    words = {"True": "Ready"}
    shown = words.get(ready.get("status", ""), "NotReady") if ready is not None else "Unknown"
    return f"{shown},SchedulingDisabled" if (node.get("spec") or {}).get("unschedulable") else shown


def roles(node: JsonObject) -> str:
    found = set()
    for key, value in (node["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            found.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE_LABEL and value:
            found.add(value)
    return ",".join(sorted(found)) or NONE


def _address(addresses: list[JsonObject], kind: str) -> str:
    return next((each.get("address", "") for each in addresses if each.get("type") == kind), NONE)


def _kernel(info: JsonObject) -> str:
    version, architecture = info.get("kernelVersion") or UNKNOWN, info.get("architecture")
    return f"{version} ({architecture})" if architecture and version != UNKNOWN else version


NODE = Printer(
    (
        NAME, Column("Status"), Column("Roles"), AGE, Column("Version"), wide("Internal-IP"), wide("External-IP"),
        wide("OS-Image"), wide("Kernel-Version"), wide("Container-Runtime"),
    ),
    _node,
)  # fmt: skip

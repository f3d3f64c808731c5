"""The Node object: what this machine is and has, told the way a kubelet tells it; reads /proc and /etc.

Rule source: https://kubernetes.io/docs/reference/node/node-status/
"""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nodeport import KUBERNETES_VERSION, __version__
from nodeport.api.clusterdns import PROVIDER
from nodeport.api.meta import JsonObject
from nodeport.kit.clock import rfc3339
from nodeport.node.addresses import IPAddress, IPNetwork
from nodeport.node.images.base import Image

MOST_PODS = 110
MOST_IMAGES = 50
LOG_PORT = 10250
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
HEALTHY = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)
DISK_PRESSURE = ("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure")


@dataclass(frozen=True, slots=True)
class Machine:
    """What all nodes on this machine share."""

    cpus: int
    memory_kib: int
    storage_kib: int
    kernel: str
    os_image: str
    architecture: str
    machine_id: str
    boot_id: str


def this_machine(root: Path = Path("/")) -> Machine:
    disk = os.statvfs("/var")
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_kib=_total_memory(root / "proc/meminfo"),
        storage_kib=disk.f_blocks * disk.f_frsize // 1024,
        kernel=platform.release(),
        os_image=_os_image(root / "etc/os-release"),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        machine_id=_text(root / "etc/machine-id"),
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
    )


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. ``addresses``: one of each of its IP families, the primary one first. ``pod_cidrs`` empty: somebody
    else allocates them."""

    name: str
    addresses: tuple[IPAddress, ...]
    machine: Machine
    pod_cidrs: tuple[IPNetwork, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    log_port: int = LOG_PORT


def node_object(facts: NodeFacts, now: datetime, images: Sequence[Image] = ()) -> JsonObject:
    """The whole object, as it is registered."""
    machine = facts.machine
    labels = {
        "beta.kubernetes.io/arch": machine.architecture, "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture, "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": facts.name, **facts.labels,
    }  # fmt: skip
    spec: JsonObject = {"providerID": f"{PROVIDER}{facts.name}"}
    if facts.pod_cidrs:
        spec |= {"podCIDR": str(facts.pod_cidrs[0]), "podCIDRs": list(map(str, facts.pod_cidrs))}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": facts.name, "labels": labels}, "spec": spec,
        "status": node_status(facts, {}, now, images),
    }  # fmt: skip


def image_list(images: Sequence[Image]) -> list[JsonObject]:
    return [
        {"names": [image.image_id, image.name], "sizeBytes": image.size} for image in images[:MOST_IMAGES]
    ]


def conditions_of(status: JsonObject) -> dict[str, str]:
    """The status of each condition by its type."""
    return {item["type"]: item["status"] for item in status.get("conditions") or ()}


def node_status(
    facts: NodeFacts,
    before: JsonObject,
    now: datetime,
    images: Sequence[Image] = (),
    *,
    disk_pressure: bool = False,
) -> JsonObject:
    """The status; a condition of ``before`` that still holds keeps its transition time."""
    capacity = amounts(facts)
    return {
        "addresses": [
            *({"type": "InternalIP", "address": str(address)} for address in facts.addresses),
            {"type": "Hostname", "address": facts.name},
        ],
        "capacity": capacity,
        "allocatable": dict(capacity),
        "conditions": [
            _condition(*(DISK_PRESSURE if disk_pressure and row[0] == DISK_PRESSURE[0] else row), before, now)
            for row in HEALTHY
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.log_port}},
        "images": image_list(images),
        "nodeInfo": _node_info(facts),
    }  # fmt: skip


def patch_of(status: JsonObject) -> JsonObject:
    """The status as a strategic merge patch. Addresses are merged by type: without the directive the second of two
    internal ones would take the first one's place."""
    return {**status, "addresses": [*status["addresses"], {"$patch": "replace"}]}


def amounts(facts: NodeFacts) -> dict[str, str]:
    """What the node has for pods."""
    machine = facts.machine
    return {
        "cpu": str(machine.cpus), "memory": f"{machine.memory_kib}Ki", "pods": str(MOST_PODS),
        "ephemeral-storage": f"{machine.storage_kib}Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
    }  # fmt: skip


def _condition(
    kind: str, status: str, reason: str, message: str, before: JsonObject, now: datetime
) -> JsonObject:
    known: JsonObject = next((item for item in before.get("conditions") or () if item["type"] == kind), {})
    since = known.get("lastTransitionTime") if known.get("status") == status else None
    return {
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": rfc3339(now), "lastTransitionTime": since or rfc3339(now),
    }  # fmt: skip


def _node_info(facts: NodeFacts) -> JsonObject:
    machine = facts.machine
    own_id = hashlib.blake2s(f"{machine.machine_id}/{facts.name}".encode(), digest_size=16).hexdigest()
    return {
        "architecture": machine.architecture,
        "bootID": machine.boot_id,
        "containerRuntimeVersion": f"nodeport://{__version__}",
        "kernelVersion": machine.kernel,
        "kubeProxyVersion": KUBERNETES_VERSION,
        "kubeletVersion": KUBERNETES_VERSION,
        "machineID": own_id,
        "operatingSystem": "linux",
        "osImage": machine.os_image,
        "systemUUID": str(uuid.UUID(own_id)),
    }


def _total_memory(path: Path) -> int:
    for line in _text(path).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return 0


def _os_image(path: Path) -> str:
    pairs = (line.partition("=") for line in _text(path).splitlines())
    return next((value.strip('"') for key, _, value in pairs if key == "PRETTY_NAME"), "Linux")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

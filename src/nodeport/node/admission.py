"""What a node refuses to run, before anything of the pod is made: said in the pod's status, once and for all. Pure.

Rule source: a kubelet's admission handlers, whose reasons are used where they have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nodeport.api.meta import JsonObject

SAFE_SYSCTLS = frozenset((
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
))  # fmt: skip
UNSUPPORTED = "UnsupportedByNode"
Refusal = tuple[str, str]
"""(reason, message) of the pod's status."""


def refusal(pod: JsonObject) -> Refusal | None:
    """Why the pod can never run here; None: it may."""
    return next(_refusals(pod["spec"]), None)


def _refusals(spec: JsonObject) -> Iterator[Refusal]:
    system = (spec.get("os") or {}).get("name") or "linux"
    if system != "linux":
        yield "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    yield from _sysctls(spec)
    if spec.get("runtimeClassName"):
        yield (
            UNSUPPORTED,
            f"spec.runtimeClassName {spec['runtimeClassName']!r}: this node has one runtime only",
        )
    if spec.get("hostUsers") is False:
        yield UNSUPPORTED, "spec.hostUsers false: this node has no user namespaces for pods"
    if spec.get("resourceClaims"):
        yield UNSUPPORTED, "spec.resourceClaims: this node has no devices to claim"
    yield from _profiles(spec.get("securityContext") or {}, "spec.securityContext")
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            yield from _container(container, f"spec.{field}[{container['name']}]")


def container_refusal(container: Mapping[str, Any], where: str) -> Refusal | None:
    """Why one container can never run here; None: it may."""
    return next(_container(container, where), None)


def _container(container: Mapping[str, Any], where: str) -> Iterator[Refusal]:
    yield from _profiles(container.get("securityContext") or {}, f"{where}.securityContext")
    if container.get("volumeDevices"):
        yield UNSUPPORTED, f"{where}.volumeDevices: this node has no block volumes"


def _sysctls(spec: JsonObject) -> Iterator[Refusal]:
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = sysctl["name"].replace("/", ".")
        if name not in SAFE_SYSCTLS:
            yield "SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted'
        elif name.startswith("net.") and spec.get("hostNetwork"):
            yield "SysctlForbidden", f'forbidden sysctl: "{name}" not allowed with host net enabled'
        elif name.startswith("kernel.") and spec.get("hostIPC"):
            yield "SysctlForbidden", f'forbidden sysctl: "{name}" not allowed with host ipc enabled'


def _profiles(context: Mapping[str, Any], where: str) -> Iterator[Refusal]:
    for field in ("seccompProfile", "appArmorProfile"):
        if (context.get(field) or {}).get("type") == "Localhost":
            yield UNSUPPORTED, f"{where}.{field} Localhost: this node has no profiles of its own"

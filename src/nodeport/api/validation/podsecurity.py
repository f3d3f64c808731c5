"""Rules on the security contexts of pods and containers, and on the namespaces that a pod shares with its node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long
from nodeport.api.validation.paths import descending

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_LONGEST_PROFILE = 4095
_MOST_ID = 2**31 - 1
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_IS_SYSCTL = re.compile(_SYSCTL + r"\Z")
_LONGEST_SYSCTL = 253
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_INTERNAL = {
    "": ("Capabilities", "Privileged", "SELinuxOptions", "WindowsOptions", "RunAsUser", "RunAsGroup", "RunAsNonRoot",
         "ReadOnlyRootFilesystem", "AllowPrivilegeEscalation", "ProcMount", "SeccompProfile", "AppArmorProfile"),
    "Capabilities": ("Add", "Drop"), "SELinuxOptions": ("User", "Role", "Type", "Level"),
    "WindowsOptions": ("GMSACredentialSpecName", "GMSACredentialSpec", "RunAsUserName", "HostProcess"),
    "SeccompProfile": ("Type", "LocalhostProfile"), "AppArmorProfile": ("Type", "LocalhostProfile"),
}  # fmt: skip
"""The fields of the API's internal types, by which its texts show a context."""
_WIRE_NAMES = {"SELinuxOptions": "seLinuxOptions", "GMSACredentialSpecName": "gmsaCredentialSpecName",
               "GMSACredentialSpec": "gmsaCredentialSpec"}  # fmt: skip


def validate_security_context(
    context: JsonObject | None, path: str, *, has_host_users: bool
) -> Iterator[FieldError]:
    """Of a container."""
    if context is None:
        return
    for field in ("runAsUser", "runAsGroup"):
        yield from _id(context.get(field), f"{path}.{field}")
    mount = context.get("procMount")
    if mount is not None and mount not in ("Default", "Unmasked"):
        yield not_supported(f"{path}.procMount", mount, ("Default", "Unmasked"))
    if mount == "Unmasked" and has_host_users:
        yield invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")
    yield from _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        yield from _no_escalation(context, path)
    yield from _app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")


def _no_escalation(context: JsonObject, path: str) -> Iterator[FieldError]:
    head = "cannot set `allowPrivilegeEscalation` to false and"
    if context.get("privileged"):
        yield invalid(path, _internal(context), f"{head} `privileged` to true")
    if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or []):
        yield invalid(path, _internal(context), f"{head} `capabilities.Add` CAP_SYS_ADMIN")


def _internal(value: Any, kind: str = "") -> Any:
    if not isinstance(value, dict):
        return value
    return {
        field: _internal(value.get(_WIRE_NAMES.get(field) or field[0].lower() + field[1:]), field)
        for field in _INTERNAL[kind]
    }


def _id(value: int | None, path: str) -> Iterator[FieldError]:
    if value is not None and not 0 <= value <= _MOST_ID:
        yield invalid(path, value, f"must be between 0 and {_MOST_ID}, inclusive")


def _seccomp(profile: JsonObject | None, path: str) -> Iterator[FieldError]:
    if profile is None:
        return
    kind, name = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        yield required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in _PROFILES:
        yield not_supported(f"{path}.type", kind, _PROFILES)
    where = f"{path}.localhostProfile"
    if kind != "Localhost":
        if name is not None:
            shown = {"Type": kind, "LocalhostProfile": name}
            yield invalid(where, shown, "can only be set when seccomp type is Localhost")
    elif name is None:
        yield required(where, "must be set when seccomp type is Localhost")
    else:
        yield from descending(name, where)


def _app_armor(profile: JsonObject | None, path: str) -> Iterator[FieldError]:
    if profile is None:
        return
    kind, name = profile.get("type") or "", profile.get("localhostProfile")
    where = f"{path}.localhostProfile"
    if not kind:
        yield required(f"{path}.type", "type is required when appArmorProfile is set")
    elif kind not in _PROFILES:
        yield not_supported(f"{path}.type", kind, _PROFILES)
    elif kind != "Localhost":
        if name is not None:
            yield invalid(where, name, "can only be set when AppArmor type is Localhost")
    elif not name:
        yield required(where, "must be set when AppArmor type is Localhost")
    elif name != name.strip():
        yield invalid(where, name, "must not be padded with whitespace")
    elif len(name.encode()) > _LONGEST_PROFILE:
        yield too_long(where, _LONGEST_PROFILE)


def validate_pod_security(spec: JsonObject, path: str) -> Iterator[FieldError]:
    """``spec.securityContext`` and what it depends on."""
    context, where = spec.get("securityContext") or {}, f"{path}.securityContext"
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        yield from _id(context.get(field), f"{where}.{field}")
    for index, group in enumerate(context.get("supplementalGroups") or []):
        yield from _id(group, f"{where}.supplementalGroups[{index}]")
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield invalid(f"{where}.shareProcessNamespace", True, detail)
    yield from _sysctls(context.get("sysctls") or [], spec, f"{where}.sysctls")
    yield from _choice(context, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), where)
    yield from _seccomp(context.get("seccompProfile"), f"{where}.seccompProfile")
    yield from _app_armor(context.get("appArmorProfile"), f"{where}.appArmorProfile")
    yield from _choice(context, "supplementalGroupsPolicy", ("Merge", "Strict"), where)
    yield from _choice(context, "seLinuxChangePolicy", ("MountOption", "Recursive"), where)


def _choice(context: JsonObject, field: str, allowed: tuple[str, ...], path: str) -> Iterator[FieldError]:
    value = context.get(field)
    if value is not None and value not in allowed:
        yield not_supported(f"{path}.{field}", value, allowed)


def _sysctls(sysctls: list[JsonObject], spec: JsonObject, path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        where, name = f"{path}[{index}].name", sysctl.get("name") or ""
        if not name:
            yield required(where)
        elif len(name) > _LONGEST_SYSCTL or not _IS_SYSCTL.match(name):
            detail = f"must have at most {_LONGEST_SYSCTL} characters and match regex ^{_SYSCTL}$"
            yield invalid(where, name, detail)
        elif name in seen:
            yield duplicate(where, name)
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            yield invalid(where, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and (dotted == "kernel.sem" or dotted.startswith(_IPC_SYSCTLS)):
            yield invalid(where, name, "may not be specified when 'hostIPC' is true")


def validate_host_users(spec: JsonObject, path: str) -> Iterator[FieldError]:
    """Users of its own, a pod has together with all the namespaces."""
    if spec.get("hostUsers") is not False:
        return
    for field, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(field):
            yield forbidden(f"{path}.{shown}", "when `pod.Spec.HostUsers` is false")

"""As whom and with which rights a container runs: its security context over its pod's. Pure.

Rule source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/ ; capabilities by default:
containerd's. Complaints are a kubelet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.api.pods import qos_class
from nodeport.api.quantity import parse_quantity
from nodeport.node.oci.spec import User

DEFAULT_CAPABILITIES = frozenset({
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
})  # fmt: skip
ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""In the order of their numbers."""
GUARANTEED_SCORE, BEST_EFFORT_SCORE = -997, 1000


class SecurityError(Exception):
    """The container may not, or cannot, run like this; the text is its waiting message."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What names in an image's user mean: the root file system's ``/etc/passwd`` and ``/etc/group``."""

    passwd: str = ""
    group: str = ""

    def user(self, name: str) -> tuple[int, int] | None:
        """(uid, primary gid) by name or number; None for an unknown name."""
        for fields in _entries(self.passwd, 4):
            if fields[0] == name or (name.isdecimal() and fields[2] == name):
                return int(fields[2]), int(fields[3])
        return (int(name), 0) if name.isdecimal() else None

    def group_id(self, name: str) -> int | None:
        for fields in _entries(self.group, 3):
            if fields[0] == name:
                return int(fields[2])
        return int(name) if name.isdecimal() else None

    def memberships(self, uid: int) -> tuple[int, ...]:
        """The groups that list the user of this number."""
        names = {fields[0] for fields in _entries(self.passwd, 4) if fields[2] == str(uid)}
        rows = _entries(self.group, 4)
        return tuple(int(fields[2]) for fields in rows if names & set(fields[3].split(",")))


def _entries(text: str, least: int) -> list[list[str]]:
    rows = [line.split(":") for line in text.splitlines()]
    return [row for row in rows if len(row) >= least and row[2].isdecimal()]


def wanted(container: Mapping[str, Any], pod: JsonObject, name: str) -> Any:
    """A field that both contexts have; the container's goes before the pod's. None: neither says."""
    own = container.get("securityContext") or {}
    shared = pod["spec"].get("securityContext") or {}
    return own[name] if own.get(name) is not None else shared.get(name)


def user(container: Mapping[str, Any], pod: JsonObject, image_user: str, accounts: Accounts) -> User:
    """Who runs. ``image_user``: the image's USER[:GROUP]. Raises SecurityError."""
    name, _, group = image_user.partition(":")
    uid = wanted(container, pod, "runAsUser")
    _check_non_root(container, pod, name, uid)
    found = accounts.user(str(uid) if uid is not None else name or "0")
    if found is None:
        raise SecurityError(f"unable to find user {name}: no matching entries in passwd file")
    gid = wanted(container, pod, "runAsGroup")
    if gid is None:
        gid = found[1] if uid is not None or not group else accounts.group_id(group)
    if gid is None:
        raise SecurityError(f"unable to find group {group}: no matching entries in group file")
    return User(found[0], int(gid), _more_groups(pod, found[0], int(gid), accounts))


def _more_groups(pod: JsonObject, uid: int, gid: int, accounts: Accounts) -> tuple[int, ...]:
    shared = pod["spec"].get("securityContext") or {}
    groups = [*(shared.get("supplementalGroups") or ())]
    if shared.get("fsGroup") is not None:
        groups.append(shared["fsGroup"])
    if shared.get("supplementalGroupsPolicy") != "Strict":
        groups += accounts.memberships(uid)
    return tuple(dict.fromkeys((gid, *groups)))


def _check_non_root(container: Mapping[str, Any], pod: JsonObject, image_user: str, uid: int | None) -> None:
    if not wanted(container, pod, "runAsNonRoot"):
        return
    metadata = pod["metadata"]
    shown = f"{metadata['name']}_{metadata['namespace']}({metadata.get('uid', '')})"
    who = f'(pod: "{shown}", container: {container["name"]})'
    if uid is not None:
        if uid == 0:
            raise SecurityError(f"container's runAsUser breaks non-root policy {who}")
    elif image_user and not image_user.isdecimal():
        raise SecurityError(
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root"
            f" {who}"
        )
    elif not int(image_user or 0):
        raise SecurityError(f"container has runAsNonRoot and image will run as root {who}")


def capabilities(container: Mapping[str, Any], possible: frozenset[str]) -> frozenset[str]:
    """``possible``: those that this machine can give at all. Raises SecurityError for one it does not know."""
    context = container.get("securityContext") or {}
    if context.get("privileged"):
        return possible
    asked = context.get("capabilities") or {}
    add, drop = _named(asked.get("add")), _named(asked.get("drop"))
    found = possible if "CAP_ALL" in add else DEFAULT_CAPABILITIES
    found = frozenset() if "CAP_ALL" in drop else found
    if "CAP_ALL" not in add:
        found = found | frozenset(add)
    found = found - frozenset(drop)
    unknown = sorted(found - frozenset(ALL_CAPABILITIES))
    if unknown:
        raise SecurityError(f"unknown capability {unknown[0]}")
    return found & possible


def _named(names: Sequence[str] | None) -> list[str]:
    upper = (name.upper() for name in names or ())
    return [name if name.startswith("CAP_") else f"CAP_{name}" for name in upper]


def possible_capabilities(bits: int) -> frozenset[str]:
    """From the bounding set of this process as /proc tells it."""
    return frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if bits >> number & 1)


def oom_score(container: Mapping[str, Any], pod: JsonObject, memory: int, least: int) -> int:
    """How soon the kernel kills it when ``memory`` (bytes, the machine's) runs out; never below ``least``.

    Guaranteed pods last, best-effort ones first, the others by the share of memory that they asked for.
    """
    match qos_class(pod):
        case "Guaranteed":
            score = GUARANTEED_SCORE
        case "BestEffort":
            score = BEST_EFFORT_SCORE
        case _:
            requests = (container.get("resources") or {}).get("requests") or {}
            asked = int(parse_quantity(str(requests.get("memory") or 0)))
            score = min(max(1000 - 1000 * asked // max(memory, 1), 1000 + GUARANTEED_SCORE), 999)
    return max(score, least)

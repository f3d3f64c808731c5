"""The system calls that a container with the profile ``RuntimeDefault`` cannot make. Pure.

A list of what is refused, by what each call needs: what the kernel offers beside it is allowed. Rule source: the
reasons that https://docs.docker.com/engine/security/seccomp/ gives for the calls that its profile blocks.
"""

from __future__ import annotations

import errno

from nodeport.api.meta import JsonObject

FORBIDDEN = (
    "_sysctl", "add_key", "create_module", "get_kernel_syms", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "kexec_file_load", "kexec_load", "keyctl", "nfsservctl", "query_module", "request_key", "sysfs", "uselib",
    "userfaultfd", "ustat", "vm86", "vm86old",
)  # fmt: skip
NEEDS = {
    "CAP_BPF": ("bpf",),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_PERFMON": ("perf_event_open",),
    "CAP_SYSLOG": ("syslog",),
    "CAP_SYS_ADMIN": (
        "bpf", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount", "mount_setattr",
        "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname",
        "setns", "syslog", "umount", "umount2", "unshare",
    ),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
}  # fmt: skip
"""Calls of which any one of these capabilities is enough."""
NEW_NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""The bits of clone's flags that make mount, cgroup, UTS, IPC, user, PID and network namespaces."""
ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")


def runtime_default(capabilities: frozenset[str], machine: str) -> JsonObject:
    """``linux.seccomp`` for a container with these capabilities; ``machine`` as uname has it."""
    allowed = {call for name, calls in NEEDS.items() if name in capabilities for call in calls}
    refused = {call for calls in NEEDS.values() for call in calls} - allowed | set(FORBIDDEN)
    rules: list[JsonObject] = [_refuse(sorted(refused), errno.EPERM)]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(
            _refuse(["clone3"], errno.ENOSYS)
        )  # its flags are in memory; programs fall back to clone
        rules += [
            _refuse(["clone"], errno.EPERM) | {
                "args": [{"index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ"}]
            }
            for bit in NEW_NAMESPACES
        ]  # fmt: skip
    family = ARCHITECTURES[:3] if machine == "x86_64" else ARCHITECTURES[3:]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": list(family), "syscalls": rules}


def _refuse(names: list[str], number: int) -> JsonObject:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number}

from __future__ import annotations

import re

import pytest

from nodeport.api.meta import JsonObject
from nodeport.node.admission import refusal
from nodeport.node.oci import seccomp


def pod(**spec: object) -> JsonObject:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}], **spec}}


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        ({"os": {"name": "windows"}}, "PodOSNotSupported", "doesn't match node OS"),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted',
        ),
        (
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net/ipv4/tcp_rmem", "value": "1"}]}},
            "SysctlForbidden", "not allowed with host net enabled",
        ),
        ({"runtimeClassName": "gvisor"}, "UnsupportedByNode", "spec.runtimeClassName 'gvisor'"),
        ({"hostUsers": False}, "UnsupportedByNode", "spec.hostUsers"),
        (
            {"containers": [{"name": "c", "securityContext": {"seccompProfile": {"type": "Localhost"}}}]},
            "UnsupportedByNode", r"spec.containers\[c\].securityContext.seccompProfile Localhost",
        ),
        ({"containers": [{"name": "c", "volumeDevices": [{}]}]}, "UnsupportedByNode", "volumeDevices"),
    ],
)  # fmt: skip
def test_what_can_never_run_is_refused_with_its_field(spec: JsonObject, reason: str, message: str) -> None:
    found = refusal(pod(**spec))
    assert found is not None
    assert found[0] == reason
    assert re.search(message, found[1])


def test_everything_else_may_run() -> None:
    sysctls = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    context = {"sysctls": sysctls, "seccompProfile": {"type": "RuntimeDefault"}}
    assert refusal(pod(securityContext=context, os={"name": "linux"}, hostUsers=True)) is None


def refused(*capabilities: str) -> set[str]:
    profile = seccomp.runtime_default(frozenset(capabilities), "x86_64")
    return {name for rule in profile["syscalls"] for name in rule["names"] if "args" not in rule}


def test_a_capability_opens_the_calls_that_need_it() -> None:
    assert {"mount", "keyctl", "reboot", "clone3"} <= refused()
    assert {"mount", "clone3", "unshare"} & refused("CAP_SYS_ADMIN") == set()
    assert "keyctl" in refused("CAP_SYS_ADMIN")
    assert "perf_event_open" not in refused("CAP_PERFMON")
    assert {"openat", "execve", "ptrace", "clone"} & refused() == set()

"""From a container of a pod to the order that starts it. Pure, but for the devices of a privileged one."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from nodeport.node import environment
from nodeport.node.environment import ConfigError, PodFacts
from nodeport.node.images.base import Image
from nodeport.node.oci import machine as machines
from nodeport.node.oci import resources, seccomp, security
from nodeport.node.oci.machine import Machine
from nodeport.node.oci.security import Accounts, SecurityError
from nodeport.node.oci.spec import Isolation, Mount, Process
from nodeport.node.runtime import ContainerOrder

DEFAULT_MESSAGE_PATH = "/dev/termination-log"


def container_order(
    container: Mapping[str, Any], attempt: int, image: Image, facts: PodFacts, machine: Machine, accounts: Accounts,
    mounts: tuple[Mount, ...],
) -> ContainerOrder:  # fmt: skip
    """Raises ConfigError for what the spec asks and cannot be had."""
    context = container.get("securityContext") or {}
    declared = environment.declared_environment(container, facts)
    try:
        process = Process(
            argv=environment.arguments(container, image, declared),
            env=environment.whole_environment(container, image, facts, declared),
            cwd=container.get("workingDir") or image.config.working_dir or "/",
            user=security.user(container, facts.pod, image.config.user, accounts),
            capabilities=security.capabilities(container, machine.capabilities),
            no_new_privileges=context.get("allowPrivilegeEscalation") is False,
            tty=bool(container.get("tty")),
            oom_score_adj=security.oom_score(container, facts.pod, machine.memory, machine.least_oom_score),
        )  # fmt: skip
    except SecurityError as error:
        raise ConfigError(str(error)) from error
    return ContainerOrder(
        name=container["name"], attempt=attempt, image=image, process=process,
        isolation=isolation(container, facts, process.capabilities), mounts=mounts,
        is_own_program=not container.get("command"),
        stdin=bool(container.get("stdin")), stdin_once=bool(container.get("stdinOnce")),
        message_path=container.get("terminationMessagePath") or DEFAULT_MESSAGE_PATH,
        message_from_log=container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
    )  # fmt: skip


def isolation(container: Mapping[str, Any], facts: PodFacts, capabilities: frozenset[str]) -> Isolation:
    context = container.get("securityContext") or {}
    privileged = bool(context.get("privileged"))
    profile = security.wanted(container, facts.pod, "seccompProfile") or {}
    confined = profile.get("type") == "RuntimeDefault" and not privileged
    shared = facts.pod["spec"].get("securityContext") or {}
    return Isolation(
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        privileged=privileged,
        unmasked=context.get("procMount") == "Unmasked",
        devices=machines.devices() if privileged else (),
        resources=resources.cgroup_figures(container),
        seccomp=seccomp.runtime_default(capabilities, platform.machine()) if confined else None,
        sysctls={each["name"].replace("/", "."): each["value"] for each in shared.get("sysctls") or ()},
    )

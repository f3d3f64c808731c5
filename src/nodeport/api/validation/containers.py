"""Rules on a pod's containers of all sorts, in the order in which the Kubernetes API reports them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import (
    FieldError,
    FieldErrorType,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)
from nodeport.api.validation.amounts import validate_amounts
from nodeport.api.validation.environment import validate_env, validate_env_from
from nodeport.api.validation.mounts import Volumes, validate_mounts
from nodeport.api.validation.podsecurity import validate_security_context
from nodeport.api.validation.ports import PROTOCOLS, validate_port
from nodeport.api.validation.probes import refuse_hooks_and_probes, validate_hooks_and_probes

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RULE_ACTIONS, _CODE_OPERATORS = ("Restart", "RestartAllContainers"), ("In", "NotIn")
_RESIZED = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")
_EPHEMERAL_FIELDS = frozenset({
    "name", "image", "command", "args", "workingDir", "env", "envFrom", "volumeMounts", "volumeDevices",
    "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin", "stdinOnce",
    "tty", "targetContainerName",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pod:
    """What the rules on one container need of its pod."""

    spec: JsonObject
    volumes: Volumes

    @property
    def grace(self) -> int | None:
        found: int | None = self.spec.get("terminationGracePeriodSeconds")
        return found

    @property
    def has_host_users(self) -> bool:
        return self.spec.get("hostUsers") is not False


def validate_containers(spec: JsonObject, path: str, volumes: Volumes) -> Iterator[FieldError]:
    """All containers of a pod spec; names are distinct across them."""
    pod, seen = _Pod(spec, volumes), set[str]()
    if spec.get("containers"):
        yield from _regular(pod, f"{path}.containers", seen)
    else:
        yield required(f"{path}.containers")
    yield from _init(pod, f"{path}.initContainers", seen)
    yield from _ephemeral(pod, f"{path}.ephemeralContainers", seen)


def _regular(pod: _Pod, path: str, seen: set[str]) -> Iterator[FieldError]:
    containers = pod.spec["containers"]
    for index, container in enumerate(containers):
        where = f"{path}[{index}]"
        yield from _container(container, where, pod)
        yield from _distinct(container, where, seen)
        yield from validate_hooks_and_probes(container, where, pod.grace)
        yield from _restart_policy(container, where)
    yield from _host_ports(containers, path)


def _init(pod: _Pod, path: str, seen: set[str]) -> Iterator[FieldError]:
    for index, container in enumerate(pod.spec.get("initContainers") or []):
        where = f"{path}[{index}]"
        yield from _container(container, where, pod)
        yield from _restart_policy(container, where)
        yield from _distinct(container, where, seen)
        yield from _host_ports(
            [container], path
        )  # they run one by one; the index is always the first, as it is told
        if container.get("restartPolicy") == "Always":
            yield from validate_hooks_and_probes(container, where, pod.grace)
        else:
            yield from refuse_hooks_and_probes(container, where)


def _ephemeral(pod: _Pod, path: str, seen: set[str]) -> Iterator[FieldError]:
    others = frozenset(seen)
    for index, container in enumerate(pod.spec.get("ephemeralContainers") or []):
        where = f"{path}[{index}]"
        yield from _container(container, where, pod)
        yield from validate_image_of_pod(container, where)
        yield from _distinct(container, where, seen)
        target = container.get("targetContainerName") or ""
        if target and target not in others:
            yield FieldError(FieldErrorType.NOT_FOUND, f"{where}.targetContainerName", target)
        for field, value in container.items():
            if field not in _EPHEMERAL_FIELDS and value not in (None, [], {}, ""):
                yield forbidden(f"{where}.{field}", "cannot be set for an Ephemeral Container")


def _distinct(container: JsonObject, path: str, seen: set[str]) -> Iterator[FieldError]:
    name = container.get("name") or ""
    if name in seen:
        yield duplicate(f"{path}.name", name)
    elif name:
        seen.add(name)


def _container(container: JsonObject, path: str, pod: _Pod) -> Iterator[FieldError]:
    """What holds for containers of all sorts."""
    name = container.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    for why in names.dns_label(name) if name else ():
        yield invalid(f"{path}.name", name, why)
    if not container.get("image"):
        yield required(f"{path}.image")
    yield from _one_of(container.get("terminationMessagePolicy") or "", _MESSAGE_POLICIES,
                       f"{path}.terminationMessagePolicy")  # fmt: skip
    yield from _ports(container.get("ports") or [], f"{path}.ports")
    yield from validate_env(container.get("env") or [], f"{path}.env")
    yield from validate_env_from(container.get("envFrom") or [], f"{path}.envFrom")
    yield from validate_mounts(container, path, pod.volumes)
    yield from _one_of(container.get("imagePullPolicy") or "", _PULL_POLICIES, f"{path}.imagePullPolicy")
    yield from validate_amounts(container.get("resources") or {}, f"{path}.resources")
    yield from _resize_policy(container, f"{path}.resizePolicy", pod.spec.get("restartPolicy") or "")
    yield from validate_security_context(
        container.get("securityContext"), f"{path}.securityContext", has_host_users=pod.has_host_users
    )


def _one_of(value: str, allowed: tuple[str, ...], path: str) -> Iterator[FieldError]:
    if not value:
        yield required(path)
    elif value not in allowed:
        yield not_supported(path, value, allowed)


def validate_image_of_pod(container: JsonObject, path: str) -> Iterator[FieldError]:
    """What templates are let pass, because somebody may complete them."""
    image = container.get("image") or ""
    if image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


def _restart_policy(container: JsonObject, path: str) -> Iterator[FieldError]:
    policy = container.get("restartPolicy")
    if policy is not None and policy not in _RESTART_POLICIES:
        yield not_supported(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    if container.get("restartPolicyRules") and policy is None:
        yield required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    for index, rule in enumerate(container.get("restartPolicyRules") or []):
        where, codes = f"{path}.restartPolicyRules[{index}]", rule.get("exitCodes")
        if (action := rule.get("action") or "") not in _RULE_ACTIONS:
            yield not_supported(f"{where}.action", action, _RULE_ACTIONS)
        if codes is None:
            yield required(f"{where}.exitCodes", "must be specified")
        elif (operator := codes.get("operator") or "") not in _CODE_OPERATORS:
            yield not_supported(f"{where}.exitCodes.operator", operator, _CODE_OPERATORS)


def _resize_policy(container: JsonObject, path: str, restart: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, policy in enumerate(container.get("resizePolicy") or []):
        name, chosen = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            yield duplicate(f"{path}[{index}]", name)
        seen.add(name)
        yield from _one_of(name, _RESIZED, path)
        yield from _one_of(chosen, _RESIZE_POLICIES, path)
        if restart == "Never" and chosen != "NotRequired":
            yield invalid(path, chosen, "must be 'NotRequired' when `restartPolicy` is 'Never'")


def _ports(ports: list[JsonObject], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name") or ""
        complaints = names.port_name(name) if name else ()
        yield from (invalid(f"{where}.name", name, why) for why in complaints)
        if name and not complaints and name in seen:
            yield duplicate(f"{where}.name", name)
        seen.add(name)
        if not port.get("containerPort"):
            yield required(f"{where}.containerPort")
        else:
            yield from validate_port(port["containerPort"], f"{where}.containerPort")
        if port.get("hostPort"):
            yield from validate_port(port["hostPort"], f"{where}.hostPort")
        yield from _one_of(port.get("protocol") or "", PROTOCOLS, f"{where}.protocol")
        if port.get("hostIP"):
            yield from (
                invalid(f"{where}.hostIP", port["hostIP"], why) for why in ip.ip_complaints(port["hostIP"])
            )


def _host_ports(containers: list[JsonObject], path: str) -> Iterator[FieldError]:
    """Two containers that run together cannot have the same host port."""
    seen: set[str] = set()
    for at, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or []):
            number = port.get("hostPort") or 0
            shown = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{number}"
            if number and shown in seen:
                yield duplicate(f"{path}[{at}].ports[{index}].hostPort", shown)
            seen.add(shown)

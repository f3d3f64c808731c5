"""Rules on containers: names, images, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.status import (
    FieldError,
    FieldErrorType,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)
from nodeport.api.validation.ports import PROTOCOLS, validate_port, validate_port_reference

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_VALUE_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_NOT_NEGATIVE = "must be greater than or equal to 0"


def validate_containers(spec: JsonObject, path: str, volumes: frozenset[str]) -> Iterator[FieldError]:
    """All containers of a pod spec; names are distinct across them. ``volumes``: the names that mounts may use."""
    seen: set[str] = set()
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or []):
            where = f"{path}.{field}[{index}]"
            yield from _container(container, where, volumes)
            name = container.get("name") or ""
            if name in seen:
                yield duplicate(f"{where}.name", name)
            elif name:
                seen.add(name)
            sidecar = field == "initContainers" and container.get("restartPolicy") == "Always"
            yield from _hooks_and_probes(container, where, allowed=field == "containers" or sidecar)
    yield from _host_ports(spec, path)


def _container(container: JsonObject, path: str, volumes: frozenset[str]) -> Iterator[FieldError]:
    name, image = container.get("name") or "", container.get("image") or ""
    if not name:
        yield required(f"{path}.name")
    for why in names.dns_label(name) if name else ():
        yield invalid(f"{path}.name", name, why)
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    policy = container.get("terminationMessagePolicy") or ""
    if policy and policy not in _MESSAGE_POLICIES:
        yield not_supported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    yield from _ports(container.get("ports") or [], f"{path}.ports")
    yield from _env(container.get("env") or [], f"{path}.env")
    yield from _mounts(container.get("volumeMounts") or [], f"{path}.volumeMounts", volumes)
    pull = container.get("imagePullPolicy") or ""
    if not pull:
        yield required(f"{path}.imagePullPolicy")
    elif pull not in _PULL_POLICIES:
        yield not_supported(f"{path}.imagePullPolicy", pull, _PULL_POLICIES)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


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
        if not port.get("protocol"):
            yield required(f"{where}.protocol")
        elif port["protocol"] not in PROTOCOLS:
            yield not_supported(f"{where}.protocol", port["protocol"], PROTOCOLS)
        if port.get("hostIP"):
            yield from (
                invalid(f"{where}.hostIP", port["hostIP"], why) for why in ip.ip_complaints(port["hostIP"])
            )


def _host_ports(spec: JsonObject, path: str) -> Iterator[FieldError]:
    """Two containers of a pod cannot have the same host port."""
    seen: set[tuple[str, str, int]] = set()
    for at, container in enumerate(spec.get("containers") or []):
        for index, port in enumerate(container.get("ports") or []):
            number = port.get("hostPort") or 0
            key = (port.get("protocol") or "", port.get("hostIP") or "", number)
            if number and key in seen:
                shown = f"{key[1]}/{number}/{key[0]}" if key[1] else f"{number}/{key[0]}"
                yield duplicate(f"{path}.containers[{at}].ports[{index}].hostPort", shown)
            seen.add(key)


def _env(variables: list[JsonObject], path: str) -> Iterator[FieldError]:
    for index, variable in enumerate(variables):
        where, name = f"{path}[{index}]", variable.get("name") or ""
        if not name:
            yield required(f"{where}.name")
        for why in names.env_name(name) if name else ():
            yield invalid(f"{where}.name", name, why)
        if variable.get("valueFrom") is not None:
            yield from _value_from(variable, f"{where}.valueFrom")


def _value_from(variable: JsonObject, path: str) -> Iterator[FieldError]:
    sources = [field for field in _VALUE_SOURCES if variable["valueFrom"].get(field) is not None]
    if not sources:
        detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        yield invalid(path, "", detail)
    elif variable.get("value"):
        yield invalid(path, "", "may not be specified when `value` is not empty")
    elif len(sources) > 1:
        yield invalid(path, "", "may not have more than one field specified at a time")
    for field in sources:
        needed = {"fieldRef": "fieldPath", "resourceFieldRef": "resource"}.get(field, "key")
        if not variable["valueFrom"][field].get(needed):
            yield required(f"{path}.{field}.{needed}")


def _mounts(mounts: list[JsonObject], path: str, volumes: frozenset[str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        where, name, target = f"{path}[{index}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield required(f"{where}.name")
        if name not in volumes:
            yield FieldError(FieldErrorType.NOT_FOUND, f"{where}.name", name)
        if not target:
            yield required(f"{where}.mountPath")
        if target in seen:
            yield invalid(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        for field in ("subPath", "subPathExpr"):
            yield from _relative_path(mount.get(field) or "", f"{where}.{field}")


def _relative_path(text: str, path: str) -> Iterator[FieldError]:
    if text.startswith("/"):
        yield invalid(path, text, "must be a relative path")
    if ".." in text.split("/"):
        yield invalid(path, text, "must not contain '..'")


def _resources(resources: JsonObject, path: str) -> Iterator[FieldError]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            where = f"{path}.{field}[{name}]"
            yield from _resource_name(name, f"{path}.{field}")
            if parse_quantity(amount) < 0:
                yield invalid(where, str(amount), _NOT_NEGATIVE)
    for name, amount in requests.items():
        if name in limits and parse_quantity(amount) > parse_quantity(limits[name]):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid(f"{path}.requests", str(amount), detail)


def _resource_name(name: str, path: str) -> Iterator[FieldError]:
    yield from (invalid(path, name, why) for why in names.qualified_name(name))
    if "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
        yield invalid(path, name, "must be a standard resource type or fully qualified")
        yield invalid(path, name, "must be a standard resource for containers")


def _hooks_and_probes(container: JsonObject, path: str, *, allowed: bool) -> Iterator[FieldError]:
    """``allowed``: init containers that end have none."""
    for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        value = container.get(field)
        if value is None:
            continue
        where = f"{path}.{field}"
        if not allowed:
            yield forbidden(where, "may not be set for init containers without restartPolicy=Always")
        elif field == "lifecycle":
            yield from _lifecycle(value, where)
        else:
            yield from _probe(value, where)
            if field != "readinessProbe" and value.get("successThreshold") not in (None, 1):
                yield invalid(f"{where}.successThreshold", value["successThreshold"], "must be 1")


def _lifecycle(lifecycle: JsonObject, path: str) -> Iterator[FieldError]:
    for field in ("postStart", "preStop"):
        if lifecycle.get(field) is not None:
            yield from _handler(lifecycle[field], f"{path}.{field}", _HOOK_HANDLERS)


def _probe(probe: JsonObject, path: str) -> Iterator[FieldError]:
    yield from _handler(probe, path, _HANDLERS)
    for field in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        value = probe.get(field) or 0
        if value < 0:
            yield invalid(f"{path}.{field}", value, _NOT_NEGATIVE)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")


def _handler(holder: JsonObject, path: str, kinds: tuple[str, ...]) -> Iterator[FieldError]:
    found = [kind for kind in kinds if holder.get(kind) is not None]
    if not found:
        yield required(path, "must specify a handler type")
    for kind in found[1:]:
        yield forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    for kind in found[:1]:
        yield from _action(kind, holder[kind], f"{path}.{kind}")


def _action(kind: str, action: JsonObject, path: str) -> Iterator[FieldError]:
    match kind:
        case "exec":
            if not action.get("command"):
                yield required(f"{path}.command")
        case "httpGet":
            if not action.get("path"):
                yield required(f"{path}.path")
            yield from validate_port_reference(action.get("port", 0), f"{path}.port")
            if action.get("scheme") not in ("HTTP", "HTTPS"):
                yield not_supported(f"{path}.scheme", action.get("scheme") or "", ("HTTP", "HTTPS"))
            for header in action.get("httpHeaders") or []:
                name = header.get("name") or ""
                yield from (invalid(f"{path}.httpHeaders", name, why) for why in names.http_header_name(name))
        case "tcpSocket":
            yield from validate_port_reference(action.get("port", 0), f"{path}.port")
        case "grpc":
            yield from validate_port(action.get("port") or 0, f"{path}.port")

"""A container's environment, command and user, from its pod's spec. Pure, but for the settings that a caller fetched.

Rule source: https://kubernetes.io/docs/tasks/inject-data-application/ (environment variables, downward API)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.node.images.base import Image
from nodeport.node.images.host import DEFAULT_PATH
from nodeport.node.oci.resources import told

SettingKey = tuple[str, str]
"""(``configmaps`` or ``secrets``, name)."""
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")
_FIELD_OF_MAP = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ConfigError(Exception):
    """The spec asks for something that does not exist; the text is the waiting message of the container."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the downward API can tell beside the pod object itself. ``pod_ips``, ``host_ips``: the primary one first.
    ``capacity``: the node's; ``services``: the
    variables that tell of Services."""

    pod: JsonObject
    pod_ips: Sequence[str]
    host_ips: Sequence[str]
    hostname: str
    settings: Mapping[SettingKey, Mapping[str, str] | None] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)


def setting_keys(container: Mapping[str, Any]) -> Iterator[SettingKey]:
    """The ConfigMaps and Secrets that the container's environment refers to."""
    for source in container.get("envFrom") or ():
        for field_name, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if source.get(field_name):
                yield plural, source[field_name]["name"]
    for item in container.get("env") or ():
        origin = item.get("valueFrom") or {}
        for field_name, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if origin.get(field_name):
                yield plural, origin[field_name]["name"]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` becomes its value, ``$$`` a dollar; an unknown name stays as it is."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def references(text: str) -> set[str]:
    """The names that ``expand`` replaces."""
    return {match[2] for match in _REFERENCE.finditer(text) if match[2]}


def whole_environment(
    container: Mapping[str, Any], image: Image, facts: PodFacts, declared: Mapping[str, str]
) -> dict[str, str]:
    """What the container's program gets: the image's variables, and over them those of `declared_environment`."""
    found = {"PATH": DEFAULT_PATH, "HOSTNAME": facts.hostname}
    found |= dict(item.split("=", 1) for item in image.config.env if "=" in item)
    if image.describes_pod:
        found |= _echo_defaults(container, facts)
    return found | dict(declared)


def declared_environment(container: Mapping[str, Any], facts: PodFacts) -> dict[str, str]:
    """The variables that the API knows of, which alone can be referred to. Raises ConfigError."""
    found = dict(facts.services)
    for source in container.get("envFrom") or ():
        found |= _from_source(source, facts)
    for item in container.get("env") or ():
        if item.get("valueFrom"):
            value = _from_origin(item["valueFrom"], container, facts)
        else:
            value = expand(item.get("value") or "", found)
        if value is not None:
            found[item["name"]] = value
    return found


def _echo_defaults(container: Mapping[str, Any], facts: PodFacts) -> dict[str, str]:
    """What the built-in image tells its clients; it listens where its ports say."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    ports = dict.fromkeys(str(port["containerPort"]) for port in container.get("ports") or ())
    return {
        "POD_NAME": metadata["name"],
        "POD_NAMESPACE": metadata["namespace"],
        "POD_IP": facts.pod_ips[0],
        "NODE_NAME": spec.get("nodeName") or "",
        "PORT": ",".join(ports) or "8080",
    }


def _from_source(source: Mapping[str, Any], facts: PodFacts) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for field_name, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
        if not (reference := source.get(field_name)):
            continue
        values = facts.settings.get((plural, reference["name"]))
        if values is None and not reference.get("optional"):
            raise ConfigError(f'{plural[:-1]} "{reference["name"]}" not found')
        return {prefix + key: value for key, value in (values or {}).items()}
    return {}


def _from_origin(origin: Mapping[str, Any], container: Mapping[str, Any], facts: PodFacts) -> str | None:
    if reference := origin.get("fieldRef"):
        return field_value(reference["fieldPath"], facts)
    for field_name, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if not (reference := origin.get(field_name)):
            continue
        values = facts.settings.get((plural, reference["name"]))
        if values is not None and reference["key"] in values:
            return values[reference["key"]]
        if reference.get("optional"):
            return None
        if values is None:
            raise ConfigError(f'{plural[:-1]} "{reference["name"]}" not found')
        namespace = facts.pod["metadata"]["namespace"]
        kind = {"configmaps": "ConfigMap", "secrets": "Secret"}[plural]
        raise ConfigError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
    if origin.get("resourceFieldRef"):
        return resource_value(origin["resourceFieldRef"], container, facts)
    raise ConfigError(f"variables from {next(iter(origin), 'nothing')} are not supported by this node")


def resource_value(reference: Mapping[str, Any], container: Mapping[str, Any] | None, facts: PodFacts) -> str:
    """What a ``resourceFieldRef`` tells of ``container``, or of the one that it names. Raises ConfigError."""
    spec = facts.pod["spec"]
    if name := reference.get("containerName"):
        known = (*spec["containers"], *(spec.get("initContainers") or ()))
        container = next((one for one in known if one["name"] == name), None)
    if container is None:
        raise ConfigError(f"container {reference.get('containerName', '')} not found")
    try:
        return told(container, reference["resource"], str(reference.get("divisor") or ""), facts.capacity)
    except KeyError as error:
        raise ConfigError(f"unsupported container resource : {reference['resource']}") from error


def map_text(values: Mapping[str, str]) -> str:
    """Labels or annotations as a file shows them: a line each, sorted."""
    return "\n".join(f"{key}={json.dumps(values[key], ensure_ascii=False)}" for key in sorted(values))


def field_value(path: str, facts: PodFacts) -> str:
    """The downward API's fields. Raises ConfigError for a path that it does not have."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata.get("uid") or "",
        "spec.nodeName": spec.get("nodeName") or "",
        "spec.serviceAccountName": spec.get("serviceAccountName") or "",
        "status.hostIP": facts.host_ips[0],
        "status.hostIPs": ",".join(facts.host_ips),
        "status.podIP": facts.pod_ips[0],
        "status.podIPs": ",".join(facts.pod_ips),
    }
    if path in known:
        return str(known[path])
    if path in ("metadata.labels", "metadata.annotations"):
        return map_text(metadata.get(path.partition(".")[2]) or {})
    if match := _FIELD_OF_MAP.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    raise ConfigError(f"unsupported fieldPath: {path}")


def arguments(container: Mapping[str, Any], image: Image, variables: Mapping[str, str]) -> tuple[str, ...]:
    """``command`` replaces the image's program, ``args`` follow it; both are expanded."""
    command: Sequence[str] = container.get("command") or ()
    args: Sequence[str] = container.get("args") or ()
    own = image.config
    words = [expand(word, variables) for word in (*command, *args)]
    if not command:
        words = [*own.entrypoint, *(words or own.command)]
    if not words:
        raise ConfigError("no command specified")
    return tuple(words)

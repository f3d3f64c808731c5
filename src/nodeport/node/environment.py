"""A container's environment, command and user, from its pod's spec. Pure, but for the settings that a caller fetched.

Rule source: https://kubernetes.io/docs/tasks/inject-data-application/ (environment variables, downward API)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.node.images.base import Image
from nodeport.node.images.host import DEFAULT_PATH

SettingKey = tuple[str, str]
"""(``configmaps`` or ``secrets``, name)."""
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")
_FIELD_OF_MAP = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ConfigError(Exception):
    """The spec asks for something that does not exist; the text is the waiting message of the container."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the downward API can tell beside the pod object itself."""

    pod: JsonObject
    pod_ip: str
    host_ip: str
    hostname: str
    settings: Mapping[SettingKey, Mapping[str, str] | None] = field(default_factory=dict)


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


def environment(container: Mapping[str, Any], image: Image, facts: PodFacts) -> dict[str, str]:
    """All variables of the container. Raises ConfigError."""
    found = {"PATH": DEFAULT_PATH, "HOSTNAME": facts.hostname}
    found |= dict(item.split("=", 1) for item in image.config.env if "=" in item)
    if image.describes_pod:
        found |= _echo_defaults(container, facts)
    for source in container.get("envFrom") or ():
        found |= _from_source(source, facts)
    for item in container.get("env") or ():
        if item.get("valueFrom"):
            value = _from_origin(item["valueFrom"], facts)
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
        "POD_IP": facts.pod_ip,
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


def _from_origin(origin: Mapping[str, Any], facts: PodFacts) -> str | None:
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
        raise ConfigError(f"couldn't find key {reference['key']} in {plural[:-1]} {reference['name']}")
    return "0"  # resourceFieldRef: nothing is limited here


def field_value(path: str, facts: PodFacts) -> str:
    """The downward API's fields. Raises ConfigError for a path that it does not have."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata.get("uid") or "",
        "spec.nodeName": spec.get("nodeName") or "",
        "spec.serviceAccountName": spec.get("serviceAccountName") or "",
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
    }
    if path in known:
        return str(known[path])
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

"""The files of the volumes that are made of other objects: configMap, secret, downwardAPI, projected. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.node.environment import (
    ConfigError,
    PodFacts,
    SettingKey,
    field_value,
    map_text,
    resource_value,
)

DEFAULT_MODE = 0o644
PRIVATE_MODE = 0o600
MADE_OF_OBJECTS = ("configMap", "secret", "downwardAPI", "projected")
_KINDS = {"configMap": "configmaps", "secret": "secrets"}
_WORDS = {"configmaps": "configmap", "secrets": "secret"}


@dataclass(frozen=True, slots=True)
class File:
    """``owner``: a user's number, None: root."""

    content: bytes
    mode: int = DEFAULT_MODE
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Whom a token of the pod's account is for, and how long it lives. ``audience`` "": the API server."""

    audience: str = ""
    seconds: int = 3600


Payload = dict[str, File]
"""Relative path -> file."""


def setting_keys(pod: JsonObject) -> Iterator[SettingKey]:
    """The ConfigMaps and Secrets that the pod's volumes show."""
    for source in _all_sources(pod):
        for kind, plural in _KINDS.items():
            if (reference := source.get(kind)) is not None:
                yield plural, _name(kind, reference)


def token_keys(pod: JsonObject) -> Iterator[TokenKey]:
    for source in _all_sources(pod):
        if (token := source.get("serviceAccountToken")) is not None:
            yield _token_key(token)


def _all_sources(pod: JsonObject) -> Iterator[Mapping[str, Any]]:
    for volume in pod["spec"].get("volumes") or ():
        yield volume
        yield from (volume.get("projected") or {}).get("sources") or ()


def _name(kind: str, reference: Mapping[str, Any]) -> str:
    return str(
        reference.get("secretName")
        if kind == "secret" and "secretName" in reference
        else reference.get("name")
    )


def _token_key(token: Mapping[str, Any]) -> TokenKey:
    return TokenKey(token.get("audience") or "", int(token.get("expirationSeconds") or 3600))


def text_values(obj: JsonObject, *, secret: bool) -> dict[str, str]:
    """The values of a ConfigMap or Secret as text, binary ones with their bytes kept as surrogates."""
    found = {} if secret else dict(obj.get("data") or {})
    encoded = obj.get("data") if secret else obj.get("binaryData")
    for key, value in (encoded or {}).items():
        try:
            found[key] = base64.b64decode(value).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            continue
    return found


def payload(volume: Mapping[str, Any], facts: PodFacts, tokens: Mapping[TokenKey, str]) -> Payload:
    """All files of such a volume. Raises ConfigError."""
    if (projected := volume.get("projected")) is not None:
        found: Payload = {}
        mode = _mode(projected)
        for source in projected.get("sources") or ():
            found |= _files(source, mode, facts, tokens)
    else:
        kind = next(kind for kind in MADE_OF_OBJECTS if kind in volume)
        found = _files(volume, _mode(volume[kind] or {}), facts, tokens)
    for path in found:
        if path.startswith("/") or ".." in path.split("/") or not path:
            raise ConfigError(f"invalid path {path!r}: must be inside the volume")
    return found


def _mode(source: Mapping[str, Any]) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _files(source: Mapping[str, Any], mode: int, facts: PodFacts, tokens: Mapping[TokenKey, str]) -> Payload:
    for kind, plural in _KINDS.items():
        if (reference := source.get(kind)) is not None:
            return _from_setting(plural, _name(kind, reference), reference, mode, facts)
    if (downward := source.get("downwardAPI")) is not None:
        return {item["path"]: _told(item, mode, facts) for item in downward.get("items") or ()}
    if (token := source.get("serviceAccountToken")) is not None:
        return {token["path"]: _token(token, mode, facts, tokens)}
    kind = next(iter(source), "")
    raise ConfigError(f"projected volumes of {kind} are not supported by this node")


def _token(token: Mapping[str, Any], mode: int, facts: PodFacts, tokens: Mapping[TokenKey, str]) -> File:
    """Private as soon as somebody is named whose it is: the pod's group, or the one user of its containers."""
    owner = only_user(facts.pod)
    shared = facts.pod["spec"].get("securityContext") or {}
    private = owner is not None or shared.get("fsGroup") is not None
    return File(tokens[_token_key(token)].encode(), PRIVATE_MODE if private else mode, owner)


def only_user(pod: JsonObject) -> int | None:
    """The user that all containers say they run as."""
    spec = pod["spec"]
    shared = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (one.get("securityContext") or {}).get("runAsUser", shared)
        for one in (*(spec.get("initContainers") or ()), *spec["containers"])
    }
    return users.pop() if len(users) == 1 else None


def _from_setting(
    plural: str, name: str, reference: Mapping[str, Any], mode: int, facts: PodFacts
) -> Payload:
    values = facts.settings.get((plural, name))
    optional = bool(reference.get("optional"))
    if values is None and not optional:
        raise ConfigError(f'{_WORDS[plural]} "{name}" not found')
    known = values or {}
    if not (items := reference.get("items")):
        return {key: File(_bytes(value), mode) for key, value in known.items()}
    found: Payload = {}
    for item in items:
        if item["key"] in known:
            own = item.get("mode")
            found[item["path"]] = File(_bytes(known[item["key"]]), mode if own is None else int(own))
        elif not optional:
            word = {"configmaps": "config", "secrets": "secret"}[plural]
            raise ConfigError(f"references non-existent {word} key: {item['key']}")
    return found


def _told(item: Mapping[str, Any], mode: int, facts: PodFacts) -> File:
    own = item.get("mode")
    if reference := item.get("fieldRef"):
        path = reference["fieldPath"]
        whole = {"metadata.labels": "labels", "metadata.annotations": "annotations"}.get(path)
        text = map_text(facts.pod["metadata"].get(whole) or {}) if whole else field_value(path, facts)
    else:
        text = resource_value(item["resourceFieldRef"], None, facts)
    return File(_bytes(text), mode if own is None else int(own))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

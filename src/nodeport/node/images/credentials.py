"""Who a pull is for: the credentials in the pod's imagePullSecrets that are for its registry. Pure.

Forms: ``.dockerconfigjson`` of kubernetes.io/dockerconfigjson, ``.dockercfg`` of kubernetes.io/dockercfg. Keys of the
entries may be URLs, may end with a path, and may have ``*`` in parts of the host's name:
https://kubernetes.io/docs/concepts/containers/images/#config-json
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeport.node.images.references import Reference

CONFIG_JSON, CONFIG = ".dockerconfigjson", ".dockercfg"


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: str = field(repr=False)

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def matching(secrets: Iterable[Mapping[str, str]], reference: Reference) -> list[Credentials]:
    """Those for the reference's registry and repository, the most exact first; what cannot be read is left out."""
    found = [
        (len(path), credentials)
        for host, path, credentials in _entries(secrets)
        if _covers(host, path, reference)
    ]
    found.sort(key=lambda each: -each[0])
    return list(dict.fromkeys(credentials for _, credentials in found))


def _entries(secrets: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str, Credentials]]:
    for secret in secrets:
        for key, entry in _auths(secret).items():
            if isinstance(entry, dict) and (credentials := _credentials(entry)):
                host, _, path = _bare(key).partition("/")
                yield host, path, credentials


def _auths(secret: Mapping[str, str]) -> dict[str, Any]:
    try:
        if CONFIG_JSON in secret:
            found = json.loads(secret[CONFIG_JSON])["auths"]
        else:
            found = json.loads(secret.get(CONFIG, "{}"))
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _credentials(entry: dict[str, Any]) -> Credentials | None:
    """``auth`` is base64 of USER:PASSWORD, and goes before the two by themselves."""
    try:
        if text := entry.get("auth"):
            user, colon, password = base64.b64decode(text).decode().partition(":")
            return Credentials(user, password.strip("\0")) if colon else None
    except (ValueError, TypeError, binascii.Error):
        return None
    match entry:
        case {"username": str(user), "password": str(password)}:
            return Credentials(user, password)
    return None


def _bare(key: str) -> str:
    """Without scheme, and without the version that some tools write behind the host."""
    rest = key.partition("://")[2] or key
    host, slash, path = rest.partition("/")
    path = path.strip("/")
    for version in ("v1", "v2"):
        if path == version or path.startswith(f"{version}/"):
            path = path[len(version) :].strip("/")
    return f"{host}{slash}{path}".rstrip("/")


def _covers(host: str, path: str, reference: Reference) -> bool:
    """A pattern stands for one part of the name each, and never for a port."""
    name, _, port = reference.registry.partition(":")
    wanted, _, wanted_port = host.partition(":")
    parts, patterns = name.split("."), wanted.split(".")
    if port != wanted_port or len(parts) != len(patterns):
        return False
    if not all(fnmatch.fnmatchcase(part, pattern) for part, pattern in zip(parts, patterns, strict=True)):
        return False
    return not path or f"{reference.repository}/".startswith(f"{path}/")

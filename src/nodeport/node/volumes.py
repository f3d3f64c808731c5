"""The volumes that need no storage: emptyDir, configMap, secret, downwardAPI, and projections of these.

A volume is a directory below the pod's; containers see it by a bind mount. Volumes of other types are left out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nodeport.api.meta import JsonObject
from nodeport.node.environment import ConfigError, PodFacts, SettingKey, field_value
from nodeport.node.oci.spec import Mount

_DEFAULT_MODE = 0o644


def setting_keys(pod: JsonObject) -> Iterator[SettingKey]:
    """The ConfigMaps and Secrets that the pod's volumes show."""
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if config_map := source.get("configMap"):
                yield "configmaps", config_map["name"]
            if secret := source.get("secret"):
                yield "secrets", secret.get("secretName") or secret["name"]


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


def mounts(container: Mapping[str, Any], facts: PodFacts, directory: Path) -> tuple[Mount, ...]:
    """The container's volume mounts; their directories are made and filled. Raises ConfigError, OSError."""
    specs = {volume["name"]: volume for volume in facts.pod["spec"].get("volumes") or ()}
    found = []
    for wanted in container.get("volumeMounts") or ():
        volume = specs.get(wanted["name"])
        if volume is None:
            raise ConfigError(f'no volume named "{wanted["name"]}"')
        source = _directory(volume, facts, directory / wanted["name"])
        if source is None:
            continue
        inside = source / wanted["subPath"] if wanted.get("subPath") else source
        if not inside.resolve().is_relative_to(source.resolve()):
            raise ConfigError(f"subPath {wanted['subPath']!r} leaves its volume")
        read_only = wanted.get("readOnly") or "emptyDir" not in volume
        found.append(
            Mount(wanted["mountPath"], str(inside), ("rbind", "rro" if read_only else "rw", "rprivate"))
        )
    return tuple(found)


def _directory(volume: Mapping[str, Any], facts: PodFacts, path: Path) -> Path | None:
    """Where the volume is, None for a type that we do not have."""
    files: dict[str, str] | None
    if "emptyDir" in volume:
        path.mkdir(mode=0o777, parents=True, exist_ok=True)
        path.chmod(0o777)
        return path
    if "projected" in volume:
        files = {}
        for source in (volume["projected"] or {}).get("sources") or ():
            files |= _files(source, facts) or {}
    else:
        files = _files(volume, facts)
    if files is None:
        return None
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, content in files.items():
        target = path / name
        if not target.resolve().is_relative_to(path.resolve()):
            raise ConfigError(f"path {name!r} leaves its volume")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode("utf-8", "surrogateescape"))
        target.chmod(_DEFAULT_MODE)
    return path


def _files(source: Mapping[str, Any], facts: PodFacts) -> dict[str, str] | None:
    for field_name, plural in (("configMap", "configmaps"), ("secret", "secrets")):
        if (reference := source.get(field_name)) is not None:
            name = reference.get("secretName") or reference.get("name")
            values = facts.settings.get((plural, name))
            if values is None and not reference.get("optional"):
                raise ConfigError(f'{plural[:-1]} "{name}" not found')
            return _picked(values or {}, reference.get("items"))
    if downward := source.get("downwardAPI"):
        fields = (item for item in downward.get("items") or () if item.get("fieldRef"))
        return {item["path"]: field_value(item["fieldRef"]["fieldPath"], facts) for item in fields}
    return None


def _picked(values: Mapping[str, str], items: list[Mapping[str, Any]] | None) -> dict[str, str]:
    if not items:
        return dict(values)
    return {item["path"]: values[item["key"]] for item in items if item["key"] in values}

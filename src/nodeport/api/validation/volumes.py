"""Rules on a pod's volumes: names, and that each has one source that is whole."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, not_supported, required
from nodeport.api.validation.downward import (
    VOLUME_FIELDS,
    validate_amount_reference,
    validate_field_reference,
)
from nodeport.api.validation.paths import descending, not_reserved, validate_mode, without_backsteps

_KINDS = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc",
    "flexVolume", "configMap", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk",
    "storageos", "projected", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
"""In the order in which the API looks for them: of two, the first one counts."""
_MISNAMED = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Kinds that the text about a second kind spells in another way."""
_NEEDED: dict[str, tuple[str, ...]] = {
    "gitRepo": ("repository",), "secret": ("secretName",), "configMap": ("name",), "nfs": ("server", "path"),
    "persistentVolumeClaim": ("claimName",), "csi": ("driver",), "ephemeral": ("volumeClaimTemplate",),
    "image": ("reference",), "iscsi": ("targetPortal", "iqn"), "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",), "cephfs": ("monitors",), "rbd": ("monitors", "image"),
    "glusterfs": ("endpoints", "path"), "cinder": ("volumeID",), "azureFile": ("secretName", "shareName"),
    "azureDisk": ("diskName", "diskURI"), "vsphereVolume": ("volumePath",), "portworxVolume": ("volumeID",),
    "photonPersistentDisk": ("pdID",), "flexVolume": ("driver",),
}  # fmt: skip
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_LEAST_TOKEN_SECONDS = 600
_MOST_TOKEN_SECONDS = 1 << 32


def validate_volumes(
    volumes: list[JsonObject], path: str, found: dict[str, JsonObject]
) -> Iterator[FieldError]:
    """Puts the well-formed ones into ``found``: only those can be mounted."""
    for index, volume in enumerate(volumes):
        where, name = f"{path}[{index}]", volume.get("name") or ""
        errors = list(_source(volume, where))
        if not name:
            errors.append(required(f"{where}.name"))
        errors += [invalid(f"{where}.name", name, why) for why in (names.dns_label(name) if name else ())]
        if name in found:
            errors.append(duplicate(f"{where}.name", name))
        if not errors:
            found[name] = volume
        yield from errors


def _source(volume: JsonObject, path: str) -> Iterator[FieldError]:
    kinds = [kind for kind in _KINDS if volume.get(kind) is not None]
    if not kinds:
        yield required(path, "must specify a volume type")
        return
    yield from validate_source(kinds[0], volume[kinds[0]], f"{path}.{kinds[0]}")
    for kind in kinds[1:]:
        yield forbidden(f"{path}.{_MISNAMED.get(kind, kind)}", "may not specify more than 1 volume type")


def validate_source(kind: str, source: JsonObject, path: str) -> Iterator[FieldError]:
    """One source of a pod's volume or a PersistentVolume, by the name of its field."""
    for field in _NEEDED.get(kind, ()):
        if not source.get(field):
            yield required(f"{path}.{field}")
    match kind:
        case "emptyDir":
            if parse_quantity(source.get("sizeLimit") or "0") < 0:
                yield forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")
        case "hostPath":
            yield from _host_path(source, path)
        case "gitRepo":
            yield from descending(source.get("directory") or "", f"{path}.directory")
        case "nfs":
            if not (source.get("path") or "").startswith("/"):
                yield invalid(f"{path}.path", source.get("path") or "", "must be an absolute path")
        case "secret" | "configMap" | "downwardAPI" | "projected":
            yield from _files(kind, source, path)


def _files(kind: str, source: JsonObject, path: str) -> Iterator[FieldError]:
    """What the node writes itself."""
    yield from validate_mode(source.get("defaultMode"), f"{path}.defaultMode")
    match kind:
        case "downwardAPI":
            for file in source.get("items") or []:
                yield from _downward_file(file, path)
        case "projected":
            yield from _projection(source.get("sources") or [], path)
        case _:
            yield from _items(source, path)


def _host_path(source: JsonObject, path: str) -> Iterator[FieldError]:
    if not source.get("path"):
        yield required(f"{path}.path")
        return
    yield from without_backsteps(source["path"], f"{path}.path")
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        yield not_supported(f"{path}.type", kind, _HOST_PATH_TYPES)


def _items(source: JsonObject, path: str) -> Iterator[FieldError]:
    for index, item in enumerate(source.get("items") or []):
        where = f"{path}.items[{index}]"
        for field in ("key", "path"):
            if not item.get(field):
                yield required(f"{where}.{field}")
        yield from not_reserved(item.get("path") or "", f"{where}.path")
        yield from validate_mode(item.get("mode"), f"{where}.mode")


def _downward_file(file: JsonObject, path: str) -> Iterator[FieldError]:
    if not file.get("path"):
        yield required(f"{path}.path")
    yield from not_reserved(file.get("path") or "", f"{path}.path")
    field, amount = file.get("fieldRef"), file.get("resourceFieldRef")
    if field is not None:
        yield from validate_field_reference(field, VOLUME_FIELDS, f"{path}.fieldRef")
        if amount is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            yield invalid(path, "resource", detail)
    elif amount is not None:
        yield from validate_amount_reference(amount, f"{path}.resourceFieldRef", in_volume=True)
    else:
        yield required(path, "one of fieldRef and resourceFieldRef is required")
    yield from validate_mode(file.get("mode"), f"{path}.mode")


def _projection(sources: list[JsonObject], path: str) -> Iterator[FieldError]:
    taken: set[str] = set()
    for index, source in enumerate(sources):
        where = f"{path}.sources[{index}]"
        for kind in ("secret", "configMap"):
            if (one := source.get(kind)) is not None:
                if not one.get("name"):
                    yield required(f"{where}.{kind}.name")
                yield from _items(one, f"{where}.{kind}")
                yield from _conflicts(one.get("items") or [], one.get("name") or "", path, taken)
        for file in (source.get("downwardAPI") or {}).get("items") or []:
            yield from _downward_file(file, f"{where}.downwardAPI")
            yield from _conflicts([file], file.get("path") or "", path, taken)
        if (token := source.get("serviceAccountToken")) is not None:
            yield from _token(token, f"{where}.serviceAccountToken", path)
        if sum(value is not None for value in source.values()) > 1:
            yield forbidden(where, "may not specify more than 1 volume type per source")


def _conflicts(items: list[JsonObject], shown: str, path: str, taken: set[str]) -> Iterator[FieldError]:
    for item in items:
        place = item.get("path") or ""
        if place and place in taken:
            yield invalid(path, shown, "conflicting duplicate paths")
        taken.add(place)


def _token(token: JsonObject, path: str, volume: str) -> Iterator[FieldError]:
    seconds = token.get("expirationSeconds") or 0
    if seconds < _LEAST_TOKEN_SECONDS:
        yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > _MOST_TOKEN_SECONDS:
        yield invalid(
            f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"
        )
    if not token.get("path"):
        yield required(f"{volume}.path")
    yield from not_reserved(token.get("path") or "", f"{volume}.path")

"""Rules on how containers mount volumes, as directories and as block devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, FieldErrorType, forbidden, invalid, not_supported, required
from nodeport.api.validation.paths import descending, without_backsteps

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")

Volumes = Mapping[str, JsonObject]
"""The well-formed volumes of a pod by name."""


def validate_mounts(container: JsonObject, path: str, volumes: Volumes) -> Iterator[FieldError]:
    mounts, devices = container.get("volumeMounts") or [], container.get("volumeDevices") or []
    yield from _mounts(container, mounts, f"{path}.volumeMounts", volumes)
    yield from _devices(devices, mounts, f"{path}.volumeDevices", volumes)


def _mounts(
    container: JsonObject, mounts: list[JsonObject], path: str, volumes: Volumes
) -> Iterator[FieldError]:
    devices = container.get("volumeDevices") or []
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
        if any(device.get("name") == name for device in devices):
            yield invalid(f"{where}.name", name, "must not already exist in volumeDevices")
        if any(device.get("devicePath") == target for device in devices):
            yield invalid(f"{where}.mountPath", target, "must not already exist as a path in volumeDevices")
        yield from _subpaths(mount, where, path, in_image=(volumes.get(name) or {}).get("image") is not None)
        yield from _propagation(mount, container, f"{path}.mountPropagation")
        yield from _recursive(mount, f"{path}.recursiveReadOnly")


def _subpaths(mount: JsonObject, where: str, path: str, *, in_image: bool) -> Iterator[FieldError]:
    """Kubernetes leaves the mount's index out of what it says of the paths themselves."""
    plain, expression = mount.get("subPath") or "", mount.get("subPathExpr") or ""
    for field, text in (("subPath", plain), ("subPathExpr", expression)):
        if in_image and text:
            yield invalid(f"{where}.{field}", text, "not allowed in image volume sources")
    yield from descending(plain, f"{path}.subPath")
    if plain and expression:
        yield invalid(f"{where}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
    yield from descending(expression, f"{path}.subPathExpr")


def _propagation(mount: JsonObject, container: JsonObject, path: str) -> Iterator[FieldError]:
    asked = mount.get("mountPropagation")
    if asked is None:
        return
    if asked not in _PROPAGATIONS:
        yield not_supported(path, asked, _PROPAGATIONS)
    privileged = (container.get("securityContext") or {}).get("privileged")
    if asked == "Bidirectional" and not privileged:
        yield forbidden(path, "Bidirectional mount propagation is available only to privileged containers")


def _recursive(mount: JsonObject, path: str) -> Iterator[FieldError]:
    asked = mount.get("recursiveReadOnly")
    if asked in (None, "Disabled"):
        return
    if asked not in _RECURSIVE:
        yield not_supported(path, asked, _RECURSIVE)
        return
    if not mount.get("readOnly"):
        yield forbidden(path, "may only be specified when readOnly is true")
    if mount.get("mountPropagation") not in (None, "None"):
        yield forbidden(path, "may only be specified when mountPropagation is None or not specified")


def _devices(
    devices: list[JsonObject], mounts: list[JsonObject], path: str, volumes: Volumes
) -> Iterator[FieldError]:
    paths: set[str] = set()
    seen: set[str] = set()
    for index, device in enumerate(devices):
        where, name, target = f"{path}[{index}]", device.get("name") or "", device.get("devicePath") or ""
        if not name:
            yield required(f"{where}.name")
        if name in seen:
            yield invalid(f"{where}.name", name, "must be unique")
        volume = volumes.get(name)
        if volume is None:
            yield FieldError(FieldErrorType.NOT_FOUND, f"{where}.name", name)
        elif not any(volume.get(kind) is not None for kind in ("persistentVolumeClaim", "ephemeral")):
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield invalid(f"{where}.name", name, detail)
        if not target:
            yield required(f"{where}.devicePath")
        if target in paths:
            yield invalid(f"{where}.devicePath", target, "must be unique")
        if list(without_backsteps(target, "")):
            yield invalid(f"{where}.devicePath", target, "can not contain backsteps ('..')")
        else:
            paths.add(target)
        if any(mount.get("name") == name for mount in mounts):
            yield invalid(f"{where}.name", name, "must not already exist in volumeMounts")
        if any(mount.get("mountPath") == target for mount in mounts):
            yield invalid(f"{where}.devicePath", target, "must not already exist as a path in volumeMounts")
        seen.add(name or f"{index}")

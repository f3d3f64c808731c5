"""Rules on PersistentVolumes, PersistentVolumeClaims and StorageClasses. Texts: the validation of Kubernetes 1.36."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity
from nodeport.api.status import FieldError, forbidden, invalid, not_supported, required
from nodeport.api.storage import ACCESS_MODES, BOUND, CLASS_ANNOTATION, VOLUME_MODES
from nodeport.api.validation.labelselectors import validate_label_selector
from nodeport.api.validation.meta import immutable
from nodeport.api.validation.volumes import validate_source

_STORAGE = "storage"
_ONE_POD = "ReadWriteOncePod"
_RECLAIM = ("Delete", "Recycle", "Retain")
_CLASS_RECLAIM = ("Delete", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_SOURCES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd", "quobyte", "cephfs",
    "iscsi", "cinder", "fc", "flexVolume", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume",
    "azureDisk", "scaleIO", "local", "storageos", "csi",
)  # fmt: skip
"""In the order in which the API looks for them: of two, the first one counts."""
_CLAIM_FIXED = (
    "spec is immutable after creation except resources.requests and "
    "volumeAttributesClassName for bound claims"
)
_SOURCE_FIXED = "spec.persistentvolumesource is immutable after creation"
_MOST_PARAMETERS = 512


def validate_claim(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from _access_modes(spec.get("accessModes") or [])
    if (selector := spec.get("selector")) is not None:
        yield from validate_label_selector(selector, "spec.selector")
    requests = (spec.get("resources") or {}).get("requests") or {}
    path = f"spec.resources[{_STORAGE}]"
    if _STORAGE not in requests:
        yield required(path)
    else:
        yield from _positive(requests[_STORAGE], path)
    yield from _class_and_mode(spec)


def _access_modes(modes: list[str]) -> Iterator[FieldError]:
    if not modes:
        yield required("spec.accessModes", "at least 1 access mode is required")
    yield from (
        not_supported("spec.accessModes", mode, sorted(ACCESS_MODES))
        for mode in modes
        if mode not in ACCESS_MODES
    )
    if _ONE_POD in modes and any(mode != _ONE_POD for mode in modes if mode in ACCESS_MODES):
        yield forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes")


def _class_and_mode(spec: JsonObject) -> Iterator[FieldError]:
    if name := spec.get("storageClassName"):
        yield from (invalid("spec.storageClassName", name, why) for why in names.dns_subdomain(name))
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        yield not_supported("spec.volumeMode", mode, VOLUME_MODES)


def _positive(amount: object, path: str) -> Iterator[FieldError]:
    if parse_quantity(str(amount)) <= 0:
        yield invalid(path, str(amount), "must be greater than zero")


def validate_claim_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_claim(new)
    spec, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    is_bound = (old.get("status") or {}).get("phase") == BOUND
    free = ["resources", "volumeAttributesClassName"] if is_bound else []
    if not before.get("volumeName"):
        free.append("volumeName")  # by whoever binds it
    if before.get("storageClassName") is None and CLASS_ANNOTATION not in (
        old["metadata"].get("annotations") or {}
    ):
        free.append("storageClassName")  # by whoever finds a default later
    if any(spec.get(field) != before.get(field) for field in {*spec, *before}.difference(free)):
        yield forbidden("spec", _CLAIM_FIXED)


def validate_volume(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    yield from _access_modes(spec.get("accessModes") or [])
    yield from _capacity(spec.get("capacity") or {})
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _RECLAIM:
        yield not_supported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    yield from _one_source(spec)
    if policy == "Recycle" and posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") == "/":
        why = "may not be 'recycle' for a hostPath mount of '/'"
        yield forbidden("spec.persistentVolumeReclaimPolicy", why)
    yield from _class_and_mode(spec)


def _capacity(capacity: JsonObject) -> Iterator[FieldError]:
    if not capacity:
        yield required("spec.capacity")
    elif set(capacity) != {_STORAGE}:
        yield not_supported("spec.capacity", capacity, (_STORAGE,))
    for name, amount in capacity.items():
        yield from _positive(amount, f"spec.capacity[{name}]")


def _one_source(spec: JsonObject) -> Iterator[FieldError]:
    kinds = [kind for kind in _SOURCES if spec.get(kind) is not None]
    if not kinds:
        yield required("spec", "must specify a volume type")
        return
    kind, source = kinds[0], spec[kinds[0]]
    yield from validate_source(kind, source, f"spec.{kind}")
    if kind == "csi" and not source.get("volumeHandle"):
        yield required("spec.csi.volumeHandle")
    if kind == "local":
        if not source.get("path"):
            yield required("spec.local.path")
        if not (spec.get("nodeAffinity") or {}).get("required"):
            yield required("metadata.annotations", "Local volume requires node affinity")
    for another in kinds[1:]:
        yield forbidden(f"spec.{another}", "may not specify more than 1 volume type")


def validate_volume_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_volume(new)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if any(spec.get(kind) != before.get(kind) for kind in _SOURCES):
        yield forbidden("spec.persistentvolumesource", _SOURCE_FIXED)
    yield from immutable(spec.get("volumeMode"), before.get("volumeMode"), "spec.volumeMode")


def validate_class(obj: JsonObject) -> Iterator[FieldError]:
    provisioner, parameters = obj.get("provisioner") or "", obj.get("parameters") or {}
    if not provisioner:
        yield required("provisioner")
    else:
        complaints = names.qualified_name(provisioner.lower())
        yield from (invalid("provisioner", provisioner, why) for why in complaints)
    if len(parameters) > _MOST_PARAMETERS:
        why = f"must have at most {_MOST_PARAMETERS} items"
        yield invalid("parameters", len(parameters), why)
    if "" in parameters:
        yield invalid("parameters", "", "field can not be empty.")
    policy, binding = obj.get("reclaimPolicy"), obj.get("volumeBindingMode")
    if policy and policy not in _CLASS_RECLAIM:
        yield not_supported("reclaimPolicy", policy, _CLASS_RECLAIM)
    if binding not in _BINDING:
        yield not_supported("volumeBindingMode", binding, _BINDING)


def validate_class_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    yield from validate_class(new)
    for field in ("parameters", "provisioner", "reclaimPolicy"):
        if (new.get(field) or None) != (old.get(field) or None):
            yield forbidden(field, f"updates to {field} are forbidden.")
    yield from immutable(new.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode")

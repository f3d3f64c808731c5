"""PersistentVolumes, claims and classes: defaults and rules, to the text."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.defaulting import apply_defaults
from nodeport.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES, Resource
from nodeport.api.validation.table import validate_create, validate_update

Json = dict[str, Any]
CLAIM: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
VOLUME: Json = {
    "accessModes": ["ReadWriteOnce"],
    "capacity": {"storage": "1Gi"},
    "hostPath": {"path": "/srv"},
}
FIXED = (
    "spec: Forbidden: spec is immutable after creation except resources.requests and "
    "volumeAttributesClassName for bound claims"
)


def made(row: Resource, content: Json, **status: Any) -> Json:
    obj = {"metadata": {"name": "x"}, **({"status": status} if status else {}), **content}
    if row.namespaced:
        obj["metadata"]["namespace"] = "default"
    apply_defaults(row, obj)
    return obj


def faults(row: Resource, obj: Json) -> list[str]:
    return [str(error) for error in validate_create(row, obj)]


def claim(**spec: Any) -> Json:
    return made(PERSISTENT_VOLUME_CLAIMS, {"spec": {**CLAIM, **spec}})


def volume(**spec: Any) -> Json:
    return made(PERSISTENT_VOLUMES, {"spec": {**VOLUME, **spec}})


def storage_class(**fields: Any) -> Json:
    return made(STORAGE_CLASSES, {"provisioner": "example.com/p", **fields})


def test_defaults_are_those_of_kubernetes() -> None:
    assert claim()["spec"]["volumeMode"] == "Filesystem"
    assert claim()["status"] == {"phase": "Pending"}
    kept = volume()["spec"]
    assert (kept["persistentVolumeReclaimPolicy"], kept["hostPath"]["type"]) == ("Retain", "")
    assert (storage_class()["reclaimPolicy"], storage_class()["volumeBindingMode"]) == ("Delete", "Immediate")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"accessModes": []}, ["spec.accessModes: Required value: at least 1 access mode is required"]),
        ({"accessModes": ["All"]},
         ['spec.accessModes: Unsupported value: "All": supported values: "ReadOnlyMany", "ReadWriteMany", '
          '"ReadWriteOnce", "ReadWriteOncePod"']),
        ({"accessModes": ["ReadWriteOnce", "ReadWriteOncePod"]},
         ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"]),
        ({"resources": {}}, ["spec.resources[storage]: Required value"]),
        ({"resources": {"requests": {"storage": "0"}}},
         ['spec.resources[storage]: Invalid value: "0": must be greater than zero']),
        ({"volumeMode": "Tape"},
         ['spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"']),
    ],
)  # fmt: skip
def test_a_claim_says_what_it_wants(spec: Json, expected: list[str]) -> None:
    assert faults(PERSISTENT_VOLUME_CLAIMS, claim(**spec)) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"capacity": {}}, ["spec.capacity: Required value"]),
        ({"hostPath": None}, ["spec: Required value: must specify a volume type"]),
        ({"nfs": {"server": "s", "path": "/"}}, ["spec.nfs: Forbidden: may not specify more than 1 volume type"]),
        ({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"},
         ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]),
        ({"hostPath": None, "local": {"path": "/srv"}},
         ["metadata.annotations: Required value: Local volume requires node affinity"]),
        ({"hostPath": None, "csi": {"driver": "d"}}, ["spec.csi.volumeHandle: Required value"]),
        ({"persistentVolumeReclaimPolicy": "Burn"},
         ['spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", '
          '"Retain"']),
    ],
)  # fmt: skip
def test_a_volume_says_what_it_is(spec: Json, expected: list[str]) -> None:
    assert faults(PERSISTENT_VOLUMES, volume(**spec)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"provisioner": ""}, ["provisioner: Required value"]),
        ({"reclaimPolicy": "Recycle"},
         ['reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"']),
        ({"volumeBindingMode": "Later"},
         ['volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"']),
    ],
)  # fmt: skip
def test_a_class_says_who_provisions(fields: Json, expected: list[str]) -> None:
    assert faults(STORAGE_CLASSES, storage_class(**fields)) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"resources": {"requests": {"storage": "2Gi"}}}, [FIXED]),
        ({}, {"volumeName": "v"}, []),
        ({"volumeName": "v"}, {"volumeName": "w"}, [FIXED]),
        ({}, {"storageClassName": "later"}, []),
        ({"storageClassName": "a"}, {"storageClassName": "b"}, [FIXED]),
    ],
)
def test_a_claim_is_only_changed_by_who_binds_it(old: Json, new: Json, expected: list[str]) -> None:
    errors = validate_update(PERSISTENT_VOLUME_CLAIMS, _versioned(claim(**new)), _versioned(claim(**old)))
    assert [str(error) for error in errors] == expected


def test_a_bound_claim_may_ask_for_more() -> None:
    old = claim() | {"status": {"phase": "Bound"}}
    new = claim(resources={"requests": {"storage": "2Gi"}})
    assert validate_update(PERSISTENT_VOLUME_CLAIMS, _versioned(new), _versioned(old)) == []


def test_what_a_class_and_a_volume_stand_for_stays() -> None:
    changed = validate_update(
        STORAGE_CLASSES, _versioned(storage_class(parameters={"a": "b"})), _versioned(storage_class())
    )
    assert [str(error) for error in changed] == [
        "parameters: Forbidden: updates to parameters are forbidden."
    ]
    moved = validate_update(
        PERSISTENT_VOLUMES, _versioned(volume(hostPath={"path": "/opt"})), _versioned(volume())
    )
    assert [error.field for error in moved] == ["spec.persistentvolumesource"]


def _versioned(obj: Json) -> Json:
    return obj | {"metadata": {**obj["metadata"], "resourceVersion": "1"}}

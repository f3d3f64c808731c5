"""What the server does for claims, volumes and classes beside keeping them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
IS_DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def claim(name: str, **spec: Any) -> Json:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": {**wanted, **spec}, "status": {"phase": "Bound"}}


async def test_a_claim_that_names_no_class_gets_the_default_one(raw: Any) -> None:
    none = await raw.create(CLAIMS, claim("none"))
    assert "storageClassName" not in none["spec"]
    assert none["status"] == {"phase": "Pending"}
    for name, noted in (("other", {}), ("usual", IS_DEFAULT)):
        await raw.create(
            CLASSES, {"metadata": {"name": name, "annotations": noted}, "provisioner": "example.com/p"}
        )
    assert (await raw.create(CLAIMS, claim("plain")))["spec"]["storageClassName"] == "usual"
    for name in ("", "other"):
        made = await raw.create(CLAIMS, claim(f"of-{name}x", storageClassName=name))
        assert made["spec"]["storageClassName"] == name


async def test_a_phase_has_the_time_at_which_it_came(raw: Any) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/srv"}}
    volume = await raw.create(VOLUMES, {"metadata": {"name": "v"}, "spec": spec})
    assert volume["status"]["phase"] == "Pending"
    assert volume["status"]["lastPhaseTransitionTime"] == volume["metadata"]["creationTimestamp"]
    volume["status"] |= {"phase": "Available", "lastPhaseTransitionTime": "2020-01-01T00:00:00Z"}
    told = await raw("PUT", f"{VOLUMES}/v/status", volume)
    assert told.json["status"] == volume["status"]
    again = told.json
    again["status"]["phase"] = "Bound"
    changed = (await raw("PUT", f"{VOLUMES}/v/status", again)).json["status"]
    assert changed["phase"] == "Bound"
    assert changed["lastPhaseTransitionTime"] != "2020-01-01T00:00:00Z"


async def test_claims_and_volumes_are_deleted_together_and_told_as_they_were(raw: Any) -> None:
    for name in ("a", "b"):
        await raw.create(CLAIMS, claim(name))
    gone = await raw("DELETE", f"{CLAIMS}/a")
    assert (gone.status, gone.json["kind"], gone.json["metadata"]["name"]) == (
        200,
        "PersistentVolumeClaim",
        "a",
    )
    assert (await raw("DELETE", CLAIMS)).status == 200
    assert (await raw.get(CLAIMS))["items"] == []
    assert (await raw.get(VOLUMES))["kind"] == "PersistentVolumeList"

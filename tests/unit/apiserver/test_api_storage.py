"""What the server does for claims, volumes and classes beside keeping them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
QUOTAS = "/api/v1/namespaces/default/resourcequotas"
LIMITS = "/api/v1/namespaces/default/limitranges"
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


async def test_claims_count_against_quotas_of_storage_and_of_their_class(raw: Any) -> None:
    of_gold = "gold.storageclass.storage.k8s.io/persistentvolumeclaims"
    hard = {"persistentvolumeclaims": "3", "requests.storage": "2Gi", of_gold: "1"}
    await raw.create(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    await raw.create(CLAIMS, claim("a", storageClassName="gold"))
    again = await raw("POST", CLAIMS, claim("b", storageClassName="gold"))
    assert (again.status, again.message) == (
        403,
        f'persistentvolumeclaims "b" is forbidden: exceeded quota: q, requested: {of_gold}=1, used: {of_gold}=1, '
        f"limited: {of_gold}=1",
    )
    big = await raw("POST", CLAIMS, claim("c", resources={"requests": {"storage": "5Gi"}}))
    assert (big.status, big.message) == (
        403,
        'persistentvolumeclaims "c" is forbidden: exceeded quota: q, requested: requests.storage=5Gi, used: '
        "requests.storage=1Gi, limited: requests.storage=2Gi",
    )


async def test_limit_ranges_bound_what_a_claim_asks_for(raw: Any) -> None:
    item = {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}
    await raw.create(LIMITS, {"metadata": {"name": "l"}, "spec": {"limits": [item]}})
    await raw.create(CLAIMS, claim("fits"))
    for asked, why in (
        ("512Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
    ):
        refused = await raw("POST", CLAIMS, claim("x", resources={"requests": {"storage": asked}}))
        assert (refused.status, refused.message) == (403, f'persistentvolumeclaims "x" is forbidden: {why}')

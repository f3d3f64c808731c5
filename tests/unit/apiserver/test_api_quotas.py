"""Quotas over HTTP: nothing beyond them is made, however many ask at once, and their status tells what is used."""

from __future__ import annotations

import asyncio
from typing import Any

from nodeport.testing.controlplane import eventually

Json = dict[str, Any]
CORE = "/api/v1/namespaces/default"
SERVICES, QUOTAS = f"{CORE}/services", f"{CORE}/resourcequotas"


def service(name: str, kind: str = "NodePort") -> Json:
    return {"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}}


async def limit(raw: Any, **hard: str) -> None:
    spec = {"hard": {name.replace("_", "."): amount for name, amount in hard.items()}}
    await raw.create(QUOTAS, {"metadata": {"name": "q"}, "spec": spec})
    await used_becomes(raw, {}, any_value=True)


async def used_becomes(raw: Any, wanted: Json, *, any_value: bool = False) -> None:
    async def is_so() -> bool:
        used = ((await raw.get(f"{QUOTAS}/q")).get("status") or {}).get("used")
        return used is not None and (any_value or wanted.items() <= used.items())

    await eventually(is_so)


async def test_node_ports_are_limited_and_given_back(raw: Any) -> None:
    await limit(raw, services_nodeports="2", services="9")
    await raw.create(SERVICES, service("a"))
    await raw.create(SERVICES, service("b"))
    await used_becomes(raw, {"services.nodeports": "2"})
    refused = await raw("POST", SERVICES, service("c"))
    assert (refused.status, refused.reason, refused.message) == (
        403, "Forbidden",
        'services "c" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=2, '
        "limited: services.nodeports=2",
    )  # fmt: skip
    plain = await raw.create(SERVICES, service("c", "ClusterIP"))
    plain["spec"]["type"] = "NodePort"
    changed = await raw("PUT", f"{SERVICES}/c", plain)
    assert (changed.status, "exceeded quota" in changed.message) == (403, True)
    await raw("DELETE", f"{SERVICES}/a")
    await used_becomes(raw, {"services.nodeports": "1"})
    assert (await raw("PUT", f"{SERVICES}/c", plain)).status == 200


async def test_a_refused_service_keeps_no_node_port(raw: Any) -> None:
    await limit(raw, services_nodeports="0")
    body = service("a")
    body["spec"]["ports"][0]["nodePort"] = 30123
    assert (await raw("POST", SERVICES, body)).status == 403
    await raw("DELETE", f"{QUOTAS}/q")

    async def free() -> bool:
        return bool((await raw("POST", SERVICES, body)).status == 201)

    await eventually(free)


async def test_the_last_place_is_taken_once(raw: Any) -> None:
    await limit(raw, configmaps="5")
    found = len((await raw.get(f"{CORE}/configmaps"))["items"])
    answers = await asyncio.gather(
        *(raw("POST", f"{CORE}/configmaps", {"metadata": {"name": f"c{index}"}}) for index in range(12))
    )
    assert sorted(answer.status for answer in answers) == [201] * (5 - found) + [403] * (7 + found)


async def test_a_dry_run_is_refused_like_the_real_thing(raw: Any) -> None:
    await limit(raw, services="0")
    assert (await raw("POST", f"{SERVICES}?dryRun=All", service("a"))).status == 403


async def test_pods_must_say_what_is_limited(raw: Any) -> None:
    await limit(raw, limits_cpu="1")
    spec: Json = {"containers": [{"name": "c", "image": "i"}]}
    refused = await raw("POST", f"{CORE}/pods", {"metadata": {"name": "p"}, "spec": spec})
    assert refused.message == 'pods "p" is forbidden: failed quota: q: must specify limits.cpu for: c'
    spec["containers"][0]["resources"] = {"limits": {"cpu": "600m"}}
    await raw.create(f"{CORE}/pods", {"metadata": {"name": "p"}, "spec": spec})
    more = await raw("POST", f"{CORE}/pods", {"metadata": {"name": "r"}, "spec": spec})
    assert more.message.endswith(
        "exceeded quota: q, requested: limits.cpu=600m, used: limits.cpu=600m, limited: limits.cpu=1"
    )


async def test_other_namespaces_are_not_limited(raw: Any) -> None:
    await limit(raw, services="0")
    await raw.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
    await raw.create("/api/v1/namespaces/other/services", service("a"))

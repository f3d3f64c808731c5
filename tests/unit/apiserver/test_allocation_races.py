"""Many clients at once over few numbers: nobody gets what somebody has, and nothing is lost, whatever is cancelled."""

from __future__ import annotations

import asyncio
import collections
import random
from ipaddress import ip_network
from typing import Any

import aiohttp

from nodeport.api.resources import SERVICES
from nodeport.apiserver.allocators import ipaddresses, nodeport
from nodeport.apiserver.allocators.claims import guard_operations
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.kit.clock import SystemClock
from nodeport.store.base import Put
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

Json = dict[str, Any]
BASE = "/api/v1/namespaces/default/services"
PORTS = range(30000, 30024)
CIDRS = (ip_network("10.96.0.0/27"), ip_network("fd00::/123"))
WORKERS, ROUNDS = 12, 25


def wish(rng: random.Random) -> Json:
    """A spec of some kind, with numbers asked for or not."""
    port: Json = {"name": "a", "port": rng.choice((80, 81))}
    if rng.random() < 0.5:
        port["nodePort"] = rng.choice(PORTS)
    spec: Json = {"type": rng.choice(("NodePort", "NodePort", "LoadBalancer", "ClusterIP")), "ports": [port]}
    if spec["type"] == "ClusterIP":
        port.pop("nodePort", None)
    if spec["type"] == "LoadBalancer" and rng.random() < 0.5:
        spec["externalTrafficPolicy"] = "Local"
    spec["ipFamilyPolicy"] = rng.choice(("SingleStack", "PreferDualStack", "RequireDualStack"))
    if rng.random() < 0.3:
        spec["clusterIP"] = str(CIDRS[0][rng.randrange(1, 31)])
    return spec


def change(rng: random.Random) -> Json:
    """A merge patch of what a Service got."""
    return rng.choice((
        {"spec": {"type": "ExternalName", "externalName": "a.b"}},
        {"spec": {"type": "ClusterIP", "externalName": None}}, {"spec": {"type": "NodePort"}},
        {"spec": {"type": "LoadBalancer", "externalTrafficPolicy": rng.choice(("Local", "Cluster"))}},
        {"spec": {"ports": [{"name": "a", "port": 80, "nodePort": rng.choice(PORTS)}]}},
        {"spec": {"ipFamilyPolicy": "SingleStack"}}, {"spec": {"ipFamilyPolicy": "RequireDualStack"}},
    ))  # fmt: skip


async def once(session: aiohttp.ClientSession, url: str, name: str, rng: random.Random) -> int:
    """One request about ``name``; its status."""
    draw = rng.random()
    if draw < 0.4:
        request = session.post(url, json={"metadata": {"name": name}, "spec": wish(rng)})
    elif draw < 0.75:
        headers = {"Content-Type": "application/merge-patch+json"}
        request = session.patch(f"{url}/{name}", json=change(rng), headers=headers)
    else:
        request = session.delete(f"{url}/{name}")
    async with request as response:
        await response.read()
        return response.status


async def work(api: RunningApiServer, session: aiohttp.ClientSession, seed: int) -> collections.Counter[int]:
    """Requests one after another, a third of which lose patience."""
    rng = random.Random(seed)
    answers: collections.Counter[int] = collections.Counter()
    for _ in range(ROUNDS):
        task = asyncio.ensure_future(once(session, api.url + BASE, f"s{rng.randrange(16)}", rng))
        if rng.random() < 0.33:
            await asyncio.sleep(rng.random() * 0.004)
            task.cancel()
        try:
            answers[await task] += 1
        except asyncio.CancelledError:
            answers[0] += 1
    return answers


async def check(api: RunningApiServer) -> int:
    """How many Services there are; fails when a number has two owners or none."""
    services = [decode(kv.value) for kv in (await api.store.list(prefix_of(SERVICES))).items]
    wanted = [put.key for each in services for put in guard_operations(each, SystemClock().now())]
    assert len(wanted) == len(set(wanted)), "a number has two owners"
    found = {
        kv.key
        for prefix in (ipaddresses.PREFIX, nodeport.GUARDS)
        for kv in (await api.store.list(prefix)).items
    }
    assert found == set(wanted)
    return len(services)


async def gauge(session: aiohttp.ClientSession, api: RunningApiServer, name: str) -> int:
    async with session.get(f"{api.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_contested_numbers_have_one_owner_each_and_none_is_lost() -> None:
    async with running_apiserver(seed=3, node_port_range=PORTS, service_cidrs=CIDRS) as api:
        connector = aiohttp.TCPConnector(ssl=api.admin_config.ssl_context(), limit=100)
        async with aiohttp.ClientSession(connector=connector) as session:
            answers = await asyncio.gather(*(work(api, session, seed) for seed in range(WORKERS)))
            counts = sum(answers, collections.Counter())
            assert min(counts[201], counts[422], counts[0]) > 0, counts
            await settled(session, api)
            assert await check(api) > 0
            guards = (await api.store.list(nodeport.GUARDS)).items
            assert await gauge(session, api, "kube_apiserver_nodeport_allocator_allocated_ports") == len(
                guards
            )
            addresses = (await api.store.list(ipaddresses.PREFIX)).items
            assert await gauge(session, api, "kube_apiserver_clusterip_allocator_allocated_ips") == len(
                addresses
            )
            async with session.delete(api.url + BASE) as response:
                assert response.status == 200
                await response.read()
            assert {kv.key for kv in (await api.store.list(nodeport.GUARDS)).items} == set()
            assert await gauge(session, api, "kube_apiserver_nodeport_allocator_allocated_ports") == 0


async def settled(session: aiohttp.ClientSession, api: RunningApiServer) -> None:
    """Until the requests of those who went away are done, too."""
    before = -1
    while before != api.store.revision:
        before = api.store.revision
        async with session.get(f"{api.url}/livez") as response:
            await response.read()
        await asyncio.sleep(0.05)


async def test_another_servers_number_is_noticed_at_the_commit_and_another_is_given() -> None:
    """A guard that our view does not know of: as when two servers share a store."""
    ports = range(30000, 30003)
    async with running_apiserver(seed=3, node_port_range=ports) as api:
        for port in (30000, 30001):
            await api.store.commit([Put(nodeport.guard(port), b"default/elsewhere")])
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=api.admin_config.ssl_context())
        ) as session:
            body = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
            async with session.post(api.url + BASE, json=body) as response:
                made = await response.json()
            assert (response.status, made["spec"]["ports"][0]["nodePort"]) == (201, 30002)
            body["metadata"]["name"] = "b"
            async with session.post(api.url + BASE, json=body) as response:
                refused = await response.json()
            assert response.status == 500
            assert (
                refused["message"] == "Internal error occurred: failed to allocate a nodePort: range is full"
            )
            assert refused["reason"] == "InternalError"
            body["spec"]["ports"][0]["nodePort"] = 30001
            async with session.post(api.url + BASE, json=body) as response:
                refused = await response.json()
            assert response.status == 422
            assert "provided port is already allocated" in refused["message"]
            headers = {"Content-Type": "application/merge-patch+json"}
            change = {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}
            async with session.patch(f"{api.url}{BASE}/a", json=change, headers=headers) as response:
                refused = await response.json()
            assert response.status == 422, refused


async def test_when_no_address_is_left_the_answer_is_500_and_nothing_is_kept() -> None:
    cidrs = (ip_network("10.96.0.0/30"),)
    async with running_apiserver(seed=3, service_cidrs=cidrs) as api:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=api.admin_config.ssl_context())
        ) as session:
            answers = []
            for name in ("a", "b"):
                body = {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
                async with session.post(api.url + BASE, json=body) as response:
                    answers.append((response.status, await response.json()))
        assert answers[0][0] == 201
        assert (answers[1][0], answers[1][1]["message"]) == (
            500, 'Internal error occurred: failed to allocate a serviceIP for Service "b": range is full',
        )  # fmt: skip
        assert len((await api.store.list(nodeport.GUARDS)).items) == 1


async def test_when_no_port_is_left_for_health_checks_the_answer_says_so() -> None:
    async with running_apiserver(seed=3, node_port_range=range(30000, 30001)) as api:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=api.admin_config.ssl_context())
        ) as session:
            spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}
            async with session.post(
                api.url + BASE, json={"metadata": {"name": "a"}, "spec": spec}
            ) as response:
                refused = await response.json()
        assert (response.status, refused["message"]) == (
            500, "Internal error occurred: failed to allocate a HealthCheck NodePort 0: range is full",
        )  # fmt: skip
        assert (await api.store.list(nodeport.GUARDS)).items == []

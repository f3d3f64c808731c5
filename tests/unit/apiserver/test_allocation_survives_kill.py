"""kill -9 at any moment: afterwards no number is leaked, none has two owners, and no acknowledged write is lost."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import aiohttp

from nodeport.api.resources import SERVICES
from nodeport.apiserver.allocators import ipaddresses
from nodeport.apiserver.allocators.claims import guard_operations
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator
from nodeport.apiserver.allocators.nodeport import NodePortAllocator
from nodeport.apiserver.encoding import decode, key_of, prefix_of
from nodeport.apiserver.repair import Repair
from nodeport.kit.clock import SystemClock
from nodeport.store.sqlite import SqliteStore

CHILD = Path(__file__).with_name("crash_server.py")
PORTS = range(30000, 30040)
HEADERS = {"Authorization": "Bearer token"}


@dataclass
class Acknowledged:
    """What the server said is so, by name; of a name with a request underway nothing is known."""

    present: dict[str, int] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)


async def churn(
    session: aiohttp.ClientSession, base: str, worker: int, known: Acknowledged, rng: random.Random
) -> None:
    """Create, retarget and delete Services with contested node ports until the server is gone."""
    while True:
        name = f"w{worker}-{rng.randrange(4)}"
        known.unsure.add(name)
        port = rng.choice(PORTS)
        if name not in known.present:
            policy = rng.choice(("SingleStack", "PreferDualStack", "RequireDualStack"))
            spec = {"type": "NodePort", "ipFamilyPolicy": policy, "ports": [{"port": 80, "nodePort": port}]}
            async with session.post(base, json={"metadata": {"name": name}, "spec": spec}) as response:
                await response.read()
                if response.status == 201:
                    known.present[name] = port
        elif rng.random() < 0.5:
            async with session.delete(f"{base}/{name}") as response:
                await response.read()
                if response.status == 200:
                    del known.present[name]
        else:
            policy = rng.choice(("SingleStack", "RequireDualStack"))
            patch = {"spec": {"ipFamilyPolicy": policy, "ports": [{"port": 80, "nodePort": port}]}}
            headers = {"Content-Type": "application/merge-patch+json"}
            async with session.patch(f"{base}/{name}", json=patch, headers=headers) as response:
                await response.read()
                if response.status == 200:
                    known.present[name] = port
        known.unsure.discard(name)


async def run_and_kill(database: Path, known: Acknowledged, rng: random.Random) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(database), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(60):
            port = int(await child.stdout.readline())
        base = f"http://127.0.0.1:{port}/api/v1/namespaces/default/services"
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            workers = [asyncio.create_task(churn(session, base, index, known, rng)) for index in range(8)]
            await asyncio.wait(workers, timeout=0.2 + rng.random() * 0.4)
            child.kill()
            for outcome in await asyncio.gather(*workers, return_exceptions=True):
                assert isinstance(outcome, aiohttp.ClientError), outcome
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def no_report(component: str, finding: Any) -> None:
    raise AssertionError(f"{component}: {finding}")


async def check(database: Path, known: Acknowledged) -> int:
    """How many Services there are; fails when store, guards and acknowledgements disagree."""
    async with await SqliteStore.open(database) as store:
        owners: dict[str, str] = {}
        listing = await store.list(prefix_of(SERVICES))
        for kv in listing.items:
            for guard in guard_operations(decode(kv.value), SystemClock().now()):
                assert guard.key not in owners, f"{guard.key} belongs to {owners[guard.key]} and {kv.key}"
                owners[guard.key] = kv.key
        found = {
            kv.key
            for prefix in ("/allocations/", ipaddresses.PREFIX)
            for kv in (await store.list(prefix)).items
        }
        assert found == set(owners)
        for kv in (await store.list(ipaddresses.PREFIX)).items:
            parent = ipaddresses.service_of(decode(kv.value))
            assert parent is not None
            assert key_of(SERVICES, parent.namespace, parent.name) == owners[kv.key]
        for name, port in known.present.items():
            if name in known.unsure:
                continue
            stored = await store.get(key_of(SERVICES, "default", name))
            assert stored is not None, f"{name} was acknowledged and is lost"
            assert decode(stored.value)["spec"]["ports"][0]["nodePort"] == port
        rng = random.Random(0)
        addresses = ClusterIPAllocator(rng, [IPv4Network("10.96.0.0/16"), IPv6Network("fd00:96::/112")])
        ports = NodePortAllocator(range(30000, 32768), rng)
        assert await Repair(store, SystemClock(), addresses, ports, no_report).run_once() == 0
        stored_ports = [each for each in owners if "/nodeports/" in each]
        assert ports.allocated == len(stored_ports)
        assert sum(each.taken.count for each in addresses.ranges) == len(owners) - len(stored_ports)
        await resolve(store, known)
        return len(listing.items)


async def resolve(store: Any, known: Acknowledged) -> None:
    """After the crash, the store is the truth about what was underway."""
    for name in known.unsure:
        stored = await store.get(key_of(SERVICES, "default", name))
        known.present.pop(name, None)
        if stored is not None:
            known.present[name] = decode(stored.value)["spec"]["ports"][0]["nodePort"]
    known.unsure.clear()


async def test_killing_the_server_leaks_no_number_and_gives_none_twice(tmp_path: Path) -> None:
    known, rng = Acknowledged(), random.Random(7)
    counts = []
    for _ in range(6):
        await run_and_kill(tmp_path / "store.db", known, rng)
        counts.append(await check(tmp_path / "store.db", known))
    assert max(counts) > 1

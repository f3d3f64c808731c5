"""Leaks and conflicts of numbers: found, told and mended; at start, every three minutes, and when an IPAddress changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from nodeport.api.resources import IP_ADDRESSES, SERVICES
from nodeport.apiserver.allocators import ipaddresses
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator
from nodeport.apiserver.allocators.findings import Finding
from nodeport.apiserver.allocators.nodeport import NodePortAllocator
from nodeport.apiserver.encoding import decode, encode_stored, key_of
from nodeport.apiserver.migration import migrate
from nodeport.apiserver.repair import INTERVAL, Repair
from nodeport.store.base import Delete, Put
from nodeport.store.memory import MemoryStore
from nodeport.testing.apiserver import RunningApiServer, running_apiserver
from unit.apiserver.clocks import START, HandClock

Json = dict[str, Any]
NET = IPv4Network("10.96.0.0/16")


def service(name: str, **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"type": "NodePort", "sessionAffinity": "None", "ipFamilies": ["IPv4"], **spec},
    }


def put(obj: Json) -> Put:
    return Put(key_of(SERVICES, obj["metadata"]["namespace"], obj["metadata"]["name"]), encode_stored(obj))


def ip_object(text: str, owner: str, **parent: str) -> Put:
    address = IPv4Address(text)
    obj = decode(ipaddresses.stored(address, ipaddresses.NamespacedName("default", owner), START))
    obj["spec"]["parentRef"].update(parent)
    return Put(ipaddresses.guard(address), encode_stored(obj))


class Bench:
    """A repair loop over a store of its own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = HandClock()
        self.addresses = ClusterIPAllocator(random.Random(0), [NET])
        self.ports = NodePortAllocator(range(30000, 32768), random.Random(0))
        self.told: list[tuple[str, str, str]] = []
        self.repair = Repair(self.store, self.clock, self.addresses, self.ports, self._report)

    async def _report(self, component: str, finding: Finding) -> None:
        self.told.append((finding.resource.kind, finding.reason, finding.message))

    async def commit(self, *operations: Put | Delete) -> None:
        await self.store.commit(operations)

    async def run(self) -> list[tuple[str, str, str]]:
        """One look; what was told."""
        self.told.clear()
        await self.repair.run_once()
        await self.repair.tell()
        return self.told

    async def keys(self, prefix: str) -> set[str]:
        return {kv.key.removeprefix(prefix) for kv in (await self.store.list(prefix)).items}


async def test_what_a_service_names_without_a_guard_gets_one_and_is_told() -> None:
    bench = Bench()
    await bench.commit(put(service("a", clusterIPs=["10.96.0.9"], ports=[{"port": 80, "nodePort": 30001}])))
    assert await bench.run() == [
        ("Service", "PortNotAllocated", "Port 30001 is not allocated; repairing"),
        ("Service", "ClusterIPNotAllocated", "Cluster IP [IPv4]: 10.96.0.9 is not allocated; repairing"),
    ]
    assert await bench.keys("/allocations/nodeports/") == {"30001"}
    kv = await bench.store.get(ipaddresses.guard(IPv4Address("10.96.0.9")))
    assert kv is not None
    obj = decode(kv.value)
    assert obj["spec"] == {"parentRef": {"resource": "services", "namespace": "default", "name": "a"}}
    assert obj["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }  # fmt: skip
    assert bench.ports.is_taken(30001)
    assert bench.addresses.is_taken(IPv4Address("10.96.0.9"))
    assert await bench.run() == []


async def test_a_port_without_a_service_is_kept_for_three_looks() -> None:
    bench = Bench()
    await bench.commit(Put("/allocations/nodeports/30002", b"default/gone"))
    for _ in range(2):
        await bench.run()
        assert bench.ports.is_taken(30002)
    await bench.run()
    assert not bench.ports.is_taken(30002)
    assert await bench.keys("/allocations/nodeports/") == set()
    assert 'apiserver_nodeport_repair_port_errors_total{type="leak"} 1' in list(bench.repair.metrics())


async def test_a_port_that_finds_its_service_again_was_no_leak() -> None:
    bench = Bench()
    await bench.commit(Put("/allocations/nodeports/30002", b"default/late"))
    await bench.run()
    await bench.run()
    await bench.commit(put(service("late", ports=[{"port": 80, "nodePort": 30002}])))
    await bench.run()
    await bench.commit(Delete(key_of(SERVICES, "default", "late")))
    for _ in range(2):
        await bench.run()
        assert bench.ports.is_taken(30002)


async def test_conflicts_and_numbers_out_of_range_are_told() -> None:
    bench = Bench()
    entry = [{"name": "t", "port": 80, "protocol": "TCP", "nodePort": 30001},
             {"name": "u", "port": 80, "protocol": "UDP", "nodePort": 30001}]  # fmt: skip
    await bench.commit(
        put(service("a", clusterIPs=["10.96.0.9"], ports=entry)),
        put(service("b", clusterIPs=["10.96.0.9"], ports=entry)),
        put(service("c", clusterIPs=["10.97.0.9"], ports=[{"port": 80, "nodePort": 20000}])),
        put(service("d", clusterIPs=["nonsense"])),
        Put("/allocations/nodeports/30001", b"default/a"),
        ip_object("10.96.0.9", "a"),
    )
    assert await bench.run() == [
        ("Service", "PortAlreadyAllocated", "Port 30001 was assigned to multiple services; please recreate service"),
        ("Service", "PortOutOfRange", "Port 20000 is not within the port range 30000-32767; please recreate service"),
        ("Service", "ClusterIPAlreadyAllocated",
         "Cluster IP [IPv4]:10.96.0.9 was assigned to multiple services; please recreate service"),
        ("Service", "ClusterIPOutOfRange",
         "Cluster IP [IPv4]: 10.97.0.9 is not within any configured Service CIDR; please recreate service"),
        ("Service", "ClusterIPNotValid", "Cluster IP nonsense is not a valid IP; please recreate Service"),
    ]  # fmt: skip
    found = set(bench.repair.metrics())
    for family, what, kind in (
        ("nodeport", "port", "duplicate"), ("nodeport", "port", "outOfRange"), ("clusterip", "ip", "duplicate"),
        ("clusterip", "ip", "outOfRange"), ("clusterip", "ip", "invalid"),
    ):  # fmt: skip
        assert f'apiserver_{family}_repair_{what}_errors_total{{type="{kind}"}} 1' in found


@pytest.mark.parametrize(("age", "left"), [(59, {"10.96.0.9"}), (61, set())])
async def test_an_address_without_a_service_goes_after_a_minute(age: int, left: set[str]) -> None:
    bench = Bench()
    await bench.commit(ip_object("10.96.0.9", "gone"))
    bench.clock.passed = age
    told = await bench.run()
    assert await bench.keys(ipaddresses.PREFIX) == left
    assert bench.addresses.is_taken(IPv4Address("10.96.0.9")) == bool(left)
    expected = (
        "IPAddress", "IPAddressNotAllocated",
        "IPAddress: 10.96.0.9 for Service default/gone appears to have leaked: cleaning up",
    )  # fmt: skip
    assert told == ([] if left else [expected])


async def test_an_address_that_its_service_does_not_use_goes_after_five_seconds() -> None:
    bench = Bench()
    await bench.commit(
        put(service("a", clusterIPs=["10.96.0.8"])), ip_object("10.96.0.9", "a"), ip_object("10.96.0.8", "a")
    )
    bench.clock.passed = 4
    assert await bench.run() == []
    bench.clock.passed = 6
    assert await bench.run() == [
        (
            "IPAddress",
            "IPAddressWrongReference",
            "IPAddress: 10.96.0.9 for Service default/a has a wrong reference; cleaning up",
        )
    ]
    assert await bench.keys(ipaddresses.PREFIX) == {"10.96.0.8"}


async def test_addresses_of_others_are_nobodys_business_and_stay_taken() -> None:
    bench = Bench()
    mine = ip_object("10.96.0.9", "gateway", resource="gateways", group="gateway.networking.k8s.io")
    obj = decode(mine.value)
    del obj["metadata"]["labels"]
    await bench.commit(Put(mine.key, encode_stored(obj)))
    bench.clock.passed = 1000
    assert await bench.run() == []
    assert await bench.keys(ipaddresses.PREFIX) == {"10.96.0.9"}
    assert bench.addresses.is_taken(IPv4Address("10.96.0.9"))


@pytest.mark.parametrize("parent", [{"resource": "gateways"}, {"name": "gone"}, {"name": "other"}])
async def test_a_wrong_reference_is_replaced_by_the_right_one(parent: dict[str, str]) -> None:
    bench = Bench()
    await bench.commit(
        put(service("a", clusterIPs=["10.96.0.9"])), put(service("other", clusterIPs=["10.96.0.7"])),
        ip_object("10.96.0.9", "a", **parent), ip_object("10.96.0.7", "other"),
    )  # fmt: skip
    assert len(await bench.run()) == 1
    kv = await bench.store.get(ipaddresses.guard(IPv4Address("10.96.0.9")))
    assert kv is not None
    assert decode(kv.value)["spec"]["parentRef"] == {
        "resource": "services",
        "namespace": "default",
        "name": "a",
    }
    assert await bench.run() == []


async def test_an_object_of_ours_that_refers_to_nothing_of_ours_goes_at_once() -> None:
    bench = Bench()
    await bench.commit(ip_object("10.96.0.9", "x", resource="gateways"))
    assert [reason for _, reason, _ in await bench.run()] == ["IPAddressNotAllocated"]
    assert await bench.keys(ipaddresses.PREFIX) == set()


async def test_labels_that_were_changed_come_back_quietly() -> None:
    bench = Bench()
    changed = ip_object("10.96.0.9", "a")
    obj = decode(changed.value)
    obj["metadata"]["labels"] = {"a": "b"}
    await bench.commit(put(service("a", clusterIPs=["10.96.0.9"])), Put(changed.key, encode_stored(obj)))
    assert await bench.run() == []
    kv = await bench.store.get(changed.key)
    assert kv is not None
    assert ipaddresses.is_managed(decode(kv.value))


async def test_numbers_that_another_server_gave_back_become_free_after_two_looks() -> None:
    bench = Bench()
    bench.ports.claim(30009)
    bench.addresses.claim(IPv4Address("10.96.0.9"))
    await bench.run()
    assert (bench.ports.is_taken(30009), bench.addresses.is_taken(IPv4Address("10.96.0.9"))) == (True, True)
    await bench.run()
    assert (bench.ports.is_taken(30009), bench.addresses.is_taken(IPv4Address("10.96.0.9"))) == (False, False)


async def test_a_store_of_an_earlier_version_is_migrated_without_a_word() -> None:
    bench = Bench()
    old = service(
        "a", clusterIP="10.96.0.9", clusterIPs=["10.96.0.9"], ports=[{"port": 80, "nodePort": 30001}]
    )
    del old["spec"]["ipFamilies"]
    headless = service("h", type="ClusterIP", clusterIP="None")
    del headless["spec"]["ipFamilies"]
    await bench.commit(
        put(old), put(headless), Put("/allocations/nodeports/30001", b"default/a"),
        Put("/allocations/clusterips/10.96.0.9", b"default/a"),
        Put("/allocations/clusterips/10.96.0.10", b"default/gone"),
    )  # fmt: skip
    assert await migrate(bench.store, bench.clock, "IPv4") == 5
    assert await migrate(bench.store, bench.clock, "IPv4") == 0
    assert await bench.keys("/allocations/clusterips/") == set()
    assert await bench.run() == []
    assert await bench.keys(ipaddresses.PREFIX) == {"10.96.0.9"}
    specs = [decode(kv.value)["spec"] for kv in (await bench.store.list("/registry/services/")).items]
    assert [(each["ipFamilies"], each["ipFamilyPolicy"], each["clusterIPs"]) for each in specs] == [
        (["IPv4"], "SingleStack", ["10.96.0.9"]), (["IPv4", "IPv6"], "RequireDualStack", ["None"]),
    ]  # fmt: skip


# --- in a server that runs


@asynccontextmanager
async def serving(clock: HandClock) -> AsyncIterator[tuple[RunningApiServer, Any]]:
    from nodeport.client.rest import RestClient

    async with running_apiserver(seed=1, clock=clock) as running, RestClient(running.admin_config) as client:
        yield running, client


async def eventually(check: Any) -> Any:
    async with asyncio.timeout(60):
        while not (found := await check()):
            await asyncio.sleep(0.01)
        return found


async def test_an_address_in_use_comes_back_when_its_object_is_deleted() -> None:
    async with serving(HandClock()) as (running, client):
        made = await client.create(SERVICES, {"metadata": {"name": "a", "namespace": "default"},
                                              "spec": {"ports": [{"port": 80}]}})  # fmt: skip
        address = made["spec"]["clusterIP"]
        before = await client.get(IP_ADDRESSES, address)
        await client.delete(IP_ADDRESSES, address)

        async def is_back() -> bool:
            found = await running.store.get(ipaddresses.guard(IPv4Address(address)))
            return found is not None and decode(found.value)["metadata"]["uid"] != before["metadata"]["uid"]

        await eventually(is_back)

        async def events() -> list[Json]:
            from nodeport.api.resources import EVENTS

            return (await client.list(EVENTS, "default"))["items"]

        (event,) = await eventually(events)
        assert (event["reason"], event["action"], event["type"]) == (
            "ClusterIPNotAllocated",
            "ClusterIPAllocation",
            "Warning",
        )
        assert event["message"] == f"Cluster IP [IPv4]: {address} is not allocated; repairing"
        assert event["reportingComponent"] == "ipallocator-repair-controller"
        assert event["involvedObject"]["uid"] == made["metadata"]["uid"]


async def test_an_address_kept_by_hand_is_given_to_nobody_until_it_is_deleted() -> None:
    async with serving(HandClock()) as (_, client):
        kept = {
            "metadata": {"name": "10.96.0.77"},
            "spec": {"parentRef": {"resource": "gateways", "name": "g"}},
        }
        await client.create(IP_ADDRESSES, kept)
        wanted = {
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]},
        }
        with pytest.raises(
            Exception, match="failed to allocate IP 10.96.0.77: provided IP is already allocated"
        ):
            await client.create(SERVICES, wanted)
        await client.delete(IP_ADDRESSES, "10.96.0.77")

        async def can_be_had() -> bool:
            try:
                await client.create(SERVICES, wanted)
            except Exception:
                return False
            return True

        await eventually(can_be_had)


async def test_an_orphan_made_by_hand_goes_after_its_minute_and_the_rest_is_looked_at_every_three() -> None:
    clock = HandClock()
    async with serving(clock) as (running, client):
        value = ip_object("10.96.0.99", "nobody").value
        obj = decode(value)
        obj["metadata"] = {"name": "10.96.0.99", "labels": obj["metadata"]["labels"]}
        await client.create(IP_ADDRESSES, obj)
        key = ipaddresses.guard(IPv4Address("10.96.0.99"))
        await eventually(lambda: _any_sleeper(clock, 61))
        clock.advance(timedelta(seconds=62))

        async def is_gone() -> bool:
            return await running.store.get(key) is None

        await eventually(is_gone)
        await running.store.commit([Put("/allocations/nodeports/30500", b"default/gone")])

        async def is_freed() -> bool:
            clock.advance(INTERVAL)
            return await running.store.get("/allocations/nodeports/30500") is None

        await eventually(is_freed)


async def _any_sleeper(clock: HandClock, seconds: float) -> bool:
    return any(abs(due - clock.passed - seconds) < 0.01 for due, _ in clock._sleepers)


async def test_a_look_that_fails_is_counted_and_the_next_one_works() -> None:
    bench = Bench()
    await bench.commit(put(service("a", clusterIPs=["10.96.0.9"])))
    whole, bench.addresses.holds = bench.addresses.holds, None  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(bench.repair.run())
    try:
        await eventually(lambda: _any_sleeper(bench.clock, INTERVAL.total_seconds()))
        bench.clock.advance(INTERVAL)

        async def has_failed() -> bool:
            return "apiserver_clusterip_repair_reconcile_errors_total 1" in list(bench.repair.metrics())

        await eventually(has_failed)
        bench.addresses.holds = whole  # type: ignore[method-assign]

        async def is_mended() -> bool:
            bench.clock.advance(INTERVAL)
            return await bench.keys(ipaddresses.PREFIX) == {"10.96.0.9"}

        await eventually(is_mended)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

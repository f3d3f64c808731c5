"""NodePorts on 127.0.0.1 and ::1 of a node, as its own processes reach them: real sockets, both families."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from kernel import scenario
from kernel.packets import Policy, Situation
from kernel.topology import PLANS, Topology, answering_topology, ask
from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service, node_facts
from nodeport.forwarding.table import Family, ForwardingOptions, ForwardingTable
from nodeport.kit.clock import SystemClock
from nodeport.netlink.namespace import open_in
from nodeport.proxy.localhost import LOOPBACK, LocalhostPorts
from nodeport.testing.controlplane import eventually

READY = {"ready": True}
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
both_families = pytest.mark.parametrize("family", Family, ids=str)
both_protocols = pytest.mark.parametrize("protocol", KINDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Topology]:
    with answering_topology() as made:
        yield made


class Site:
    """The loopback of n1, one Service, and who relays to it."""

    def __init__(self, made: Topology, family: Family) -> None:
        self.family = family
        self.made = made
        self.namespace = made.namespace("n1")
        self.loopback = ip_address(LOOPBACK[family])
        self.node = node_facts("n1", scenario.NODE, family=family, service_networks=())
        self.table = ForwardingTable()
        self.ports = LocalhostPorts(family, self.namespace, self.table, SystemClock(), Random(1))

    async def serve(self, *pods: str, ready: bool = True, **spec: Any) -> None:
        """Until the ports are as the Service wants them."""
        item = scenario.service(Policy.LOCAL, Situation.BOTH, family=self.family.value)
        item["spec"] |= spec
        found = scenario.slices(item, dict.fromkeys(pods, READY), family=self.family.value)
        built = build_service(item, found, self.node, ForwardingOptions())
        changes = self.table.replace(NamespacedName.of(item), built)
        self.ports.changed(change.name for change in changes)
        if ready:
            await eventually(lambda: len(self.ports.ports) == (len(KINDS) if pods else 0))

    async def ask(self, protocol: str) -> str:
        answer = await asyncio.to_thread(ask, self.namespace, KINDS[protocol], self.loopback, NODE_PORT)
        return answer.split()[0]

    def socket(self, protocol: str) -> socket.socket:
        kind = socket.AF_INET if self.family is Family.IPV4 else socket.AF_INET6
        return open_in(self.namespace, lambda: socket.socket(kind, KINDS[protocol]))


NODE_PORT = 30100 + scenario.index(Policy.LOCAL, Situation.BOTH)


@pytest_asyncio.fixture
async def site(cluster: Topology, family: Family) -> AsyncIterator[Site]:
    made = Site(cluster, family)
    running = asyncio.create_task(made.ports.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await made.ask("tcp") == "reject"


@both_families
@both_protocols
async def test_a_nodeport_answers_on_loopback_from_all_endpoints(site: Site, protocol: str) -> None:
    """Policy Local does not bind the node itself."""
    await site.serve("local", "remote")
    assert {await site.ask(protocol) for _ in range(30)} == {"local", "remote"}


@both_families
@both_protocols
async def test_what_has_no_endpoint_is_refused_by_the_kernel(site: Site, protocol: str) -> None:
    await site.serve("local")
    assert await site.ask(protocol) == "local"
    await site.serve()
    assert await site.ask(protocol) == "reject"
    await site.serve("remote")
    assert await site.ask(protocol) == "remote"


@both_families
async def test_an_outsider_does_not_reach_loopback(site: Site) -> None:
    await site.serve("local")
    address = PLANS[site.family].nodes["n1"]
    outsider = site.made.namespace("client")
    assert await asyncio.to_thread(ask, outsider, socket.SOCK_STREAM, address, NODE_PORT) == "reject"


@both_families
async def test_a_connection_outlives_its_endpoints_leaving(site: Site) -> None:
    await site.serve("local")
    with site.socket("tcp") as live:
        live.settimeout(20)
        await asyncio.to_thread(live.connect, (str(site.loopback), NODE_PORT))
        for pods in (("local",), ("remote",), ()):
            await site.serve(*pods)
            live.sendall(b"still there?")
            assert (await asyncio.to_thread(live.recv, 100)).startswith(b"local")


@both_families
async def test_a_udp_client_that_keeps_its_port_is_led_to_another_endpoint(site: Site) -> None:
    with site.socket("udp") as asking:
        asking.settimeout(0.2)
        asking.connect((str(site.loopback), NODE_PORT))

        async def answer() -> str:
            with contextlib.suppress(OSError):
                asking.send(b"who?")
                return (await asyncio.to_thread(asking.recv, 100)).decode().split()[0]
            return ""

        for pod in ("local", "remote", "other"):
            await site.serve(pod)

            async def is_answered(by: str = pod) -> bool:
                return await answer() == by

            await eventually(is_answered)


@both_families
async def test_session_affinity_binds_the_node(site: Site) -> None:
    await site.serve("local", "other", "remote", "far", sessionAffinity="ClientIP")
    assert len({await site.ask("tcp") for _ in range(20)}) == 1


@both_families
async def test_megabytes_pass_both_ways_and_an_end_is_passed_on(site: Site) -> None:
    await site.serve("local")
    with site.socket("tcp") as live:
        live.settimeout(5)
        await asyncio.to_thread(live.connect, (str(site.loopback), NODE_PORT))
        answers = b""
        for _ in range(50):
            await asyncio.to_thread(live.sendall, b"x" * 2048)
            answers += await asyncio.to_thread(live.recv, 100)
        assert answers.count(b"local") >= 50
        live.shutdown(socket.SHUT_WR)
        while await asyncio.to_thread(live.recv, 65536):
            pass


@both_families
async def test_a_port_that_somebody_else_listens_on_is_left_to_him(site: Site) -> None:
    with site.socket("tcp") as theirs:
        theirs.bind((str(site.loopback), NODE_PORT))
        theirs.listen()
        await site.serve("local", ready=False)
        await eventually(lambda: len(site.ports.ports) == 1)
        assert await site.ask("udp") == "local"
        with site.socket("tcp") as asking:
            asking.settimeout(20)
            await asyncio.to_thread(asking.connect, (str(site.loopback), NODE_PORT))
            assert select.select([theirs], [], [], 2)[0]
    await site.serve("local", "other")
    assert await site.ask("tcp") in ("local", "other")


@both_families
async def test_an_endpoint_that_refuses_resets_the_client(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario, "PORT", 9)
    await site.serve("local")
    with site.socket("tcp") as asking:
        asking.settimeout(20)

        def use() -> bytes:
            asking.connect((str(site.loopback), NODE_PORT))
            return asking.recv(1)

        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(use)

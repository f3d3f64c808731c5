"""The whole proxy of one node against a real API server, the real kernel and live traffic."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest
import pytest_asyncio

from kernel import scenario
from kernel.modes import lacks_ipvs
from kernel.packets import Policy, Situation
from kernel.topology import CLIENT, NODES, PLANS, Topology, ask
from nodeport.api.meta import JsonObject
from nodeport.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from nodeport.api.resources import NODES as NODE_RESOURCE
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.forwarding.table import Family
from nodeport.kit.clock import SystemClock
from nodeport.netlink.namespace import open_in
from nodeport.proxy.modes import open_proxier
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.runner import ProxyRunner
from nodeport.testing.apiserver import running_apiserver
from nodeport.testing.controlplane import eventually

SERVICE_CIDRS = tuple(ip_network(cidr) for cidr in scenario.SERVICE_NETWORKS.values())
OPTIONS = ProxyOptions(
    service_networks=SERVICE_CIDRS,
    check_interval=timedelta(milliseconds=100),
    health=("0.0.0.0", 10256),
    localhost_nodeports=True,
)
MODES = [Mode.NFTABLES, *([] if lacks_ipvs() else [Mode.IPVS])]
"""Those that need a kernel of their own join where there is one: ``make test-ipvs``."""
TABLES = {Mode.NFTABLES: "nodeport", Mode.IPVS: "nodeport-ipvs"}
READY = scenario.ENDPOINTS[Situation.LOCAL]["local"]


@dataclass
class Site:
    """An API server with one node, the proxy's informers, and the topology it programs."""

    client: RestClient
    made: Topology
    informers: dict[str, Informer]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    mode: Mode = Mode.NFTABLES

    def runner(self) -> ProxyRunner:
        return ProxyRunner(
            node_name="n1",
            services=self.informers["services"],
            slices=self.informers["slices"],
            nodes=self.informers["nodes"],
            netns=self.made.namespace("n1"),
            options=replace(OPTIONS, mode=self.mode),
            clock=SystemClock(),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ProxyRunner]:
        runner = self.runner()
        task = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(60):
                await runner.wait_until_programmed()
            yield runner
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def serve(self, policy: Policy, pods: dict[str, dict[str, bool]]) -> JsonObject:
        """A fresh Service, with these endpoints as ready as they are said to be."""
        item = scenario.service(policy, Situation.BOTH)
        item = scenario.without_external(item)
        await self.client.create(SERVICES, item)
        for made in scenario.slices(item, pods):
            await self.client.create(ENDPOINT_SLICES, made)
        return item

    async def ask(self, sender: str, kind: socket.SocketKind, address: IPv4Address, port: int) -> str:
        return await asyncio.to_thread(ask, self.made.namespace(sender), kind, address, port)

    async def answers(self, wanted: str, kind: socket.SocketKind, address: Any, port: int) -> bool:
        return await self.ask("client", kind, address, port) == wanted


@pytest_asyncio.fixture(params=MODES, ids=str)
async def site(made: Topology, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with (
        running_apiserver(service_cidrs=SERVICE_CIDRS) as server,
        RestClient(server.admin_config, user_agent="proxy-test") as client,
    ):
        await client.create(NAMESPACES, {"metadata": {"name": scenario.NAMESPACE}})
        node: dict[str, Any] = {
            "metadata": dict(scenario.NODE["metadata"]),
            "spec": dict(scenario.NODE["spec"]),
        }
        node = await client.create(NODE_RESOURCE, node)
        await client.update(NODE_RESOURCE, {**node, "status": scenario.NODE["status"]}, subresource="status")
        informers = {
            "services": Informer(client, SERVICES),
            "slices": Informer(client, ENDPOINT_SLICES),
            "nodes": Informer(client, NODE_RESOURCE),
        }
        tasks = [asyncio.create_task(informer.run()) for informer in informers.values()]
        try:
            yield Site(client, made, informers, tasks, request.param)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for family in Family:
                with open_proxier(request.param, family, made.namespace("n1"), OPTIONS) as proxier:
                    proxier.remove()
            made.nft("n1", "flush", "ruleset")


def node_port(item: JsonObject) -> int:
    return int(item["spec"]["ports"][0]["nodePort"])


async def test_a_service_is_reached_as_soon_as_it_has_endpoints_and_refused_without(site: Site) -> None:
    async with site.running():
        item = await site.serve(Policy.CLUSTER, {})
        port = node_port(item)

        async def answer() -> str:
            return await site.ask("client", socket.SOCK_STREAM, NODES["n1"], port)

        async def is_reached() -> bool:
            return await answer() == f"local {CLIENT}"

        assert await answer() == "reject"
        (first,) = scenario.slices(item, {"local": READY})
        created = await site.client.create(ENDPOINT_SLICES, first)
        await eventually(is_reached)
        await site.client.delete(ENDPOINT_SLICES, created["metadata"]["name"], scenario.NAMESPACE)

        async def is_refused() -> bool:
            return await answer() == "reject"

        await eventually(is_refused)
        await site.client.delete(SERVICES, item["metadata"]["name"], scenario.NAMESPACE)

        async def is_gone() -> bool:
            address = IPv4Address(item["spec"]["clusterIP"])
            return "10.96.1" not in site.made.nft("n1", "list", "ruleset") and address is not None

        await eventually(is_gone)


async def test_a_service_of_both_families_is_reached_in_both(site: Site) -> None:
    async with site.running():
        item = scenario.without_external(scenario.service(Policy.CLUSTER, Situation.BOTH))
        item["spec"] |= {
            "ipFamilyPolicy": "RequireDualStack",
            "clusterIPs": [str(scenario.ip_address(net[4])) for net in SERVICE_CIDRS],
        }
        item["spec"]["clusterIP"] = item["spec"]["clusterIPs"][0]
        await site.client.create(SERVICES, item)
        for family in PLANS:
            for found in scenario.slices(item, {"local": READY}, family=family):
                found["metadata"]["name"] += f"-{family}"
                await site.client.create(ENDPOINT_SLICES, found)
        for family, plan in PLANS.items():
            places = [(plan.nodes["n1"], node_port(item)), (SERVICE_CIDRS[family // 5][4], 80)]
            for (address, port), kind in itertools.product(places, (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
                await eventually(partial(site.answers, f"local {plan.client}", kind, address, port))
            answer = await site.ask("n1", socket.SOCK_STREAM, scenario.LOOPBACK[family], node_port(item))
            assert answer == f"local {plan.nodes['n1']}"


async def test_a_restart_of_the_proxy_changes_nothing_and_drops_nothing(site: Site) -> None:
    item = await site.serve(Policy.CLUSTER, {"local": READY, "remote": READY})
    async with site.running():
        pass
    client = site.made.namespace("client")
    live = await asyncio.to_thread(open_in, client, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    with live:
        live.settimeout(20)
        await asyncio.to_thread(live.connect, (str(NODES["n1"]), node_port(item)))
        before = site.made.nft("n1", "-a", "list", "ruleset")
        failures: list[str] = []
        asked = 0
        stop = asyncio.Event()

        async def keep_asking() -> None:
            nonlocal asked
            while not stop.is_set():
                answer = await site.ask("client", socket.SOCK_STREAM, NODES["n1"], node_port(item))
                asked += 1
                if answer.split()[0] not in ("local", "remote"):
                    failures.append(answer)

        asking = asyncio.create_task(keep_asking())
        for _ in range(20):
            before_this = asked
            async with site.running():
                live.sendall(b"still there?")
                assert (await asyncio.to_thread(live.recv, 100)).split()[0] in (b"local", b"remote")
                await eventually(lambda there=before_this: asked > there)
        stop.set()
        await asking
        assert failures == []
        assert site.made.nft("n1", "-a", "list", "ruleset") == before


DAMAGE = {
    "flush ruleset": "flush ruleset",
    "delete the table": "delete table ip {table}",
    "flush a map": "flush map ip {table} nodeports",
    "flush a chain": "flush chain ip {table} services",
    "delete one element": "delete element ip {table} nodeports {{ tcp . {port} }}",
    "exchange one element for another": (
        "delete element ip {table} nodeports {{ tcp . {port} }}; "
        "add element ip {table} nodeports {{ tcp . 4 : 0:1 }}"
    ),
    "exchange the data of one element": (
        "delete element ip {table} nodeports {{ tcp . {port} }}; "
        "add element ip {table} nodeports {{ tcp . {port} : 0:7ffe }}"
    ),
    "put the table out of action": "add table ip {table} {{ flags dormant; }}",
    "insert a rule": "insert rule ip {table} services drop",
    "add a chain that drops": (
        "add chain ip {table} foreign {{ type filter hook prerouting priority -300; }}; "
        "add rule ip {table} foreign tcp dport {port} drop"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_what_others_do_to_our_table_is_mended_and_packets_flow_again(site: Site, damage: str) -> None:
    item = await site.serve(Policy.CLUSTER, {"local": READY})
    port = node_port(item)
    async with site.running():
        site.made.nft("n1", "add table inet theirs; add chain inet theirs c; add rule inet theirs c counter")
        before = site.made.nft("n1", "list", "ruleset")
        theirs = site.made.nft("n1", "-a", "list", "table", "inet", "theirs")
        if damage == "flush ruleset":
            site.made.nft("n1", damage)
            site.made.nft(
                "n1", "add table inet theirs; add chain inet theirs c; add rule inet theirs c counter"
            )
        else:
            site.made.nft("n1", damage.format(port=port, table=TABLES[site.mode]))
        await eventually(
            lambda: sorted_tables(site.made.nft("n1", "list", "ruleset")) == sorted_tables(before)
        )
        answer = await site.ask("client", socket.SOCK_STREAM, NODES["n1"], port)
        assert answer == f"local {CLIENT}"
        if damage != "flush ruleset":
            assert site.made.nft("n1", "-a", "list", "table", "inet", "theirs") == theirs


def sorted_tables(ruleset: str) -> list[str]:
    """Listings compare whatever the order in which tables were made."""
    return sorted(ruleset.split("table "))


async def test_a_udp_client_that_keeps_its_port_gets_the_new_endpoint(site: Site) -> None:
    item = await site.serve(Policy.CLUSTER, {})
    client = site.made.namespace("client")
    async with site.running() as runner:
        with open_in(client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
            asking.settimeout(0.2)
            asking.bind((str(CLIENT), 0))

            def once() -> str:
                with contextlib.suppress(OSError):
                    asking.sendto(b"who?", (str(NODES["n1"]), node_port(item)))
                    return asking.recv(100).decode().split()[0]
                return ""

            assert await asyncio.to_thread(once) == ""
            for pod in ("local", "other", "remote"):
                (wanted,) = scenario.slices(item, {pod: READY})
                created = await site.client.create(ENDPOINT_SLICES, wanted)

                async def is_answered(by: str = pod) -> bool:
                    return await asyncio.to_thread(once) == by

                await eventually(is_answered)
                await site.client.delete(ENDPOINT_SLICES, created["metadata"]["name"], scenario.NAMESPACE)
            assert runner.health().healthy


async def test_health_is_served_on_the_node(site: Site) -> None:
    async with site.running():
        assert await site.ask("client", socket.SOCK_STREAM, NODES["n1"], 9) == "reject"

        def get() -> tuple[bytes, dict[str, Any]]:
            with open_in(
                site.made.namespace("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            ) as asking:
                asking.settimeout(20)
                asking.connect((str(NODES["n1"]), 10256))
                asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: n1\r\n\r\n")
                answer = b""
                while part := asking.recv(4096):
                    answer += part
            head, body = answer.split(b"\r\n\r\n", 1)
            return head.split(b"\r\n")[0], json.loads(body)

        status, body = await asyncio.to_thread(get)
        assert status == b"HTTP/1.1 200 OK"
        assert body["nodeEligible"] is True
        assert body["healthy"] is True
        assert body["status"]["IPv4"]["healthy"] is True

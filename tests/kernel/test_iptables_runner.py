"""The whole proxy in mode iptables: taking over from another mode, and mending what others took, under live traffic."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from kernel.packets import Policy
from kernel.test_proxy_runner import OPTIONS, READY, Site, node_port, site
from kernel.topology import CLIENT, NODES
from nodeport.forwarding.table import Family
from nodeport.kit.clock import SystemClock
from nodeport.proxy.modes import Mode, remove_mode
from nodeport.proxy.options import ProxyOptions, Variant
from nodeport.proxy.runner import ProxyRunner
from nodeport.testing.controlplane import eventually

__all__ = ["site"]
IPTABLES = {
    variant: replace(OPTIONS, mode=Mode.IPTABLES, iptables_variant=variant, localhost_nodeports=False)
    for variant in Variant
}


@contextlib.asynccontextmanager
async def running(site: Site, options: ProxyOptions) -> AsyncIterator[None]:
    runner = ProxyRunner(
        node_name="n1",
        services=site.informers["services"],
        slices=site.informers["slices"],
        nodes=site.informers["nodes"],
        netns=site.made.namespace("n1"),
        options=options,
        clock=SystemClock(),
    )
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(60):
            await runner.wait_until_programmed()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def iptables(site: Site, variant: Variant, *arguments: str) -> str:
    command = ["ip", "netns", "exec", site.made.namespace("n1").name, f"iptables-{variant}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("variant", Variant, ids=str)
async def test_the_mode_takes_over_from_nftables_and_gives_back(site: Site, variant: Variant) -> None:
    item = await site.serve(Policy.CLUSTER, {"local": READY})

    async def answer() -> str:
        return await site.ask("client", socket.SOCK_STREAM, NODES["n1"], node_port(item))

    async with running(site, OPTIONS):
        assert await answer() == f"local {CLIENT}"
    async with running(site, IPTABLES[variant]):
        await eventually(
            lambda: "table ip nodeport" not in site.made.nft("n1", "list", "tables").splitlines()
        )
        assert "-N NODEPORT-SERVICES" in iptables(site, variant, "-t", "nat", "-S")
        assert await answer() == f"local {CLIENT}"
    async with running(site, OPTIONS):
        await eventually(lambda: "NODEPORT" not in iptables(site, variant, "-t", "nat", "-S"))
        assert await answer() == f"local {CLIENT}"


@pytest.mark.parametrize("variant", Variant, ids=str)
async def test_what_others_flush_is_back_and_packets_flow_again(site: Site, variant: Variant) -> None:
    item = await site.serve(Policy.CLUSTER, {"local": READY})
    try:
        async with running(site, IPTABLES[variant]):
            before = iptables(site, variant, "-t", "nat", "-S")
            for damage in (("-F",), ("-F", "NODEPORT-SERVICES"), ("-F", "PREROUTING")):
                iptables(site, variant, "-t", "nat", *damage)
                await eventually(lambda: iptables(site, variant, "-t", "nat", "-S") == before)
                answer = await site.ask("client", socket.SOCK_STREAM, NODES["n1"], node_port(item))
                assert answer == f"local {CLIENT}"
    finally:
        for family in Family:
            remove_mode(Mode.IPTABLES, family, site.made.namespace("n1"), OPTIONS)

"""Who programs a network namespace, as the kernel remembers it: one at a time, and nobody after he has ended."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster
from nodeport.kit.clock import SystemClock
from nodeport.netlink.nftables.kernel import Request
from nodeport.netlink.nftables.owned import OwnersUnknown, TableOwner
from nodeport.netlink.socket import KernelRefused, Refusal
from nodeport.node import network
from nodeport.proxy.claim import CLAIM, AlreadyProxied, claimed

AT_ONCE, PATIENT = timedelta(0), timedelta(seconds=30)
FIRST = "mode nftables, node n1"
HOLDER = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from nodeport.kit.clock import SystemClock
from nodeport.proxy.claim import claimed

async def hold():
    async with claimed(Path(sys.argv[1]), "mode ipvs, node n1", SystemClock(), timedelta(0)):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.fixture
def another(netns: Path) -> Iterator[subprocess.Popen[str]]:
    with holding(netns) as process:
        yield process


@contextmanager
def holding(netns: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the namespace."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(netns)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def nft(netns: Path, *words: str) -> str:
    command = ["ip", "netns", "exec", netns.name, "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_a_second_proxy_is_refused_and_told_which_process_is_the_first(
    netns: Path, another: subprocess.Popen[str]
) -> None:
    with pytest.raises(AlreadyProxied, match=rf"pid {another.pid}, mode ipvs, node n1; end it first"):
        async with claimed(netns, FIRST, SystemClock(), AT_ONCE):
            pass
    assert f'comment "pid {another.pid} in pid:[' in nft(netns, "list", "table", "ip", CLAIM.name)


async def test_whoever_is_killed_holds_nothing_any_more(
    netns: Path, another: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    """As between two pods of a DaemonSet: the next one waits, says for whom, and goes on."""
    with caplog.at_level(logging.INFO):
        waiting = asyncio.create_task(hold_once(netns))
        while "waiting 30 s at most" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        another.send_signal(signal.SIGKILL)
        assert str(os.getpid()) in await waiting
    assert f"the other proxy has ended (pid {another.pid}, mode ipvs, node n1)" in caplog.text
    assert nft(netns, "list", "ruleset") == ""


async def hold_once(netns: Path) -> str:
    async with claimed(netns, FIRST, SystemClock(), PATIENT):
        return nft(netns, "list", "ruleset")


async def test_a_flush_of_everything_leaves_the_claim(netns: Path, another: subprocess.Popen[str]) -> None:
    nft(netns, "flush", "ruleset")
    with pytest.raises(AlreadyProxied):
        async with claimed(netns, FIRST, SystemClock(), AT_ONCE):
            pass


async def test_the_claim_keeps_the_kernel_translating_in_both_families(netns: Path) -> None:
    async with claimed(netns, FIRST, SystemClock(), AT_ONCE):
        for family in ("ip", "ip6"):
            assert "ct status dnat return" in nft(netns, "list", "table", family, CLAIM.name)


async def test_a_table_of_that_name_without_an_owner_is_nobodys_claim(netns: Path) -> None:
    nft(netns, "add", "table", "ip", CLAIM.name)
    async with claimed(netns, FIRST, SystemClock(), AT_ONCE):
        assert "flags owner" in nft(netns, "list", "ruleset")


async def test_namespaces_are_claimed_one_by_one(netns: Path, another: subprocess.Popen[str]) -> None:
    name = f"{netns.name}.b"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        async with claimed(netns.with_name(name), FIRST, SystemClock(), AT_ONCE):
            pass
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_a_kernel_that_knows_no_owners_says_so(netns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.12 the flag is refused."""

    def refuse(self: TableOwner, requests: Sequence[Request], *, generation: int | None = None) -> None:
        raise KernelRefused([Refusal(1, errno.EOPNOTSUPP)])

    monkeypatch.setattr(TableOwner, "commit", refuse)
    with TableOwner(netns) as owner, pytest.raises(OwnersUnknown):
        owner.take(CLAIM, FIRST)


def test_a_local_node_that_somebody_else_programs_is_told_in_one_line(cluster: LocalCluster) -> None:
    cluster.up("--nodes", "2")
    cluster.kill("nodes")
    with holding(network.node_netns(cluster.paths.name, "node-2")) as process:
        said = cluster.nodeport("up", code=1)
    last = said.strip().splitlines()[-1].strip()
    assert last == (
        "error: node node-2: another proxy programs this network namespace: "
        f"pid {process.pid}, mode ipvs, node n1; end it first (waited 20 s for that)"
    )
    assert "Traceback" not in cluster.paths.log("nodes").read_text()
    assert "mended (nodes started)" in cluster.up()

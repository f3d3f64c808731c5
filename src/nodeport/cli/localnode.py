"""One node of a local cluster: agent, proxy and name server, as long as nobody has hurt it so that they cannot run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from nodeport.cli.nodeproxy import NodeProxy
from nodeport.client.informer import Informer
from nodeport.netlink.codec import NetlinkError
from nodeport.node import loss, network
from nodeport.node import sandbox as sandboxes
from nodeport.node.agent import NodeAgent
from nodeport.node.delay import Delay, NodeLink
from nodeport.node.dns.server import NameServer
from nodeport.node.hurt import Hurt, Power
from nodeport.node.runtime import Runtime
from nodeport.node.sandbox import NodeSurroundings, Sandbox

AgentParts = tuple[NodeAgent, Informer]
_UNHURT = Hurt()
_ALIVE = frozenset((Power.RUNNING, Power.PARTITIONED))
"""When agent and proxy run."""
_RETRY = 1.0
_log = logging.getLogger(__name__)


class LocalNode:
    """``run`` until cancelled. ``new_agent`` opens a client of the node's own, with an agent and its pods; ``lead``
    cuts the node off the API server, or joins it again.

    ``want`` says how the node is to be; ``applied`` is how it was made last, None for a node that nobody ever hurt;
    ``told`` is called when that changes.
    """

    def __init__(
        self, surroundings: NodeSurroundings, *, runtime: Runtime, proxy: NodeProxy, names: NameServer,
        new_agent: Callable[[], AbstractAsyncContextManager[AgentParts]], told: Callable[[], None],
        lead: Callable[[bool], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._surroundings, self._runtime = surroundings, runtime
        self._proxy, self._names = proxy, names
        self._new_agent, self._told, self._lead = new_agent, told, lead
        self._link = NodeLink(
            surroundings.cluster, surroundings.name, surroundings.run_directory / "delay.pid"
        )
        self._watched = -1
        self._wanted = _UNHURT
        self._due, self._settled = asyncio.Event(), asyncio.Event()
        self.applied: Hurt | None = None

    @property
    def name(self) -> str:
        return self._surroundings.name

    def want(self, hurt: Hurt) -> None:
        """Level-triggered: what is so already is done again without effect."""
        self._wanted = hurt
        self._due.set()

    async def wait_until_ready(self) -> None:
        """Until it is registered and programmed; a node that is hurt need not be."""
        await self._settled.wait()
        if self._wanted.power is Power.RUNNING:
            await self._proxy.wait_until_programmed()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                await self._follow_wishes(group)
        finally:
            self._unwatch()

    async def _follow_wishes(self, group: asyncio.TaskGroup) -> None:
        living: asyncio.Task[None] | None = None
        while True:
            wanted = self._wanted
            if living is not None and wanted.power not in _ALIVE:
                living.cancel()
                await asyncio.wait([living])
                living = None
            if self._due.is_set():
                self._due.clear()
                await self._become(wanted)
            if living is None and wanted.power in _ALIVE:
                living = group.create_task(self._live())
            await self._due.wait()

    async def _live(self) -> None:
        async with self._new_agent() as (agent, pods), asyncio.TaskGroup() as group:
            for part in (self._proxy.run(), self._names.run(), pods.run(), agent.run()):
                group.create_task(part)
            await agent.wait_until_registered()
            self._settled.set()

    async def _become(self, hurt: Hurt) -> None:
        """Neither agent nor proxy runs when they must not; then its pods and its link."""
        try:
            await self._lead(hurt.power is Power.PARTITIONED)
            await self._hurt_pods(hurt.power)
            cut = hurt.power in (Power.STOPPED, Power.PARTITIONED)
            network.set_node_link(self._surroundings.cluster, self.name, up=not cut)
            loss.apply(self._surroundings.netns, hurt.loss)
            self._set_delay(Delay(hurt.delay, hurt.jitter))
        except (OSError, NetlinkError) as error:
            _log.error("node %s cannot be made %s: %s", self.name, str(hurt) or "whole", error)
            asyncio.get_running_loop().call_later(_RETRY, self._due.set)
            return
        _log.info("node %s is %s", self.name, str(hurt) or "whole")
        self.applied = hurt
        if hurt.power is not Power.RUNNING:
            self._settled.set()
        self._told()

    def _set_delay(self, delay: Delay) -> None:
        self._unwatch()
        running = self._link.ensure(delay)
        if running is not None:
            self._watched = os.pidfd_open(running.pid)
            asyncio.get_running_loop().add_reader(self._watched, self._delay_ended)

    def _unwatch(self) -> None:
        if self._watched >= 0:
            asyncio.get_running_loop().remove_reader(self._watched)
            os.close(self._watched)
            self._watched = -1

    def _delay_ended(self) -> None:
        """Somebody ended the program: the link is made whole at once, and the delay put back a little later."""
        _log.warning("what delays the link of node %s has ended", self.name)
        self._unwatch()
        with contextlib.suppress(OSError, NetlinkError):
            self._link.heal()
        asyncio.get_running_loop().call_later(_RETRY, self._due.set)

    async def _hurt_pods(self, power: Power) -> None:
        found = sandboxes.found(self._surroundings)
        for sandbox in found:
            self._runtime.set_frozen(sandbox, frozen=power is Power.PAUSED)
        if power is Power.STOPPED:
            ends = await asyncio.gather(*map(self._cut_power, found), return_exceptions=True)
            for error in ends:
                if error is not None:
                    raise error

    async def _cut_power(self, sandbox: Sandbox) -> None:
        """All processes are killed without a word; what a reboot would take is taken."""
        for container in await self._runtime.adopt(sandbox, lambda: None):
            await self._runtime.stop(container, timedelta(0))
        sandboxes.remove(sandbox)

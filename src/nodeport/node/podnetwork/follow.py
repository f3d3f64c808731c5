"""Keeps a node's way to the pods of all other nodes: follows the Nodes, tells the kernel, and mends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from nodeport.api.meta import NamespacedName
from nodeport.api.resources import NODES
from nodeport.client.events import WARNING, EventRecorder, object_reference
from nodeport.client.informer import Change, Informer
from nodeport.kit.clock import Clock
from nodeport.netlink.codec import NetlinkError
from nodeport.netlink.vxlan import LinkTaken
from nodeport.node.podnetwork import kernel
from nodeport.node.podnetwork.kernel import Setup
from nodeport.node.podnetwork.plan import Refusal, peer_of, peers_of
from nodeport.node.podnetwork.watch import watching

CHECK = timedelta(seconds=30)
"""How often the kernel is looked at unasked."""
RETRY = timedelta(seconds=1)
CALM = timedelta(milliseconds=1)
"""For each Node there is: what comes in a burst, as when many start together, is answered once."""
REASON = "FailedToCreateRoute"
_log = logging.getLogger(__name__)


class PodNetwork:
    """``run`` until cancelled; what the kernel knows stays, so that traffic goes on without us."""

    def __init__(
        self, name: str, setup: Setup, nodes: Informer, recorder: EventRecorder, clock: Clock
    ) -> None:
        self._name, self._setup, self._nodes = name, setup, nodes
        self._recorder, self._clock = recorder, clock
        self._due = asyncio.Event()
        self._links: frozenset[int] = frozenset()
        self._refused: tuple[Refusal, ...] = ()
        self._trouble = ""

    async def run(self) -> None:
        await self._nodes.wait_until_synced()
        with (
            self._nodes.subscribed(self._heard),
            watching(self._setup.netns, lambda: self._links, self._due.set),
        ):
            while True:
                self._due.clear()
                wait = CHECK if self._ensure() else RETRY
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait.total_seconds()):
                        await self._due.wait()
                await self._clock.sleep(CALM.total_seconds() * len(self._nodes))

    def _heard(self, change: Change) -> None:
        """Most changes of a Node say only that it is alive."""
        old, new = change.old, change.new
        if old is None or new is None or peer_of(old) != peer_of(new):
            self._due.set()

    def _ensure(self) -> bool:
        """Whether the kernel took it. What is wrong is said once."""
        try:
            done = kernel.ensure(self._setup, peers_of(self._nodes.list(), self._name))
        except (OSError, NetlinkError, LinkTaken) as error:
            if str(error) != self._trouble:
                _log.warning("pod network of node %s: %s", self._name, error)
            self._trouble = str(error)
            return False
        self._trouble, self._links = "", done.links
        self._tell(done.plan.refusals)
        return True

    def _tell(self, refusals: tuple[Refusal, ...]) -> None:
        """Once each, as soon as this node is registered."""
        node = self._nodes.get(NamespacedName("", self._name))
        if node is None:
            return
        for refusal in refusals:
            if refusal not in self._refused:
                _log.warning("node %s: %s", self._name, refusal.message)
                self._recorder.event(object_reference(NODES, node), WARNING, REASON, refusal.message)
        self._refused = refusals

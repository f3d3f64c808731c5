"""What one node of a local cluster hears of the API, and says to it; it can be cut off, as by a broken network."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.client.view import View
from nodeport.node.dns.follow import follow
from nodeport.node.dns.forwarder import Forwarder
from nodeport.node.dns.server import NameServer, Resolver


class Corridor:
    """``services``, ``slices``, ``nodes``: the node's views of what all nodes follow together.

    Cut off, it shows its node everything as it was: rules stay, names are answered as they were known, and requests
    fail. What has happened meanwhile is heard when it is joined again.
    """

    def __init__(
        self, services: Informer, slices: Informer, nodes: Informer, ranges: tuple[IPv4Network | IPv6Network, ...]
    ) -> None:  # fmt: skip
        self.services, self.slices, self.nodes = View(services), View(slices), View(nodes)
        self._ranges = ranges
        self._client: RestClient | None = None
        self._alone: Resolver | None = None
        self._is_cut = False

    async def enter(self, client: RestClient) -> None:
        """The node's own client from now on, open; cut off when the node is."""
        self._client = client
        if self._is_cut:
            await client.cut()

    def leave(self) -> None:
        self._client = None

    async def cut(self) -> None:
        self._is_cut = True
        for view in (self.services, self.slices, self.nodes):
            view.cut()
        if self._client is not None:
            await self._client.cut()

    def join(self) -> None:
        self._is_cut = False
        if self._client is not None:
            self._client.join()
        for view in (self.nodes, self.slices, self.services):
            view.join()

    def lead(self, names: NameServer, together: Resolver) -> None:
        """Have the node's name server answer by what the node knows: with all nodes ``together``, or alone."""
        if self._is_cut and self._alone is None:
            zone = follow(self.services, self.slices, self.nodes, self._ranges)
            self._alone = Resolver(zone, Forwarder((), Path(os.devnull)))
        names.use(self._alone if self._is_cut and self._alone else together)

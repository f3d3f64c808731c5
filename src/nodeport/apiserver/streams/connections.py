"""The connecting subresources together: which of them serves a request."""

from __future__ import annotations

import ssl
from random import Random

from aiohttp import web

from nodeport.api.status import MethodNotAllowed
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.requests import Address
from nodeport.apiserver.routes import Target
from nodeport.apiserver.streams.logs import PodLogs
from nodeport.apiserver.streams.nodes import NodeConnections
from nodeport.apiserver.streams.openstreams import OpenStreams
from nodeport.apiserver.streams.portforward import PortForwards
from nodeport.apiserver.streams.proxy import Proxies
from nodeport.apiserver.streams.remotecommand import RemoteCommands


class Connections:
    """``tls`` None: no client certificate for nodes, so nothing behind them can be reached."""

    def __init__(self, registry: Registry, tls: ssl.SSLContext | None, rng: Random) -> None:
        self._streams = OpenStreams()
        nodes = NodeConnections(registry, tls)
        self._logs = PodLogs(registry, nodes, self._streams)
        self._commands = RemoteCommands(registry, nodes, self._streams)
        self._forwards = PortForwards(registry, nodes, self._streams)
        self._proxies = Proxies(registry, nodes, self._streams, rng)

    @property
    def count(self) -> int:
        return self._streams.count

    def close(self) -> None:
        """Ends every open stream."""
        self._streams.close()

    async def serve(self, request: web.BaseRequest, target: Target, address: Address) -> web.StreamResponse:
        match target.subresource:
            case "log":
                return await self._logs.serve(request, target, address)
            case "exec" | "attach":
                return await self._commands.serve(request, target, address)
            case "portforward":
                return await self._forwards.serve(request, target, address)
            case "proxy":
                return await self._proxies.serve(request, target)
        raise MethodNotAllowed("the server does not allow this method on the requested resource")

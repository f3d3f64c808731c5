"""Watch streams over HTTP: chunked lines, flushed as they come; whoever reads too slowly is cut off."""

from __future__ import annotations

import asyncio

from aiohttp import web

from nodeport.apiserver.negotiation import Representation
from nodeport.apiserver.options import ListOptions
from nodeport.apiserver.presenting import render
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.watch import WatchRequest, WatchSource

WRITE_PATIENCE_SECONDS = 60.0


class Streamer:
    """Owns no tasks; knows those of its streams so that a shutdown can end them at once."""

    def __init__(self, registry: Registry, source: WatchSource) -> None:
        self._registry = registry
        self._source = source
        self._streams: set[asyncio.Task[object]] = set()

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def close(self) -> None:
        """End every stream."""
        for task in self._streams:
            task.cancel()

    async def serve(
        self,
        request: web.BaseRequest,
        target: Target,
        options: ListOptions,
        wanted: Representation,
        include: str,
    ) -> web.StreamResponse:
        clock = self._registry.clock
        show = render(target.resource, wanted.form, include, clock.now)
        watch = WatchRequest(target.resource, target.namespace, target.name, options, show)
        splicer = self._registry.entry(target.resource).splicer
        await self._source.check(watch)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"")
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            async for chunk in self._source.lines(watch, splicer):
                async with asyncio.timeout(WRITE_PATIENCE_SECONDS):
                    await response.write(chunk)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return response
        finally:
            self._streams.discard(task)
        await response.write_eof()
        return response

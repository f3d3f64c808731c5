"""Watch streams over HTTP: chunked lines, flushed as they come; whoever reads too slowly is cut off."""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, web

from nodeport.api.status import TooManyRequests
from nodeport.apiserver.limits import UnreadBytes
from nodeport.apiserver.negotiation import Representation
from nodeport.apiserver.options import ListOptions
from nodeport.apiserver.presenting import render
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target
from nodeport.apiserver.watch import Data, WatchSource
from nodeport.apiserver.watchviews import WatchRequest, unframed

WRITE_PATIENCE_SECONDS = 60.0


def chunked(lines: bytes) -> bytes:
    """Lines, which are not empty, as a chunk of a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(lines), lines)


class ConnectionSink:
    """A response's connection, written to past the response: frames are made once for all who get them."""

    def __init__(self, request: web.BaseRequest, client: str, unread: UnreadBytes) -> None:
        self._protocol = request.protocol
        self._writer = request.writer
        self._client, self._unread = client, unread

    @property
    def full(self) -> bool:
        return self._protocol.writing_paused

    def write(self, data: Data) -> None:
        self._transport().write(data)

    async def drain(self, kept: int = 0) -> None:
        if self.full:
            with self._unread.holding(self._client, kept):
                async with asyncio.timeout(WRITE_PATIENCE_SECONDS):
                    await self._writer.drain()
            self._transport()

    def _transport(self) -> asyncio.WriteTransport:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the watcher hung up")
        return transport


class Streamer:
    """Owns no tasks; knows those of its streams so that a shutdown can end them at once."""

    def __init__(self, registry: Registry, source: WatchSource, unread: UnreadBytes) -> None:
        self._registry = registry
        self._source = source
        self._unread = unread
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
        client: str,
    ) -> web.StreamResponse:
        show = render(target.resource, wanted.form, include, self._registry.clock.now)
        chunks = request.version >= HttpVersion11
        frame = chunked if chunks else unframed
        watch = WatchRequest(target.resource, target.namespace, target.name, options, show, frame)
        splicer = self._registry.entry(target.resource).splicer
        await self._source.check(watch)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        if chunks:
            response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            await self._source.send(watch, splicer, ConnectionSink(request, client, self._unread))
        except (TimeoutError, ConnectionError, TooManyRequests):
            if request.transport is not None:
                request.transport.abort()
            return response
        finally:
            self._streams.discard(task)
        await response.write_eof()
        return response

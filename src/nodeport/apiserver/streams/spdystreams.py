"""A client's streams of exec and attach over SPDY, each a stream of its own, named in its headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from nodeport.api.channels import Channel, ChannelMessage
from nodeport.api.meta import JsonObject
from nodeport.apiserver.spdy.connection import SpdyConnection, SpdyStream
from nodeport.apiserver.streams.bytestreams import ByteStream

PROTOCOLS = ("v4.channel.k8s.io",)
CREATION_SECONDS = 30.0
"""How long a client may take until it has opened all of its streams."""
LINGER_SECONDS = 2.0
"""How long a client has to read the last word: a connection that is closed over unread input loses what was sent."""
QUEUED_MESSAGES = 16
_CHANNELS = {
    "stdin": Channel.STDIN, "stdout": Channel.STDOUT, "stderr": Channel.STDERR, "error": Channel.ERROR,
    "resize": Channel.RESIZE,
}  # fmt: skip
_FROM_CLIENT = (Channel.STDIN, Channel.RESIZE)


def expected_channels(asked: Iterable[str]) -> set[Channel]:
    """The streams that a client opens for what it asked (``input``, ``output``, ``error``, ``tty``)."""
    wanted = set(asked)
    names = {"input": Channel.STDIN, "output": Channel.STDOUT, "error": Channel.STDERR, "tty": Channel.RESIZE}
    if "tty" in wanted:
        wanted.discard("error")
    return {Channel.ERROR, *(channel for name, channel in names.items() if name in wanted)}


class SpdyStreams:
    """``ClientStreams`` over a SPDY connection; made by `opened`."""

    def __init__(self, connection: SpdyConnection, running: asyncio.Future[None]) -> None:
        self._connection, self._running = connection, running
        self._streams: dict[Channel, SpdyStream] = {}
        self._messages: asyncio.Queue[ChannelMessage | None] = asyncio.Queue(QUEUED_MESSAGES)
        self._tasks: list[asyncio.Task[None]] = []

    async def take_streams(self, expected: set[Channel]) -> bool:
        """Whether the client has opened all of them."""
        while not expected <= set(self._streams):
            stream = await self._connection.accept()
            if stream is None:
                return False
            channel = _CHANNELS.get(stream.headers.get("streamtype", ""))
            if channel is None or channel in self._streams:
                await self._connection.refuse(stream)
                continue
            self._streams[channel] = stream
        for channel in _FROM_CLIENT:
            if channel in self._streams:
                self._tasks.append(asyncio.ensure_future(self._read(channel)))
        self._tasks.append(asyncio.ensure_future(self._watch()))
        return True

    async def _read(self, channel: Channel) -> None:
        stream = self._streams[channel]
        while data := await stream.read():
            await self._messages.put(ChannelMessage(channel, data))
        if not stream.is_reset:
            await self._messages.put(ChannelMessage(channel, closes=True))

    async def _watch(self) -> None:
        await asyncio.wait((self._running,))
        await self._messages.put(None)

    async def receive(self) -> ChannelMessage | None:
        return await self._messages.get()

    async def send(self, message: ChannelMessage) -> None:
        if (stream := self._streams.get(Channel(message.channel))) is not None:
            await stream.write(message.data)

    async def finish(self, status: JsonObject) -> None:
        with suppress(ConnectionError):
            await self._streams[Channel.ERROR].write(json.dumps(status, separators=(",", ":")).encode())
            for stream in self._streams.values():
                await stream.close_write()
                stream.discard()
        await asyncio.wait((self._running,), timeout=LINGER_SECONDS)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def opened(wire: ByteStream, expected: set[Channel]) -> AsyncIterator[SpdyStreams | None]:
    """The client's streams; None when it does not open them in time."""
    connection = SpdyConnection(wire)
    running = asyncio.ensure_future(connection.run())
    streams = SpdyStreams(connection, running)
    try:
        try:
            async with asyncio.timeout(CREATION_SECONDS):
                complete = await streams.take_streams(expected)
        except (TimeoutError, ConnectionError):
            complete = False
        yield streams if complete else None
    finally:
        streams.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

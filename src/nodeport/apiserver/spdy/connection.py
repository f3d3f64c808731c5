"""The server's end of a SPDY connection: the streams that a client opened, each readable and writable by itself.

The clients that use it know no flow control by window, so what holds a fast one back is TCP: when a stream has more
waiting than it may, nothing more is read for any.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from nodeport.apiserver.spdy.frames import (
    GOAWAY_PROTOCOL_ERROR,
    RST_INVALID_STREAM,
    RST_PROTOCOL_ERROR,
    RST_REFUSED_STREAM,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Headers,
    Ping,
    RstStream,
    SpdyError,
    SynReply,
    SynStream,
)

MAX_WAITING_BYTES = 1024 * 1024
MAX_STREAMS = 1024
WRITE_BYTES = 32 * 1024


class Wire(Protocol):
    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class SpdyStream:
    """``headers`` as the client sent them, names in lower case. ``is_reset``: the client wants no more of it."""

    def __init__(self, connection: SpdyConnection, stream_id: int, headers: Headers) -> None:
        self.stream_id, self.headers = stream_id, headers
        self.is_reset = False
        self._connection = connection
        self._waiting = bytearray()
        self._ended = False
        self._sent_end = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def read(self) -> bytes:
        """At least one byte; none at the end, or when the client has given the stream up."""
        while not self._waiting:
            if self._ended or self.is_reset:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._waiting)
        self._waiting.clear()
        self._room.set()
        return data

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the stream or the whole client is gone."""
        for start in range(0, len(data), WRITE_BYTES):
            if self.is_reset or self._sent_end:
                raise ConnectionResetError("the stream is closed")
            await self._connection.send(Data(self.stream_id, data[start : start + WRITE_BYTES]))

    async def close_write(self) -> None:
        """Nothing more will be written. Twice does no harm."""
        if self._sent_end or self.is_reset:
            return
        self._sent_end = True
        await self._connection.send(Data(self.stream_id, fin=True))
        if self._ended:
            self._connection.forget(self)

    def discard(self) -> None:
        """What the client still sends is not waited for."""
        self._ended = True
        self._waiting.clear()
        self._room.set()

    async def feed(self, data: bytes, *, fin: bool) -> None:
        """Data of the client's; waits while there is too much that nobody has read."""
        if not self._ended:
            self._waiting += data
            if len(self._waiting) > MAX_WAITING_BYTES:
                self._room.clear()
        self._ended = self._ended or fin
        self._changed.set()
        if self._ended and self._sent_end:
            self._connection.forget(self)
        await self._room.wait()

    def reset(self) -> None:
        self.is_reset = True
        self._changed.set()
        self._room.set()

    def end(self) -> None:
        """The connection is over."""
        self._ended = True
        self._changed.set()


class SpdyConnection:
    """``run`` until the client is gone; meanwhile ``accept`` hands out the streams that it opens."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._encoder = Encoder()
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._writing = asyncio.Lock()
        self._last_id = 0

    async def accept(self) -> SpdyStream | None:
        """The next stream; None when there will be no more."""
        return await self._opened.get()

    async def send(self, frame: Frame) -> None:
        """Frames are written in the order of their encoding: headers are compressed as one stream."""
        async with self._writing:
            await self._wire.write(self._encoder.encode(frame))

    def forget(self, stream: SpdyStream) -> None:
        self._streams.pop(stream.stream_id, None)

    async def run(self) -> None:
        """Returns when the client closes the connection, says goodbye or breaks the protocol."""
        decoder = Decoder()
        try:
            while data := await self._wire.read():
                for frame in decoder.feed(data):
                    if isinstance(frame, GoAway):
                        return
                    await self._take(frame)
        except SpdyError:
            await self.send(GoAway(self._last_id, GOAWAY_PROTOCOL_ERROR))
        except ConnectionError:
            pass  # the end, however it comes
        finally:
            for stream in list(self._streams.values()):
                stream.end()
            self._opened.put_nowait(None)

    async def _take(self, frame: Frame) -> None:
        match frame:
            case SynStream():
                await self._open(frame)
            case Data(stream_id, data, fin):
                if (stream := self._streams.get(stream_id)) is not None:
                    await stream.feed(data, fin=fin)
                elif stream_id > self._last_id:
                    await self.send(RstStream(stream_id, RST_INVALID_STREAM))
            case RstStream(stream_id, _):
                if (stream := self._streams.pop(stream_id, None)) is not None:
                    stream.reset()
            case Ping(ping_id) if ping_id % 2:
                await self.send(frame)

    async def _open(self, frame: SynStream) -> None:
        number = frame.stream_id
        if number % 2 == 0 or number <= self._last_id:
            await self.send(RstStream(number, RST_PROTOCOL_ERROR))
            return
        self._last_id = number
        if len(self._streams) >= MAX_STREAMS:
            await self.send(RstStream(number, RST_REFUSED_STREAM))
            return
        stream = self._streams[number] = SpdyStream(self, number, frame.headers)
        await self.send(SynReply(number))
        if frame.fin:
            await stream.feed(b"", fin=True)
        self._opened.put_nowait(stream)

    async def refuse(self, stream: SpdyStream) -> None:
        """A stream that makes no sense here."""
        self.forget(stream)
        stream.reset()
        with suppress(ConnectionError):
            await self.send(RstStream(stream.stream_id, RST_REFUSED_STREAM))

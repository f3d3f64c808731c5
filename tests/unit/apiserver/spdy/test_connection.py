"""The streams of one SPDY client over a wire that the test holds."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.apiserver.spdy import connection as spdy
from nodeport.apiserver.spdy.connection import SpdyConnection
from nodeport.apiserver.spdy.frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    HeadersFrame,
    Ping,
    RstStream,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)


class Wire:
    """What the client sends is put in with ``say``; what it is sent is in ``heard``."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.heard: list[Frame] = []
        self._encoder, self._decoder = Encoder(), Decoder()

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        self.heard += self._decoder.feed(data)

    async def say(self, frame: Frame) -> None:
        await self.incoming.put(self._encoder.encode(frame))


@contextlib.asynccontextmanager
async def connected():  # type: ignore[no-untyped-def]
    wire = Wire()
    connection = SpdyConnection(wire)
    running = asyncio.create_task(connection.run())
    try:
        yield wire, connection
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_stream_that_nobody_reads_holds_the_client_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy, "MAX_WAITING_BYTES", 1000)
    async with connected() as (wire, connection):
        await wire.say(SynStream(1))
        stream = await connection.accept()
        assert stream is not None

        async def flood() -> None:
            for _ in range(10):
                await wire.say(Data(1, bytes(600)))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(), 0.2)
        taken = 0
        while taken < 1200:
            taken += len(await stream.read())
        async with asyncio.timeout(30):
            await wire.say(Data(1, fin=True))
            while await stream.read():
                pass


async def test_a_stream_that_is_discarded_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy, "MAX_WAITING_BYTES", 1000)
    async with connected() as (wire, connection):
        await wire.say(SynStream(1))
        stream = await connection.accept()
        assert stream is not None
        stream.discard()
        async with asyncio.timeout(30):
            for _ in range(20):
                await wire.say(Data(1, bytes(600)))


async def test_a_reset_ends_reading_and_writing() -> None:
    async with connected() as (wire, connection):
        await wire.say(SynStream(1))
        stream = await connection.accept()
        assert stream is not None
        reading = asyncio.create_task(stream.read())
        await wire.say(RstStream(1, 5))
        assert await reading == b""
        with pytest.raises(ConnectionError):
            await stream.write(b"x")
        await stream.close_write()
        assert wire.heard == [SynReply(1)]


async def test_a_goodbye_ends_every_stream() -> None:
    async with connected() as (wire, connection):
        await wire.say(SynStream(1))
        stream = await connection.accept()
        assert stream is not None
        await wire.say(GoAway(0))
        assert await connection.accept() is None
        assert await stream.read() == b""


async def test_there_is_an_end_to_how_many_streams_one_client_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy, "MAX_STREAMS", 2)
    async with connected() as (wire, _):
        for number in (1, 3, 5):
            await wire.say(SynStream(number))
        await wire.say(Ping(1))
        while Ping(1) not in wire.heard:
            await asyncio.sleep(0)
        assert wire.heard == [SynReply(1), SynReply(3), RstStream(5, 3), Ping(1)]


IDS = st.integers(0, 9)
NOISE = st.lists(
    st.one_of(
        st.builds(SynStream, IDS, st.just({"streamtype": "data"}), st.booleans()),
        st.builds(SynReply, IDS),
        st.builds(HeadersFrame, IDS),
        st.builds(RstStream, IDS, IDS),
        st.builds(Settings),
        st.builds(Ping, IDS),
        st.builds(WindowUpdate, IDS, IDS),
        st.builds(Data, IDS, st.binary(max_size=20), st.booleans()),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(NOISE)
def test_frames_in_any_order_end_in_a_goodbye(frames: list[Frame]) -> None:
    async def talk() -> None:
        async with connected() as (wire, connection), asyncio.timeout(30):
            for frame in frames:
                await wire.say(frame)
            await wire.say(GoAway(0))
            while await connection.accept() is not None:
                pass

    asyncio.run(talk())

"""Pipes and sockets without blocking the loop."""

from __future__ import annotations

import asyncio
import os

import pytest

from nodeport.node.descriptors import Descriptor


async def test_what_is_written_is_read_in_order_and_then_comes_the_end() -> None:
    source, sink = os.pipe()
    reader, writer = Descriptor(source), Descriptor(sink)
    data = bytes(range(256)) * 4000  # more than a pipe holds

    async def write() -> None:
        await writer.write(data)
        writer.close()

    writing = asyncio.create_task(write())
    found = b""
    while piece := await reader.read():
        found += piece
    await writing
    reader.close()
    assert found == data


async def test_nobody_waits_on_a_closed_descriptor() -> None:
    source, sink = os.pipe()
    reader, writer = Descriptor(source), Descriptor(sink)
    reading = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    reader.close()
    assert await reading == b""
    assert await reader.read() == b""
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x")
    writer.close()
    writer.close()
    with pytest.raises(BrokenPipeError):
        await writer.write(b"x")


async def test_a_write_that_is_given_up_leaves_the_descriptor_usable() -> None:
    source, sink = os.pipe()
    reader, writer = Descriptor(source), Descriptor(sink)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await writer.write(bytes(1_000_000))
    while len(await reader.read(1 << 20)) == 1 << 20:
        pass
    await writer.write(b"again")
    assert (await reader.read()).endswith(b"again")
    reader.close()
    writer.close()


async def test_a_terminals_end_is_an_end() -> None:
    master, slave = os.openpty()
    reader = Descriptor(master)
    os.write(slave, b"hi")
    assert await reader.read() == b"hi"
    os.close(slave)
    assert await reader.read() == b""
    reader.close()

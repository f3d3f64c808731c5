"""A session's streams over a WebSocket, in the words of ``v5.channel.k8s.io``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import WSMsgType, web

from nodeport.api import channels
from nodeport.api.channels import Channel, ChannelError, ChannelMessage
from nodeport.api.meta import JsonObject
from nodeport.kit.clock import Clock
from nodeport.node.sessions import Output, Session, SessionEnd

PROTOCOL = channels.V5
PING_EVERY = 5.0
"""Seconds. Nobody waits for the answer: writing is how a peer that is gone is noticed while its input is not read."""
DRAIN = 1.0
"""Seconds for output that comes after the command's end: something it left behind may hold the pipe."""
SIZE_WAIT = 0.25
"""Seconds that a command with a terminal waits for the size that its client says first, if it says any."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FirstWords:
    """What a client said before its command was there; ``size``: columns and rows, None when it said none."""

    messages: Sequence[ChannelMessage] = ()
    size: tuple[int, int] | None = None


async def first_words(socket: web.WebSocketResponse) -> FirstWords:
    """Reads until the client says its terminal's size: a command may ask for it as the first thing it does."""
    said: list[ChannelMessage] = []
    sizes = channels.TerminalSizes()
    with contextlib.suppress(TimeoutError, ChannelError):
        async with asyncio.timeout(SIZE_WAIT):
            while (frame := await socket.receive()).type is WSMsgType.BINARY:
                message = PROTOCOL.decode(frame.data)
                said.append(message)
                if message.channel == Channel.RESIZE and (found := sizes.feed(message.data)):
                    return FirstWords(said, found[-1])
    return FirstWords(said)


async def serve_command(
    socket: web.WebSocketResponse,
    session: Session,
    argv: Sequence[str],
    clock: Clock,
    said: Sequence[ChannelMessage] = (),
) -> None:
    """Until the command has ended, and its status is told, or the client is gone and the command is ended.

    ``said``: what the client has said already.
    """
    try:
        end = await unless_gone(
            [_feed(socket, session, said), keep_pinging(socket, clock)], _run(socket, session, clock)
        )
    finally:
        session.close()
    if end is not None:
        status = channels.exit_status(argv, end.code)
        if end.trouble:
            status = channels.failure(f"error executing command in container: {end.trouble}")
        await _finish(socket, status)


async def serve_output(socket: web.WebSocketResponse, session: Session, clock: Clock) -> None:
    """The same for a container that was there before: it lives on when the client goes."""
    try:
        gone = [_feed(socket, session), keep_pinging(socket, clock)]
        ended = await unless_gone(gone, _run(socket, session, clock))
    finally:
        session.close()
    if ended is not None:
        await _finish(socket, channels.success())


async def refuse(socket: web.WebSocketResponse, why: str) -> None:
    await _finish(socket, channels.failure(why))


async def unless_gone(watches: Sequence[Awaitable[None]], work: Awaitable[T]) -> T | None:
    """The result of ``work``; None when one of ``watches`` ends first. All are over when this returns."""
    working = asyncio.ensure_future(work)
    watching = [asyncio.ensure_future(watch) for watch in watches]
    try:
        await asyncio.wait([working, *watching], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    except (ConnectionError, OSError):
        return None
    finally:
        for task in (working, *watching):
            task.cancel()
        await asyncio.gather(working, *watching, return_exceptions=True)


async def _run(socket: web.WebSocketResponse, session: Session, clock: Clock) -> SessionEnd:
    outputs = [asyncio.ensure_future(_copy(socket, output)) for output in session.outputs()]
    try:
        end = await session.wait()
        if outputs:
            _, late = await asyncio.wait(outputs, timeout=DRAIN)
            for output in outputs:
                if output not in late:
                    output.result()
        return end
    finally:
        for output in outputs:
            output.cancel()
        await asyncio.gather(*outputs, return_exceptions=True)


async def _copy(socket: web.WebSocketResponse, output: Output) -> None:
    while (message := await output()) is not None:
        await socket.send_bytes(PROTOCOL.encode(message))


async def _feed(socket: web.WebSocketResponse, session: Session, said: Sequence[ChannelMessage] = ()) -> None:
    """What the client says, until it is gone."""
    sizes = channels.TerminalSizes()
    for message in said:
        await _take(message, session, sizes)
    async for message in messages(socket):
        await _take(message, session, sizes)


async def messages(socket: web.WebSocketResponse) -> AsyncIterator[ChannelMessage]:
    """What arrives, until the other side goes or says what is no channel message."""
    async for frame in socket:
        if frame.type is not WSMsgType.BINARY:
            return
        try:
            yield PROTOCOL.decode(frame.data)
        except ChannelError:
            return


async def _take(message: ChannelMessage, session: Session, sizes: channels.TerminalSizes) -> None:
    match message.channel:
        case Channel.STDIN if message.closes:
            await session.close_stdin()
        case Channel.STDIN:
            # whoever reads no input may still have something to say
            with contextlib.suppress(BrokenPipeError):
                await session.write(message.data)
        case Channel.RESIZE:
            for size in sizes.feed(message.data):
                await session.resize(*size)


async def keep_pinging(socket: web.WebSocketResponse, clock: Clock) -> None:
    while True:
        await clock.sleep(PING_EVERY)
        await socket.ping()


async def _finish(socket: web.WebSocketResponse, status: JsonObject) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(PROTOCOL.encode(ChannelMessage(Channel.ERROR, json.dumps(status).encode())))
        await socket.close()

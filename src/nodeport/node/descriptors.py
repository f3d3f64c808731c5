"""Reading and writing pipes, terminals and sockets by their descriptors, without blocking the loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

READ_SIZE = 32 * 1024


class Descriptor:
    """Owns ``fd``. One reader and one writer at a time; both end when it is closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        self._waiting: set[asyncio.Future[None]] = set()

    async def read(self, size: int = READ_SIZE) -> bytes:
        """What is there, at least one byte; nothing at the end, also that of a terminal, and once it is closed."""
        loop = asyncio.get_running_loop()
        while self._fd >= 0:
            try:
                return os.read(self._fd, size)
            except BlockingIOError:
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError as error:
                if error.errno in (errno.EIO, errno.ECONNRESET):
                    return b""
                raise
        return b""

    @property
    def number(self) -> int:
        """-1 once it is closed."""
        return self._fd

    async def receive(self, most: int = 4) -> tuple[bytes, list[int]]:
        """What a socket has, with the descriptors that came along, for the caller to close; nothing at the end."""
        loop = asyncio.get_running_loop()
        while self._fd >= 0:
            peer = socket.socket(fileno=os.dup(self._fd))
            try:
                data, sent, _, _ = socket.recv_fds(peer, READ_SIZE, most)
            except BlockingIOError:
                await self._ready(loop.add_reader, loop.remove_reader)
            except ConnectionResetError:
                return b"", []
            else:
                return data, list(sent)
            finally:
                peer.close()
        return b"", []

    async def write(self, data: bytes) -> None:
        """All of ``data``. Raises BrokenPipeError when nobody will read it."""
        loop, view = asyncio.get_running_loop(), memoryview(data)
        while view:
            if self._fd < 0:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._ready(loop.add_writer, loop.remove_writer)
            except OSError as error:
                if error.errno in (errno.EIO, errno.ECONNRESET):
                    raise BrokenPipeError(error.errno, error.strerror) from error
                raise

    async def wait_readable(self) -> None:
        """Until there is something to read; for a process's descriptor: until it has ended."""
        loop = asyncio.get_running_loop()
        await self._ready(loop.add_reader, loop.remove_reader)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        fd = self._fd
        add(fd, _settle, ready)
        self._waiting.add(ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._fd == fd:
                remove(fd)

    def close(self) -> None:
        """Twice does no harm. Whoever waits is woken and finds the end."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        os.close(fd)
        for ready in self._waiting:
            _settle(ready)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

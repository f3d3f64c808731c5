"""One HTTP session with reused connections, made anew when the credentials on disk change.

A new token is used from the next request on. A new certificate or authority ends the old connections, watches included:
whoever watches resumes with the new ones, as with client-go.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import aiohttp

from nodeport.client.config import ClientConfig

Reload = Callable[[], ClientConfig]
"""Reads the configuration again; may raise anything that reading files may."""

_LOOK_AGAIN: Final = timedelta(seconds=10)
_log = logging.getLogger(__name__)


class Connection:
    """``reload``: where the configuration comes from, looked at every ten seconds that something is asked for."""

    def __init__(self, config: ClientConfig, user_agent: str, reload: Reload | None) -> None:
        self.config = config
        self._user_agent = user_agent
        self._reload = reload
        self._session: aiohttp.ClientSession | None = None
        self._looked = 0.0
        self._is_cut = False
        self._responses: set[aiohttp.ClientResponse] = set()

    @property
    def is_open(self) -> bool:
        return self._session is not None

    def open(self) -> None:
        """Raises ``ssl.SSLError`` or ``OSError`` for certificates that cannot be loaded."""
        self._session = self._made(self.config)
        self._looked = asyncio.get_running_loop().time()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextmanager
    def reading(self, response: aiohttp.ClientResponse) -> Iterator[None]:
        """What is read of the response in this block fails when its connection is ended from here."""
        self._responses.add(response)
        try:
            yield
        finally:
            self._responses.discard(response)

    async def cut(self) -> None:
        """Let nothing through, and break off what is under way, until `join`."""
        self._is_cut = True
        if self._session is not None:
            old, self._session = self._session, self._made(self.config)
            await self._end(old)

    async def _end(self, session: aiohttp.ClientSession) -> None:
        """Closes its connections. The session alone would leave whoever reads a watch waiting for ever."""
        for response in list(self._responses):
            response.content.set_exception(aiohttp.ClientConnectionError("the connection was ended"))
        await session.close()

    def join(self) -> None:
        self._is_cut = False

    def doubt(self) -> None:
        """The server did not take us for who we are: look at the files before the next request."""
        self._looked = float("-inf")

    async def session(self) -> aiohttp.ClientSession:
        """The session to send a request with, together with ``config.headers()``."""
        assert self._session is not None
        if self._is_cut:
            raise aiohttp.ClientConnectionError("cut off on purpose")
        now = asyncio.get_running_loop().time()
        if self._reload is not None and now - self._looked >= _LOOK_AGAIN.total_seconds():
            self._looked = now
            await self._renew(self._reload)
        return self._session

    async def _renew(self, reload: Reload) -> None:
        try:
            found = reload()
            needs_connections = replace(found, token="") != replace(self.config, token="")
            made = self._made(found) if needs_connections else None
        except Exception as error:  # half-written files of any kind: the old credentials may still do
            _log.warning("cannot read the credentials again, keeping the old ones: %s", error)
            return
        self.config = found
        if made is not None:
            old, self._session = self._session, made
            _log.info("the credentials for %s have changed; connecting anew", found.server)
            if old is not None:
                await self._end(old)

    def _made(self, config: ClientConfig) -> aiohttp.ClientSession:
        context = config.ssl_context()
        connector = aiohttp.TCPConnector(
            ssl=context if context is not None else False,
            limit=0,  # requests are bounded by the client; watches hold a connection each for good
            keepalive_timeout=60,
            socket_factory=_keepalive_socket,
        )
        headers = {
            "Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": self._user_agent
        }  # fmt: skip
        return aiohttp.ClientSession(
            connector=connector, headers=headers, auto_decompress=False, proxy=config.proxy or None
        )


def _keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A peer that vanished without a word is noticed after about a minute, also on an idle watch."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made

"""A whole API server over loopback TLS, and a raw HTTP session to say things that no polite client says."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from nodeport.testing.apiserver import RunningApiServer, running_apiserver

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    warnings: list[str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def reason(self) -> str:
        return str(self.json["reason"])


class Raw:
    """Requests as bytes and paths."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        stream = io.BytesIO(data) if data is not None else None
        async with self.session.request(method, self.url + path, data=stream, headers=sent) as response:
            warnings = response.headers.getall("Warning", [])
            return Answer(response.status, dict(response.headers), list(warnings), await response.read())

    async def create(self, path: str, obj: Json, expect: int = 201) -> Json:
        answer = await self("POST", path, obj)
        assert answer.status == expect, answer.body
        return answer.json

    async def get(self, path: str) -> Json:
        answer = await self("GET", path)
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture
async def api() -> AsyncIterator[RunningApiServer]:
    async with running_apiserver(seed=1) as running:
        yield running


@asynccontextmanager
async def raw_session(api: RunningApiServer) -> AsyncIterator[Raw]:
    connector = aiohttp.TCPConnector(ssl=api.admin_config.ssl_context(), limit=100)
    async with aiohttp.ClientSession(connector=connector, skip_auto_headers=["Content-Type"]) as session:
        yield Raw(session, api.url)


@pytest.fixture
async def raw(api: RunningApiServer) -> AsyncIterator[Raw]:
    async with raw_session(api) as session:
        yield session


@pytest.fixture
def connect() -> Callable[[RunningApiServer], AbstractAsyncContextManager[Raw]]:
    """For tests that run a server of their own."""
    return raw_session

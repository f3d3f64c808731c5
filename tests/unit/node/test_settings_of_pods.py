"""ConfigMaps, Secrets and tokens while the API cannot be reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import NotFound
from nodeport.client.rest import RestClient, TransportError
from nodeport.node import settings
from nodeport.node.settings import PodTokens, Settings
from nodeport.node.volumes.payload import TokenKey

KEY = TokenKey("", 3600)
POD: JsonObject = {"metadata": {"name": "web", "namespace": "default", "uid": "1"}, "spec": {}}


class StillClock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


class Api:
    """ConfigMaps by name, and tokens that say how many there were; or nobody."""

    def __init__(self, clock: StillClock) -> None:
        self.clock, self.away = clock, False
        self.values: dict[str, str] = {}
        self.tokens = 0

    async def get(self, resource: Resource, name: str, namespace: str = "") -> JsonObject:
        self._answer()
        if name not in self.values:
            raise NotFound(f"configmaps {name!r} not found")
        return {"data": {"key": self.values[name]}}

    async def create_subresource(self, *_: object) -> JsonObject:
        self._answer()
        self.tokens += 1
        ends = self.clock.now() + timedelta(hours=1)
        status = {"token": f"token-{self.tokens}", "expirationTimestamp": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return {"status": status}

    def _answer(self) -> None:
        if self.away:
            raise TransportError("nobody there")


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def api(clock: StillClock) -> Api:
    return Api(clock)


async def test_what_was_read_last_holds_while_the_api_is_away(
    api: Api, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MOST_KEPT", 1)
    read = Settings(cast(RestClient, api), clock)
    api.values = {"old": "forgotten", "a": "one"}
    for name in api.values:
        await read.get("configmaps", "default", name)
    clock.time += timedelta(minutes=5)
    api.away = True
    assert await read.get("configmaps", "default", "a") == {"key": "one"}
    for unknown in ("never-read", "old"):
        with pytest.raises(TransportError):
            await read.get("configmaps", "default", unknown)
    api.away = False
    api.values = {"a": "two"}
    assert await read.get("configmaps", "default", "a") == {"key": "two"}


async def test_what_was_deleted_does_not_come_back(api: Api, clock: StillClock) -> None:
    read = Settings(cast(RestClient, api), clock)
    api.values = {"a": "one"}
    await read.get("configmaps", "default", "a")
    clock.time += timedelta(minutes=5)
    api.values = {}
    assert await read.get("configmaps", "default", "a") is None
    api.away = True
    with pytest.raises(TransportError):
        await read.get("configmaps", "default", "a")


async def test_a_token_is_used_to_its_end_when_there_is_no_new_one(api: Api, clock: StillClock) -> None:
    tokens = PodTokens(cast(RestClient, api), clock)
    assert await tokens.get(POD, KEY) == "token-1"
    api.away = True
    clock.time += timedelta(minutes=59)
    assert await tokens.get(POD, KEY) == "token-1"
    clock.time += timedelta(minutes=1)
    with pytest.raises(TransportError):
        await tokens.get(POD, KEY)
    api.away = False
    assert await tokens.get(POD, KEY) == "token-2"

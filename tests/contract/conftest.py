"""Every store, for the suites that ask the same of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contract.stores import Opener
from nodeport.store.base import Store
from nodeport.store.memory import MemoryStore
from nodeport.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens a fresh store; keyword arguments are ``history`` and ``watch_buffer``."""

    @asynccontextmanager
    async def opened(**options: int) -> AsyncIterator[Store]:
        store: Store
        if request.param == "memory":
            store = MemoryStore(**options)
        else:
            store = await SqliteStore.open(tmp_path / "store.db", synchronous="OFF", **options)
        try:
            yield store
        finally:
            await store.close()

    return opened


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    async with opener() as opened:
        yield opened

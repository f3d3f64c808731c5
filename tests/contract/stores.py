"""What the suites about stores share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from nodeport.store.base import Delete, Event, Put, Revision, Store

Opener = Callable[..., AbstractAsyncContextManager[Store]]
PATIENCE = 30.0


async def put(store: Store, key: str, value: str, expect: int | None = None) -> Revision:
    return await store.commit([Put(key, value.encode(), expect)])


async def delete(store: Store, key: str, expect: int | None = None) -> Revision:
    return await store.commit([Delete(key, expect)])


async def values(store: Store, prefix: str, revision: int | None = None) -> dict[str, bytes]:
    listing = await store.list(prefix, revision=None if revision is None else Revision(revision))
    return {item.key: item.value for item in listing.items}


async def next_batch(watch: AsyncIterator[Sequence[Event]]) -> Sequence[Event]:
    async with asyncio.timeout(PATIENCE):
        return await anext(watch)


async def events(watch: AsyncIterator[Sequence[Event]], count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        found.extend(await next_batch(watch))
    assert len(found) == count
    return found

"""The store alone: commits, reads, watch fan-out and reopening, with and without fsync. Values of 1 kB."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from nodeport.store.base import Put, Revision, Store
from nodeport.store.memory import MemoryStore
from nodeport.store.sqlite import SqliteStore

VALUE = b"x" * 1000
WRITERS = 64
COMMITS = 12_800
LONE_COMMITS = 1_000
WATCHERS = 100
LISTED = 10_000


async def timed(work: Awaitable[object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def write(store: Store, writer: str, count: int) -> None:
    for number in range(count):
        await store.commit([Put(f"/registry/services/default/{writer}-{number}", VALUE, 0)])


async def receive(store: Store, after: Revision, count: int) -> None:
    async with store.watch("/", after) as watch:
        async for batch in watch:
            count -= len(batch)
            if count <= 0:
                return


async def measure(name: str, store: Store) -> None:
    many = await timed(
        asyncio.gather(*(write(store, str(writer), COMMITS // WRITERS) for writer in range(WRITERS)))
    )
    alone = await timed(write(store, "alone", LONE_COMMITS))
    listing = await timed(store.list("/registry/services/", limit=LISTED))
    began = time.perf_counter()
    for _ in range(10_000):
        await store.get("/registry/services/default/3-3")
    get = (time.perf_counter() - began) / 10_000
    watching = asyncio.gather(*(receive(store, store.revision, 2_000) for _ in range(WATCHERS)))
    fan_out = await timed(
        asyncio.gather(watching, *(write(store, f"seen{writer}", 125) for writer in range(16)))
    )
    print(
        f"{name:<16} {COMMITS / many:>12,.0f} {LONE_COMMITS / alone:>12,.0f} {get * 1e6:>12.2f} "
        f"{listing * 1e3:>14.1f} {WATCHERS * 2_000 / fan_out:>16,.0f}"
    )


async def main() -> None:
    headings = ("64 writers/s", "1 writer/s", "get us", "list 10k ms", "events/s to 100")
    print(f"{'':<16} " + " ".join(f"{title:>12}" for title in headings))
    await measure("memory", MemoryStore())
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        for synchronous in ("OFF", "FULL"):
            path = Path(folder) / f"{synchronous}.db"
            async with await SqliteStore.open(path, synchronous=synchronous) as store:
                await measure(f"sqlite {synchronous}", store)
        began = time.perf_counter()
        async with await SqliteStore.open(path) as store:
            print(
                f"reopened with {len((await store.list('/')).items):,} keys in {time.perf_counter() - began:.3f} s"
            )


if __name__ == "__main__":
    asyncio.run(main())

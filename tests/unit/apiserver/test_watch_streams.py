"""A stream writes what the store announces at once, waits for a full connection, and never loses or repeats a line."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from nodeport.api.resources import CONFIG_MAPS
from nodeport.api.selectors import parse_field_selector, parse_label_selector
from nodeport.apiserver import watch as watch_module
from nodeport.apiserver.encoding import Splicer, decode, encode_stored, key_of
from nodeport.apiserver.listing import Lister
from nodeport.apiserver.options import ListOptions
from nodeport.apiserver.watch import CHUNK_BYTES, Data, WatchSource
from nodeport.apiserver.watchviews import WatchRequest
from nodeport.kit.clock import SystemClock
from nodeport.store.base import Put, Store
from nodeport.store.memory import MemoryStore

PATIENCE = 30
SPLICER = Splicer(CONFIG_MAPS)


class Reader:
    """A connection that can be told to stop taking bytes, and to be gone."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.parts: list[bytes] = []
        self.writes = 0
        self.full = False
        self.gone = False
        self._emptied = asyncio.Event()

    def write(self, data: Data) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.writes += 1
        self.parts.append(bytes(data))
        self.lines += bytes(data).splitlines()

    async def drain(self, kept: int = 0) -> None:
        if self.full:
            await self._emptied.wait()
            self._emptied.clear()

    def empty(self) -> None:
        self.full = False
        self._emptied.set()

    def seen(self) -> list[tuple[str, str]]:
        events = [decode(line) for line in self.lines]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


def request(labels: str = "", *, bookmarks: bool = False, revision: int | None = None) -> WatchRequest:
    options = ListOptions(
        parse_label_selector(labels),
        parse_field_selector(""),
        revision,
        watch=True,
        allow_bookmarks=bookmarks,
    )
    return WatchRequest(CONFIG_MAPS, "n", "", options)


async def put(store: Store, name: str, **labels: str) -> None:
    obj = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "n", "labels": labels},
    }
    await store.commit([Put(key_of(CONFIG_MAPS, "n", name), encode_stored(obj))])


@asynccontextmanager
async def streaming(
    store: Store, *readers: Reader, watch: Callable[[], WatchRequest] = request
) -> AsyncIterator[WatchSource]:
    clock = SystemClock()
    source = WatchSource(store, Lister(store, clock), clock, random.Random(1))
    tasks = [asyncio.create_task(source.send(watch(), SPLICER, reader)) for reader in readers]
    await asyncio.sleep(0)
    try:
        yield source
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.001)


async def test_a_change_is_written_before_its_commit_is_answered() -> None:
    store, reader = MemoryStore(), Reader()
    async with streaming(store, reader):
        await put(store, "a")
        assert reader.seen() == [("ADDED", "a")]


async def test_what_a_full_connection_does_not_take_follows_whole_and_in_order_when_it_empties() -> None:
    store, slow, brisk = MemoryStore(), Reader(), Reader()
    async with streaming(store, slow, brisk):
        slow.full = True
        for number in range(50):
            await put(store, f"c{number}")
        assert slow.lines == []
        assert len(brisk.lines) == 50
        slow.empty()
        await until(lambda: len(slow.lines) == 50)
        assert slow.lines == brisk.lines
        assert slow.writes == 1
        await put(store, "last")
        assert slow.seen()[-1] == ("ADDED", "last")


async def test_a_connection_that_fills_up_again_and_again_loses_nothing() -> None:
    store, reader = MemoryStore(), Reader()
    async with streaming(store, reader):
        for number in range(40):
            reader.full = number % 3 != 0
            if not reader.full:
                reader.empty()
            await put(store, f"c{number}")
            if number % 5 == 0:
                await asyncio.sleep(0)
        reader.empty()
        await until(lambda: len(reader.lines) == 40)
        assert [name for _, name in reader.seen()] == [f"c{number}" for number in range(40)]


async def test_streams_that_look_alike_share_one_encoding_and_forget_it_when_they_end() -> None:
    store = MemoryStore()
    readers = [Reader() for _ in range(5)]
    async with streaming(store, *readers) as source:
        await put(store, "a")
        assert len(source.views) == 1
        first = [reader.lines[0] for reader in readers]
        assert len(set(first)) == 1
    await until(lambda: len(source.views) == 0)


async def test_a_stream_whose_watcher_is_gone_ends_and_harms_neither_the_writer_nor_others() -> None:
    store, gone, there = MemoryStore(), Reader(), Reader()
    clock = SystemClock()
    source = WatchSource(store, Lister(store, clock), clock, random.Random(1))
    ending = asyncio.create_task(source.send(request(), SPLICER, gone))
    async with streaming(store, there):
        gone.gone = True
        await put(store, "a")
        await put(store, "b")
        assert there.seen() == [("ADDED", "a"), ("ADDED", "b")]
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(ending, PATIENCE)


async def test_a_stream_that_falls_too_far_behind_is_ended() -> None:
    store, reader = MemoryStore(watch_buffer=10), Reader()
    clock = SystemClock()
    source = WatchSource(store, Lister(store, clock), clock, random.Random(1))
    ending = asyncio.create_task(source.send(request(), SPLICER, reader))
    await asyncio.sleep(0)
    reader.full = True
    for number in range(30):
        await put(store, f"c{number}")
    reader.empty()
    await asyncio.wait_for(ending, PATIENCE)
    assert reader.lines == []


async def test_bookmarks_never_run_ahead_of_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "BOOKMARK_INTERVAL", watch_module.timedelta(milliseconds=5))
    store, reader = MemoryStore(), Reader()
    async with streaming(store, reader, watch=lambda: request("color=red", bookmarks=True)):
        reader.full = True
        await put(store, "a", color="red")
        await put(store, "b", color="blue")
        await asyncio.sleep(0.03)
        assert reader.lines == []
        reader.empty()
        await until(lambda: len(reader.lines) == 2)
    added, bookmark = [decode(line) for line in reader.lines]
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"]["metadata"] == {"resourceVersion": "2"}


async def test_a_stream_ends_when_the_store_closes() -> None:
    store, reader = MemoryStore(), Reader()
    clock = SystemClock()
    source = WatchSource(store, Lister(store, clock), clock, random.Random(1))
    ending = asyncio.create_task(source.send(request(), SPLICER, reader))
    await asyncio.sleep(0)
    await put(store, "a")
    await store.close()
    await asyncio.wait_for(ending, PATIENCE)
    assert reader.seen() == [("ADDED", "a")]


async def test_initial_events_are_made_as_they_are_read() -> None:
    """However many watch: what nobody reads is not there yet."""
    store, readers = MemoryStore(), [Reader() for _ in range(5)]
    for number in range(100):
        await put(store, f"c{number}", big="x" * 10_000)
    for reader in readers:
        reader.full = True
    async with streaming(store, *readers):
        await until(lambda: all(reader.lines for reader in readers))
        assert all(sum(map(len, reader.lines)) < 2 * CHUNK_BYTES for reader in readers)
        readers[0].empty()
        await until(lambda: len(readers[0].lines) == 100)
        assert len(readers[1].lines) < 10


async def test_a_great_chunk_is_written_by_and_by_and_in_whole_lines() -> None:
    store, reader = MemoryStore(), Reader()
    async with streaming(store, reader):
        reader.full = True
        for number in range(30):
            await put(store, f"c{number}", big="x" * 10_000)
        reader.empty()
        await until(lambda: b"".join(reader.parts).count(b"\n") == 30)
        assert max(map(len, reader.parts)) <= CHUNK_BYTES
        assert [
            decode(line)["object"]["metadata"]["name"] for line in b"".join(reader.parts).splitlines()
        ] == [f"c{number}" for number in range(30)]

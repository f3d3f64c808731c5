"""What ``store/base.py`` promises about watches, asked of every store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from contract.stores import Opener, delete, events, next_batch, put
from nodeport.store.base import (
    Closed,
    Compacted,
    FutureRevision,
    Put,
    Revision,
    SlowWatcher,
    Store,
)


async def test_a_watch_gives_every_later_change_in_order(store: Store) -> None:
    await put(store, "/a", "before")
    async with store.watch("/", store.revision) as watch:
        await put(store, "/a", "1")
        await put(store, "/b", "1")
        await delete(store, "/a")
        found = await events(watch, 3)
    assert [(event.revision, event.key, event.current and event.current.value) for event in found] == [
        (2, "/a", b"1"),
        (3, "/b", b"1"),
        (4, "/a", None),
    ]
    assert [event.previous and event.previous.value for event in found] == [b"before", None, b"1"]


async def test_a_watch_tells_only_of_its_prefix(store: Store) -> None:
    async with store.watch("/a/", Revision(0)) as watch:
        await store.commit([Put("/a/1", b""), Put("/b/1", b""), Put("/a/2", b"")])
        await put(store, "/ab", "")
        await put(store, "/a/3", "")
        assert [event.key for event in await events(watch, 3)] == ["/a/1", "/a/2", "/a/3"]


async def test_a_commit_is_never_split_over_two_batches(store: Store) -> None:
    async with store.watch("/", Revision(0)) as watch:
        await asyncio.gather(
            *(store.commit([Put(f"/{number}/{part}", b"") for part in range(5)]) for number in range(20))
        )
        seen: set[int] = set()
        count = 0
        while count < 100:
            batch = await next_batch(watch)
            revisions = {event.revision for event in batch}
            assert not revisions & seen
            seen |= revisions
            count += len(batch)
    assert len(seen) == 20


async def test_a_watch_resumes_where_an_earlier_one_stopped(store: Store) -> None:
    for number in range(6):
        await put(store, f"/k{number}", "")
    async with store.watch("/", Revision(0)) as watch:
        seen = await events(watch, 6)
    await put(store, "/k6", "")
    async with store.watch("/", seen[3].revision) as watch:
        await put(store, "/k7", "")
        assert [event.key for event in await events(watch, 4)] == ["/k4", "/k5", "/k6", "/k7"]


async def test_a_watch_waits_for_what_is_to_come(store: Store) -> None:
    async with store.watch("/", Revision(0)) as watch:
        waiting = asyncio.ensure_future(next_batch(watch))
        await asyncio.sleep(0)
        assert not waiting.done()
        await put(store, "/a", "1")
        assert [event.key for event in await waiting] == ["/a"]


async def test_a_cancelled_wait_loses_no_event(store: Store) -> None:
    async with store.watch("/", Revision(0)) as watch:
        waiting = asyncio.ensure_future(next_batch(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await put(store, "/a", "1")
        assert [event.key for event in await next_batch(watch)] == ["/a"]


async def test_a_watch_sees_a_change_no_earlier_than_a_reader(store: Store) -> None:
    async with store.watch("/", Revision(0)) as watch:
        writing = asyncio.gather(*(put(store, f"/{number}", "") for number in range(20)))
        count = 0
        while count < 20:
            for event in await next_batch(watch):
                assert store.revision >= event.revision
                assert await store.get(event.key) == event.current
                count += 1
        await writing


async def test_a_watch_from_a_compacted_revision_is_refused(store: Store) -> None:
    for number in range(5):
        await put(store, "/a", str(number))
    await store.compact(Revision(3))
    with pytest.raises(Compacted):
        async with store.watch("/", Revision(2)):
            pass
    async with store.watch("/", Revision(3)) as watch:
        assert [event.revision for event in await events(watch, 2)] == [4, 5]


async def test_a_watch_from_the_future_is_refused(store: Store) -> None:
    with pytest.raises(FutureRevision):
        async with store.watch("/", Revision(1)):
            pass


async def test_a_running_watch_survives_a_compaction(store: Store) -> None:
    async with store.watch("/", Revision(0)) as watch:
        for number in range(5):
            await put(store, "/a", str(number))
        await store.compact(Revision(5))
        assert [event.revision for event in await events(watch, 5)] == [1, 2, 3, 4, 5]


async def test_a_slow_watcher_is_dropped_and_others_are_not(opener: Opener) -> None:
    async with (
        opener(watch_buffer=10) as store,
        store.watch("/", Revision(0)) as slow,
        store.watch("/", Revision(0)) as quick,
    ):
        for number in range(30):
            await put(store, "/a", str(number))
            assert [event.revision for event in await next_batch(quick)] == [number + 1]
        with pytest.raises(SlowWatcher):
            await next_batch(slow)
        with pytest.raises(SlowWatcher):
            await next_batch(slow)


async def test_an_idle_watcher_of_another_prefix_is_never_slow(opener: Opener) -> None:
    async with opener(watch_buffer=5, history=10) as store, store.watch("/quiet/", Revision(0)) as watch:
        for number in range(50):
            await put(store, "/busy/a", str(number))
        await put(store, "/quiet/a", "1")
        assert [event.key for event in await events(watch, 1)] == ["/quiet/a"]


async def test_a_hundred_watchers_all_see_everything(store: Store) -> None:
    async def seen() -> list[str]:
        async with store.watch("/", Revision(0)) as watch:
            return [event.key for event in await events(watch, 50)]

    watching = asyncio.gather(*(seen() for _ in range(100)))
    await asyncio.gather(*(put(store, f"/{number:02}", "") for number in range(50)))
    results = await watching
    assert all(result == results[0] for result in results)
    assert sorted(results[0]) == [f"/{number:02}" for number in range(50)]


# Watching without a task


async def test_a_watch_can_be_taken_from_as_its_changes_are_announced(store: Store) -> None:
    await put(store, "/a", "before")
    taken: list[list[str]] = []
    async with store.watch("/", Revision(0)) as watch:
        assert [event.key for event in watch.take()] == ["/a"]
        assert watch.take() == ()
        watch.notify(lambda: taken.append([event.key for event in watch.take()]))
        await put(store, "/b", "1")
        await put(store, "/c", "1")
    await put(store, "/d", "1")
    assert taken == [["/b"], ["/c"]]


async def test_what_is_not_taken_waits_and_is_taken_whole_and_in_order(opener: Opener) -> None:
    announced = 0

    def count() -> None:
        nonlocal announced
        announced += 1

    async with opener(watch_buffer=10_000) as store, store.watch("/", Revision(0)) as watch:
        watch.notify(count)
        for number in range(2_500):
            await put(store, "/a", str(number))
        assert announced == 2_500
        seen: list[int] = []
        while batch := watch.take():
            assert len(batch) <= 1_000
            seen += [event.revision for event in batch]
    assert seen == list(range(1, 2_501))


async def test_history_that_is_owed_does_not_count_as_falling_behind(opener: Opener) -> None:
    async with opener(watch_buffer=5) as store:
        for number in range(20):
            await put(store, "/a", str(number))
        async with store.watch("/", Revision(0)) as watch:
            for number in range(5):
                await put(store, "/b", str(number))
            assert [event.revision for event in await events(watch, 25)] == list(range(1, 26))


async def test_taking_from_a_slow_watch_and_from_a_closed_store_is_refused(opener: Opener) -> None:
    async with opener(watch_buffer=5) as store, store.watch("/", Revision(0)) as watch:
        for number in range(10):
            await put(store, "/a", str(number))
        with pytest.raises(SlowWatcher):
            watch.take()
        async with store.watch("/", store.revision) as late:
            await store.close()
            with pytest.raises(Closed):
                late.take()


async def test_prefixes_short_and_long_each_see_their_own_changes_of_one_commit(store: Store) -> None:
    prefixes = ["", "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/b/c/", "/a/b/c/d", "/a/x/", "/ab/"]
    keys = ["/a/b/c/d", "/a/b/c/e", "/a/b/z", "/a/bb/c", "/ab/c/d", "/a", "/z/z/z"]
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(store.watch(prefix, Revision(0))) for prefix in prefixes]
        await store.commit([Put(key, b"") for key in keys])
        seen = {
            prefix: [event.key for event in watch.take()]
            for prefix, watch in zip(prefixes, watches, strict=True)
        }
    assert seen == {prefix: [key for key in keys if key.startswith(prefix)] for prefix in prefixes}


async def test_a_prefix_that_lost_its_last_watcher_can_be_watched_again(store: Store) -> None:
    for number in range(3):
        async with (
            store.watch("/a/b/", store.revision) as watch,
            store.watch("/a/b/", store.revision) as other,
        ):
            await put(store, "/a/b/c", str(number))
            assert len(watch.take()) == len(other.take()) == 1
    await put(store, "/a/b/c", "unseen")

"""What ``store/base.py`` promises about keys and revisions, asked of every store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from contract.stores import PATIENCE, Opener, delete, events, next_batch, put, values
from nodeport.store.base import (
    Closed,
    Compacted,
    Delete,
    Expect,
    FutureRevision,
    PreconditionFailed,
    Put,
    Revision,
    Store,
    Undecided,
)

# Revisions


async def test_a_new_store_is_empty_at_revision_zero(store: Store) -> None:
    assert (store.revision, store.compacted_revision) == (0, 0)
    assert (await store.list("")).items == []


async def test_each_commit_gets_the_next_revision(store: Store) -> None:
    assert [await put(store, "/a", "1"), await put(store, "/b", "1"), await delete(store, "/a")] == [1, 2, 3]
    assert store.revision == 3


async def test_concurrent_commits_get_distinct_revisions_without_holes(store: Store) -> None:
    revisions = await asyncio.gather(*(put(store, f"/k{number}", "x") for number in range(200)))
    assert sorted(revisions) == list(range(1, 201))


async def test_a_key_keeps_its_create_revision_until_it_is_deleted(store: Store) -> None:
    await put(store, "/a", "1")
    await put(store, "/a", "2")
    item = await store.get("/a")
    assert item is not None
    assert (item.create_revision, item.mod_revision) == (1, 2)
    await delete(store, "/a")
    await put(store, "/a", "3")
    item = await store.get("/a")
    assert item is not None
    assert (item.create_revision, item.mod_revision) == (4, 4)


async def test_what_was_acknowledged_can_be_read_at_once(store: Store) -> None:
    await put(store, "/a", "1")
    item = await store.get("/a")
    assert item is not None
    assert item.value == b"1"
    await delete(store, "/a")
    assert await store.get("/a") is None


async def test_several_operations_share_one_revision(store: Store) -> None:
    await put(store, "/old", "1")
    revision = await store.commit([Put("/a", b"1", 0), Put("/b", b"2", 0), Delete("/old", 1)])
    assert revision == 2
    assert await values(store, "/") == {"/a": b"1", "/b": b"2"}
    assert [item.mod_revision for item in (await store.list("/")).items] == [2, 2]


async def test_removing_what_is_not_there_without_a_condition_takes_a_revision_and_changes_nothing(
    store: Store,
) -> None:
    assert await delete(store, "/none") == 1
    assert store.revision == 1
    assert await put(store, "/a", "1") == 2


@pytest.mark.parametrize("operations", [[], [Put("/a", b""), Delete("/a")]])
async def test_an_ill_formed_commit_is_a_mistake_of_the_caller(
    store: Store, operations: Sequence[Put | Delete]
) -> None:
    with pytest.raises(ValueError, match="commit"):
        await store.commit(operations)
    assert store.revision == 0


# Preconditions


async def test_creating_an_existing_key_fails_and_shows_it(store: Store) -> None:
    await put(store, "/a", "1", expect=0)
    with pytest.raises(PreconditionFailed) as refused:
        await put(store, "/a", "2", expect=0)
    assert refused.value.current is not None
    assert (refused.value.key, refused.value.expected, refused.value.current.value) == ("/a", 0, b"1")


async def test_writing_on_top_of_a_stale_revision_fails(store: Store) -> None:
    await put(store, "/a", "1")
    await put(store, "/a", "2", expect=1)
    with pytest.raises(PreconditionFailed):
        await put(store, "/a", "3", expect=1)
    with pytest.raises(PreconditionFailed):
        await delete(store, "/a", expect=1)
    assert await values(store, "/") == {"/a": b"2"}


@pytest.mark.parametrize("expect", [0, 7])
async def test_removing_what_is_not_there_with_a_condition_fails(store: Store, expect: int) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        await delete(store, "/none", expect=expect)
    assert refused.value.current is None


async def test_one_failed_precondition_undoes_the_whole_commit(store: Store) -> None:
    await put(store, "/taken", "1")
    with pytest.raises(PreconditionFailed):
        await store.commit([Put("/a", b"1", 0), Put("/taken", b"2", 0), Delete("/taken2")])
    assert store.revision == 1
    assert await values(store, "/") == {"/taken": b"1"}
    assert await put(store, "/a", "1", expect=0) == 2


async def test_a_commit_may_depend_on_a_key_that_it_does_not_write(store: Store) -> None:
    first = await put(store, "namespace", "open")
    second = await store.commit([Put("a", b"1", 0), Expect("namespace", first)])
    assert (await store.get("namespace")).mod_revision == first  # type: ignore[union-attr]
    async with store.watch("", first) as watch:
        [event] = await events(watch, 1)
        assert (event.key, event.revision) == ("a", second)
    closed = await put(store, "namespace", "closed")
    with pytest.raises(PreconditionFailed) as failed:
        await store.commit([Put("b", b"1", 0), Expect("namespace", first)])
    assert (failed.value.key, failed.value.expected) == ("namespace", first)
    assert await store.get("b") is None
    assert await store.commit([Expect("none", 0), Expect("namespace", closed)]) == closed + 1


async def test_of_writers_that_depend_on_a_key_none_comes_after_its_change(store: Store) -> None:
    first = await put(store, "namespace", "open")
    made = [store.commit([Put(f"n{n}", b"1", 0), Expect("namespace", first)]) for n in range(50)]
    late = [store.commit([Put(f"m{n}", b"1", 0), Expect("namespace", first)]) for n in range(50)]
    found = await asyncio.gather(
        *made, put(store, "namespace", "closed", first), *late, return_exceptions=True
    )
    closed = found[50]
    assert isinstance(closed, int)
    assert all(isinstance(each, int) and each < closed for each in found[:50])
    assert all(isinstance(each, PreconditionFailed) for each in found[51:])


async def test_of_a_thousand_concurrent_creates_one_wins(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(put(store, "/port/30007", str(number), expect=0) for number in range(1000)), return_exceptions=True
    )
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, int)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, PreconditionFailed)]
    assert (len(winners), len(losers)) == (1, 999)
    item = await store.get("/port/30007")
    assert item is not None
    assert item.value == str(winners[0]).encode()
    assert all(loser.current == item for loser in losers)


async def test_a_reader_after_a_refusal_sees_what_refused_it(store: Store) -> None:
    """So that compare-and-swap loops get on: a stale read after a refusal would spin."""
    await put(store, "/counter", "0")

    async def increment() -> None:
        while True:
            item = await store.get("/counter")
            assert item is not None
            try:
                await put(store, "/counter", str(int(item.value) + 1), expect=item.mod_revision)
                return
            except PreconditionFailed:
                continue

    await asyncio.gather(*(increment() for _ in range(30)))
    assert await values(store, "/") == {"/counter": b"30"}


# Reading


async def test_a_listing_is_in_key_order_and_below_its_prefix(store: Store) -> None:
    for key in ("/b/2", "/a/1", "/b/10", "/b", "/c", "/b/1"):
        await put(store, key, "")
    assert [item.key for item in (await store.list("/b/")).items] == ["/b/1", "/b/10", "/b/2"]
    assert [item.key for item in (await store.list("")).items] == [
        "/a/1",
        "/b",
        "/b/1",
        "/b/10",
        "/b/2",
        "/c",
    ]


async def test_a_listing_forgets_deleted_keys_and_keeps_order_through_many_changes(store: Store) -> None:
    await asyncio.gather(*(put(store, f"/k/{number:03}", "") for number in reversed(range(100))))
    await asyncio.gather(*(delete(store, f"/k/{number:03}") for number in range(0, 100, 3)))
    await asyncio.gather(*(put(store, f"/k/{number:03}", "") for number in range(0, 100, 9)))
    expected = [f"/k/{number:03}" for number in range(100) if number % 3 or number % 9 == 0]
    assert [item.key for item in (await store.list("/k/")).items] == expected


async def test_a_limited_listing_says_how_many_remain(store: Store) -> None:
    for number in range(5):
        await put(store, f"/k/{number}", "")
    page = await store.list("/k/", limit=2)
    assert ([item.key for item in page.items], page.remaining, page.revision) == (["/k/0", "/k/1"], 3, 5)
    rest = await store.list("/k/", start_after="/k/1", limit=9)
    assert ([item.key for item in rest.items], rest.remaining) == (["/k/2", "/k/3", "/k/4"], 0)


async def test_pages_at_one_old_revision_add_up_to_the_listing_of_that_time(store: Store) -> None:
    for number in range(9):
        await put(store, f"/k/{number}", "old")
    await put(store, "/other", "old")
    page = await store.list("/k/", limit=4)
    found = list(page.items)
    await delete(store, "/k/4")
    await put(store, "/k/5", "new")
    await put(store, "/k/55", "new")
    await delete(store, "/k/8")
    await put(store, "/k/8", "new")
    while page.remaining:
        page = await store.list("/k/", start_after=found[-1].key, limit=2, revision=page.revision)
        found.extend(page.items)
    assert [(item.key, item.value) for item in found] == [(f"/k/{number}", b"old") for number in range(9)]
    assert page.revision == 10


async def test_old_values_can_be_read_at_their_revision(store: Store) -> None:
    await put(store, "/a", "1")
    await put(store, "/a", "2")
    await delete(store, "/a")
    await put(store, "/b", "1")
    shown = [await store.get("/a", revision=Revision(revision)) for revision in range(5)]
    assert [item and item.value for item in shown] == [None, b"1", b"2", None, None]
    assert [await values(store, "/", revision) for revision in (0, 1, 3, 4)] == [
        {},
        {"/a": b"1"},
        {},
        {"/b": b"1"},
    ]


async def test_the_future_cannot_be_read(store: Store) -> None:
    await put(store, "/a", "1")
    with pytest.raises(FutureRevision):
        await store.get("/a", revision=Revision(2))
    with pytest.raises(FutureRevision):
        await store.list("/", revision=Revision(2))


# Compaction


async def test_compaction_forgets_history_and_keeps_values(store: Store) -> None:
    for number in range(5):
        await put(store, "/a", str(number))
    await store.compact(Revision(3))
    await store.compact(Revision(3))
    await store.compact(Revision(2))
    assert store.compacted_revision == 3
    with pytest.raises(Compacted):
        await store.get("/a", revision=Revision(2))
    with pytest.raises(Compacted):
        await store.list("/", revision=Revision(2))
    assert await values(store, "/", 3) == {"/a": b"2"}
    assert await values(store, "/", 4) == {"/a": b"3"}
    assert await values(store, "/") == {"/a": b"4"}


async def test_the_future_cannot_be_compacted(store: Store) -> None:
    with pytest.raises(FutureRevision):
        await store.compact(Revision(1))


async def test_history_is_compacted_by_itself_and_reaches_back_as_far_as_promised(opener: Opener) -> None:
    async with opener(history=40) as store:
        for number in range(200):
            await put(store, "/a", str(number))
        async with asyncio.timeout(PATIENCE):
            while store.revision - store.compacted_revision > 50:
                await asyncio.sleep(0.001)
        assert store.revision - store.compacted_revision >= 40
        assert await values(store, "/", store.revision - 40) == {"/a": b"159"}


async def test_a_submitted_commit_is_in_its_place_at_once_and_survives_who_gave_it_up(store: Store) -> None:
    first = store.submit([Put("/a", b"1", 0)])
    second = store.submit([Put("/b", b"1", 0)])
    first.cancel()
    assert await second == 2
    assert await values(store, "/") == {"/a": b"1", "/b": b"1"}


async def test_a_submitted_commit_is_refused_at_once_or_undecided(store: Store) -> None:
    await put(store, "/a", "1")
    with pytest.raises(PreconditionFailed):
        store.submit([Put("/a", b"2", 0)])
    writing = store.submit([Put("/b", b"1", 0)])
    with pytest.raises((Undecided, PreconditionFailed)):
        store.submit([Put("/b", b"2", 0)])
    await writing
    with pytest.raises(PreconditionFailed):
        store.submit([Put("/b", b"2", 0)])


# Closing


async def test_closing_ends_the_watches_after_their_last_event(store: Store) -> None:
    async with store.watch("/", Revision(0)) as watch:
        await put(store, "/a", "1")
        await store.close()
        assert [event.key for event in await next_batch(watch)] == ["/a"]
        with pytest.raises(StopAsyncIteration):
            await next_batch(watch)


async def test_closing_keeps_what_was_submitted_before(store: Store) -> None:
    writing = [asyncio.ensure_future(put(store, f"/{number}", "")) for number in range(10)]
    await asyncio.sleep(0)
    await store.close()
    assert sorted(await asyncio.gather(*writing)) == list(range(1, 11))


async def test_a_closed_store_answers_closed_and_may_be_closed_again(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(Closed):
        await store.get("/a")
    with pytest.raises(Closed):
        await store.list("/")
    with pytest.raises(Closed):
        await put(store, "/a", "1")
    with pytest.raises(Closed):
        async with store.watch("/", Revision(0)):
            pass


async def test_a_caller_that_gives_up_harms_nobody(store: Store) -> None:
    given_up = asyncio.ensure_future(put(store, "/a", "1"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await put(store, "/b", "1")
    assert await values(store, "/") in ({"/b": b"1"}, {"/a": b"1", "/b": b"1"})

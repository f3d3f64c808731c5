"""What only a durable store has to stand: killed processes, full disks, restarts, second openers."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeport.store.base import Compacted, Delete, PreconditionFailed, Put, Revision, Unavailable
from nodeport.store.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from nodeport.store.base import Put
from nodeport.store.sqlite import SqliteStore

async def write(store, worker):
    number = 0
    while True:
        key = f"/{worker}/{number}"
        revision = await store.commit([Put(key, key.encode() * 20, 0), Put(f"/guard{key}", b"held", 0)])
        sys.stdout.write(f"{revision} {key}\\n")
        sys.stdout.flush()
        number += 1

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    await asyncio.gather(*(write(store, worker) for worker in range(8)))

asyncio.run(main())
"""

OPENER = """
import asyncio, sys
from pathlib import Path
from nodeport.store.base import Unavailable
from nodeport.store.sqlite import SqliteStore

async def main():
    try:
        await SqliteStore.open(Path(sys.argv[1]))
    except Unavailable as error:
        print(error)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.mark.parametrize("acknowledged_before_the_kill", [1, 40, 400])
async def test_every_acknowledged_commit_survives_a_kill_in_the_middle_of_writing(
    path: Path, acknowledged_before_the_kill: int
) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledged_before_the_kill)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    acknowledged = [line.decode().split() for line in lines if line.endswith(b"\n")]
    async with await SqliteStore.open(path) as store:
        for revision, key in acknowledged:
            item = await store.get(key)
            assert item is not None
            assert (item.value, item.mod_revision) == (key.encode() * 20, int(revision))
        everything = (await store.list("/")).items
        guards = {item.key: item.mod_revision for item in everything if item.key.startswith("/guard")}
        owners = {
            f"/guard{item.key}": item.mod_revision for item in everything if f"/guard{item.key}" in guards
        }
        assert owners == guards, "the operations of one commit live and die together"
        assert store.revision >= max(int(revision) for revision, _ in acknowledged)
        assert await store.commit([Put("/next", b"")]) == store.revision


async def test_revisions_values_and_preconditions_survive_a_restart(path: Path) -> None:
    async with await SqliteStore.open(path) as store:
        await store.commit([Put("/a", b"1", 0)])
        await store.commit([Put("/a", b"2", 1), Put("/b", b"1", 0)])
        await store.commit([Delete("/b", 2)])
    async with await SqliteStore.open(path) as store:
        assert store.revision == 3
        (item,) = (await store.list("/")).items
        assert (item.key, item.value, item.create_revision, item.mod_revision) == ("/a", b"2", 1, 2)
        with pytest.raises(PreconditionFailed):
            await store.commit([Put("/a", b"3", 1)])
        assert await store.commit([Put("/b", b"2", 0)]) == 4


async def test_no_revision_is_given_twice_even_when_nothing_of_it_is_left(path: Path) -> None:
    async with await SqliteStore.open(path) as store:
        await store.commit([Put("/a", b"1")])
        await store.commit([Delete("/a")])
        await store.compact(Revision(2))
        await store.commit([Delete("/none")])
    async with await SqliteStore.open(path) as store:
        assert (store.revision, store.compacted_revision) == (3, 2)
        assert await store.commit([Put("/a", b"1")]) == 4


async def test_a_watch_resumes_across_a_restart(path: Path) -> None:
    async with await SqliteStore.open(path) as store:
        for number in range(4):
            await store.commit([Put("/a", str(number).encode())])
        await store.commit([Delete("/a"), Put("/b", b"")])
        async with store.watch("/", Revision(2)) as watch:
            before = list(await anext(watch))
    async with await SqliteStore.open(path) as store:
        async with store.watch("/", Revision(2)) as watch:
            assert list(await anext(watch)) == before
        assert len(before) == 4


@pytest.mark.parametrize("compacted", range(1, 9))
async def test_compaction_on_disk_keeps_exactly_what_memory_keeps(path: Path, compacted: int) -> None:
    async def everything(store: SqliteStore) -> list[object]:
        async with store.watch("/", Revision(compacted)) as watch:
            await store.commit([Put("/end", b"")])
            events = [event for event in await anext(watch) if event.key != "/end"]
        listings = [await store.list("/", revision=Revision(revision)) for revision in range(compacted, 9)]
        return [events, [listing.items for listing in listings], store.compacted_revision]

    async with await SqliteStore.open(path) as store:
        for key, value in [
            ("/a", "1"),
            ("/b", "1"),
            ("/a", "2"),
            ("/a", ""),
            ("/b", "2"),
            ("/a", "3"),
            ("/b", ""),
        ]:
            await store.commit([Put(key, value.encode()) if value else Delete(key)])
        await store.commit([Put("/c", b"1"), Delete("/a")])
        await store.compact(Revision(compacted))
        before = await everything(store)
    async with await SqliteStore.open(path) as store:
        assert await everything(store) == before
        with pytest.raises(Compacted):
            await store.get("/a", revision=Revision(compacted - 1))


async def test_compaction_frees_the_rows_that_nobody_can_read_any_more(path: Path) -> None:
    async with await SqliteStore.open(path, synchronous="OFF", history=100) as store:
        for round_number in range(20):
            await asyncio.gather(
                *(store.commit([Put(f"/{key}", bytes([round_number]) * 1000)]) for key in range(100))
            )
    assert path.stat().st_size < 1_000_000
    async with await SqliteStore.open(path) as store:
        assert store.revision == 2000
        assert {item.value[0] for item in (await store.list("/")).items} == {19}


async def test_the_file_is_for_its_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        async with await SqliteStore.open(path) as store:
            await store.commit([Put("/a", b"secret")])
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes.pop("store.db") == 0o600
    assert set(modes.values()) <= {0o600}


async def test_a_second_opener_is_refused_here_and_in_another_process(path: Path) -> None:
    async with await SqliteStore.open(path) as store:
        with pytest.raises(Unavailable, match="in use"):
            await SqliteStore.open(path)
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPENER, str(path), stdout=asyncio.subprocess.PIPE
        )
        answer, _ = await other.communicate()
        assert b"in use" in answer
        assert await store.commit([Put("/a", b"1")]) == 1
    async with await SqliteStore.open(path) as store:
        assert store.revision == 1


async def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"precious" * 1000)
    with pytest.raises(Unavailable):
        await SqliteStore.open(path)
    assert path.read_bytes() == b"precious" * 1000


async def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such"):
        await SqliteStore.open(tmp_path / "no-such" / "store.db")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount_point], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)


async def test_a_full_disk_refuses_what_it_cannot_hold_and_loses_nothing(small_disk: Path) -> None:
    """The batch that meets the full disk fails, so does what was numbered after it, and the state is the disk's."""
    path = small_disk / "store.db"
    async with await SqliteStore.open(path) as store:
        await store.commit([Put("/before", b"1", 0)])
        filler = small_disk / "filler"
        fill(filler)
        outcomes = await asyncio.gather(
            *(store.commit([Put(f"/{number}", bytes(20_000), 0)]) for number in range(40)),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        kept = {f"/{number}" for number, outcome in enumerate(outcomes) if isinstance(outcome, int)}
        assert refused
        assert {error.why for error in refused} == {store.trouble} == {"database or disk is full"}
        assert all(error.__cause__ is not None for error in refused)
        assert {item.key for item in (await store.list("/")).items} == kept | {"/before"}
        assert store.revision == 1 + len(kept)
        filler.unlink()
        assert await store.commit([Put("/39", b"again", 0)]) == store.revision
        assert store.trouble == ""
        held = list((await store.list("/")).items)
        revision = store.revision
    async with await SqliteStore.open(path) as store:
        assert list((await store.list("/")).items) == held
        assert store.revision == revision


async def test_who_waits_for_a_write_that_fails_gets_its_own_chance(small_disk: Path) -> None:
    """Of two creates of one key the second must not hear "it exists" from a first that never came to be."""
    async with await SqliteStore.open(small_disk / "store.db") as store:
        filler = small_disk / "filler"
        fill(filler)
        first = asyncio.ensure_future(store.commit([Put("/a", bytes(500_000), 0)]))
        second = asyncio.ensure_future(store.commit([Put("/a", bytes(500_001), 0)]))
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        filler.unlink()
        assert await store.commit([Put("/a", b"", 0)]) == 1


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return

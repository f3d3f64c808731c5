"""A server whose disk is full says so, serves what it has, and goes on when there is room."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from nodeport.store.sqlite import SqliteStore
from nodeport.testing.apiserver import running_apiserver
from nodeport.testing.controlplane import eventually

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def test_a_full_disk_is_told_without_its_place_and_forgotten_when_there_is_room(disk: Path) -> None:
    filler = disk / "filler"
    async with (
        await SqliteStore.open(disk / "store.db") as store,
        running_apiserver(store) as server,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=server.admin_config.ssl_context())
        ) as session,
    ):

        async def ready() -> tuple[int, str]:
            async with session.get(f"{server.url}/readyz") as answer:
                return answer.status, await answer.text()

        async def create(name: str) -> tuple[int, dict[str, object]]:
            made = {"metadata": {"name": name}, "data": {"k": "x" * 200_000}}
            async with session.post(server.url + MAPS, json=made) as answer:
                return answer.status, await answer.json()

        async def is_ready() -> bool:
            return (await ready())[0] == 200

        assert (await create("before"))[0] == 201
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        status, body = await create("meanwhile")
        assert (status, body["message"]) == (
            503,
            "the server is currently unable to handle the request: the store refuses to write: database or disk is full",
        )
        assert await ready() == (
            500, "[+]ping ok\n[-]store failed: reason withheld\n[+]started ok\nreadyz check failed\n",
        )  # fmt: skip
        for path in ("/livez", "/readyz/ping", f"{MAPS}/before"):
            async with session.get(server.url + path) as answer:
                assert answer.status == 200
        async with session.get(f"{server.url}/readyz/store") as answer:
            assert answer.status == 500
        filler.unlink()
        await eventually(is_ready)
        assert (await create("after"))[0] == 201

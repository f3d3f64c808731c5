"""When credentials are read again, and what a change does to the session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio

from nodeport.client.config import ClientConfig
from nodeport.client.connection import Connection

OLD = ClientConfig(server="http://api:1", token="old")


class Files:
    """What is on disk; ``reads`` counts how often somebody looked."""

    def __init__(self) -> None:
        self.config: ClientConfig | Exception = OLD
        self.reads = 0

    def load(self) -> ClientConfig:
        self.reads += 1
        if isinstance(self.config, Exception):
            raise self.config
        return self.config


@pytest.fixture
def files() -> Files:
    return Files()


@pytest_asyncio.fixture
async def connection(files: Files) -> AsyncIterator[Connection]:
    made = Connection(OLD, "test", files.load)
    made.open()
    yield made
    await made.close()


async def test_files_are_left_alone_while_there_is_no_reason_to_look(
    connection: Connection, files: Files
) -> None:
    first = await connection.session()
    assert await connection.session() is first
    assert files.reads == 0


async def test_a_new_token_is_used_on_the_old_connections(connection: Connection, files: Files) -> None:
    first = await connection.session()
    files.config = replace(OLD, token="new")
    connection.doubt()
    assert await connection.session() is first
    assert connection.config.headers() == {"Authorization": "Bearer new"}
    await connection.session()
    assert files.reads == 1


async def test_a_new_server_or_certificate_ends_the_old_connections(
    connection: Connection, files: Files
) -> None:
    first = await connection.session()
    files.config = replace(OLD, server="http://api:2")
    connection.doubt()
    assert await connection.session() is not first
    assert first.closed
    assert connection.config.server == "http://api:2"


@pytest.mark.parametrize(
    "found",
    [OSError("gone"), ValueError("half a file"), replace(OLD, server="https://api:1", ca=b"no certificate")],
    ids=["missing", "malformed", "no certificate"],
)
async def test_credentials_that_cannot_be_read_leave_the_old_ones_in_use(
    connection: Connection, files: Files, found: ClientConfig | Exception
) -> None:
    first = await connection.session()
    files.config = found
    connection.doubt()
    assert await connection.session() is first
    assert connection.config is OLD


async def test_what_is_cut_off_fails_until_it_is_joined_and_old_connections_are_gone(
    connection: Connection,
) -> None:
    before = await connection.session()
    await connection.cut()
    await connection.cut()
    assert before.closed
    with pytest.raises(aiohttp.ClientConnectionError, match="cut off"):
        await connection.session()
    connection.join()
    assert not (await connection.session()).closed

"""pods/NAME/log over real sockets, as HTTP and as a WebSocket."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.streamed_pods import World, world

LOG = "/api/v1/namespaces/default/pods/web/log"
LINES = [f"2026-01-02T03:04:0{number}.000000001Z {stream} F line {number}" for number, stream in enumerate(
    ("stdout", "stderr", "stdout"))]  # fmt: skip


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        pod = await found.pod("web")
        directory = tmp_path / "logs" / f"default_web_{pod['metadata']['uid']}" / "main"
        directory.mkdir(parents=True)
        (directory / "0.log").write_text("\n".join(LINES) + "\n")
        yield found


async def text(there: World, query: str = "") -> tuple[int, str]:
    async with await there.request("GET", f"{LOG}?{query}") as answer:
        return answer.status, await answer.text() if answer.status == 200 else (await answer.json())[
            "message"
        ]


async def test_a_log_is_read_as_asked(there: World) -> None:
    assert await text(there) == (200, "line 0\nline 1\nline 2\n")
    assert await text(there, "tailLines=1") == (200, "line 2\n")
    assert await text(there, "limitBytes=1") == (200, "l")
    assert await text(there, "stream=Stderr") == (200, "line 1\n")
    assert await text(there, "timestamps=true&tailLines=1") == (
        200,
        "2026-01-02T03:04:02.000000001Z line 2\n",
    )
    assert await text(there, "sinceTime=2026-01-02T03:04:02Z") == (200, "line 2\n")
    assert await text(there, "previous=true") == (
        400, 'previous terminated container "main" in pod "web" not found',
    )  # fmt: skip


@pytest.mark.parametrize("protocol", ["", "binary.k8s.io", "base64.binary.k8s.io"])
async def test_a_log_comes_as_messages_too(there: World, protocol: str) -> None:
    url = f"{there.api.url}{LOG}"
    async with there.session.ws_connect(url, protocols=(protocol,) if protocol else ()) as socket:
        assert (socket.protocol or "") == protocol
        found = b""
        async for message in socket:
            found += base64.b64decode(message.data) if protocol.startswith("base64") else message.data
        assert found == b"line 0\nline 1\nline 2\n"
        assert socket.close_code == 1000


async def test_a_pod_that_never_ran_here_has_no_log(there: World) -> None:
    await there.pod("fresh")
    async with await there.request("GET", LOG.replace("web", "fresh")) as answer:
        assert (answer.status, (await answer.json())["message"]) == (
            400, 'container "main" in pod "fresh" is waiting to start: ContainerCreating',
        )  # fmt: skip

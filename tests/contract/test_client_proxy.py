"""Clients of ours behind a proxy that a kubeconfig names: every connection goes through it, and nothing past it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from nodeport.api.resources import NAMESPACES
from nodeport.client import kubeconfig
from nodeport.client.rest import RestClient, TransportError
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

CREDENTIALS = "Basic " + base64.b64encode(b"me:s3:cret").decode()


@dataclass
class Proxy:
    """Speaks CONNECT to whoever has the password; ``tunnels`` is what was asked for."""

    port: int = 0
    tunnels: list[str] = field(default_factory=list)
    refused: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = head[0].split()
            assert method == "CONNECT"
            if f"proxy-authorization: {CREDENTIALS}".lower() not in (line.lower() for line in head):
                self.refused += 1
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            self.tunnels.append(target)
            host, _, port = target.rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.closing(back):
                await asyncio.gather(pump(reader, back), pump(there, writer))


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    async with running_apiserver() as made:
        yield made


def behind(server: RunningApiServer, proxy: Proxy, folder: Path, password: str = "s3:cret") -> Path:
    path = server.write_kubeconfig(folder / "kubeconfig")
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"]["proxy-url"] = f"http://me:{password}@127.0.0.1:{proxy.port}"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_requests_and_watches_go_through_the_proxy(
    server: RunningApiServer, proxy: Proxy, tmp_path: Path
) -> None:
    async with RestClient(kubeconfig.load(behind(server, proxy, tmp_path))) as client:
        listed = await client.list(NAMESPACES)
        watch = client.watch(NAMESPACES, resource_version=listed["metadata"]["resourceVersion"])
        await client.create(NAMESPACES, {"metadata": {"name": "seen"}})
        event = await anext(watch)
        await watch.aclose()
    assert event.object["metadata"]["name"] == "seen"
    assert set(proxy.tunnels) == {server.url.removeprefix("https://")}


async def test_a_proxy_that_refuses_is_not_gone_around(
    server: RunningApiServer, proxy: Proxy, tmp_path: Path
) -> None:
    async with RestClient(kubeconfig.load(behind(server, proxy, tmp_path, "wrong"))) as client:
        with pytest.raises(TransportError, match="407"):
            await client.list(NAMESPACES)
    assert (proxy.tunnels, proxy.refused) == ([], 1)


async def test_the_commands_go_through_the_proxy_as_well(
    server: RunningApiServer, proxy: Proxy, tmp_path: Path
) -> None:
    path = behind(server, proxy, tmp_path)
    program = Path(sys.executable).with_name("nodeport")
    done = await asyncio.create_subprocess_exec(
        program, "get", "namespaces", "--kubeconfig", path, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await done.communicate()
    assert "kube-system" in printed.decode()
    assert proxy.tunnels == [server.url.removeprefix("https://")]

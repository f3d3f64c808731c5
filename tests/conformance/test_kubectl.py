"""The rows of Kubernetes' kubectl conformance that an API server must pass alone; each test bears its row's name."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubectl.conftest import VERSIONS, Kubectl, kubectl

__all__ = ["VERSIONS", "kubectl"]


async def test_kubectl_api_versions_should_check_if_v1_is_in_available_api_versions(kubectl: Any) -> None:
    assert "v1" in (await kubectl("api-versions")).lines


async def test_kubectl_version_should_check_is_all_data_is_printed(kubectl: Any) -> None:
    found = (await kubectl("version")).out
    assert re.search(r"Client Version: v\d+\.\d+", found) or "Client Version: version.Info{" in found
    assert re.search(r"Server Version: (v|version\.Info\{.*GitVersion:\"v)\d+\.\d+", found)


async def test_kubectl_cluster_info_should_check_if_kubernetes_control_plane_services_is_included(
    kubectl: Any,
) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", (await kubectl("cluster-info")).out)
    assert re.search(r"Kubernetes control plane is running at https://127\.0\.0\.1:\d+", plain)


@asynccontextmanager
async def proxy(kubectl: Kubectl, *words: str) -> AsyncIterator[str]:
    """``kubectl proxy`` until the block ends; gives the line that says where it serves."""
    process = await kubectl.start("proxy", *words)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            yield (await process.stdout.readline()).decode()
    finally:
        process.terminate()
        await process.communicate()


async def test_proxy_server_should_support_proxy_with_port_0(kubectl: Any) -> None:
    async with proxy(kubectl, "--port", "0", "--disable-filter") as line:
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{found[1]}/api/") as response,
        ):
            assert (await response.json())["versions"] == ["v1"]


async def test_proxy_server_should_support_unix_socket(kubectl: Any, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    async with proxy(kubectl, f"--unix-socket={path}") as line:
        assert str(path) in line
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/api/") as response,
        ):
            assert json.loads(await response.text())["versions"] == ["v1"]


pytestmark = pytest.mark.filterwarnings("error")

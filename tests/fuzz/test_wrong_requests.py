"""Thousands of wrong requests: each gets an answer, none a 500, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
import yarl

from fuzz.making import Maker, Wrong
from nodeport.api.resources import IP_ADDRESSES, SERVICES
from nodeport.testing.apiserver import RunningApiServer, running_apiserver

ROUNDS = int(os.environ.get("NODEPORT_FUZZ_ROUNDS", "4000"))
"""Requests for each seed."""
PATIENCE_SECONDS = 60
AT_ONCE = 8
TAKEN = Wrong(
    "POST",
    "/api/v1/namespaces",
    b'{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}',
    {"Content-Type": "application/json"},
)
"""A name that is taken: chance alone makes few of these."""
SAID_BY_KUBERNETES = (
    "resourceVersion should not be set on objects to be created",
    "range is full",
    "duplicate nodePort",
    "failed to allocate requested HealthCheck NodePort",
    "strconv.ParseUint: parsing",
    "unknown patch type: ",
    "does not contain declared merge key",
    "but received a ",
    "cannot merge lists without merge key",
    "merging lists cannot yet be specified in the patch",
    "The order in patch list:",
    "list element types are not identical",
    "no elements in any of the given slices",
    "target.kind: Unsupported value",
    "target.name: Required value",
    "no endpoints available for service",
    "has no server that can be asked",
)
"""Failures of 500 and above that Kubernetes gives too, or what a proxy says of a node that is no machine."""


@pytest.fixture
async def api() -> AsyncIterator[RunningApiServer]:
    async with running_apiserver(seed=1) as running:
        yield running


@pytest.fixture
async def session(api: RunningApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=api.admin_config.ssl_context(), limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, skip_auto_headers=["Content-Type"]) as made:
        yield made


async def answer(session: aiohttp.ClientSession, url: str, wrong: Wrong) -> tuple[int, str, bytes]:
    address = yarl.URL(url + wrong.path, encoded=True)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        session.request(wrong.method, address, data=wrong.body, headers=wrong.headers) as response,
    ):
        if "watch" in wrong.path:
            return response.status, response.content_type, b""
        return response.status, response.content_type, await response.read()


def fault(wrong: Wrong, status: int, content_type: str, body: bytes) -> str:
    """What is wrong with the answer; empty when it is a good one."""
    shown = (
        f"{wrong.method} {wrong.path} {wrong.headers} {(wrong.body or b'')[:2000]!r}: {status} {body[:500]!r}"
    )
    if status == 503 and wrong.method == "HEAD" and "/proxy" in wrong.path:
        return ""  # the same without its text
    if status >= 500:
        text = body.decode("utf-8", "replace")
        return "" if any(known in text for known in SAID_BY_KUBERNETES) else shown
    if status >= 400 and wrong.method != "HEAD":
        if content_type != "application/json":
            return shown
        found = json.loads(body)
        if found.get("kind") != "Status" or found.get("code") != status or not found.get("message"):
            return shown
    return ""


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_wrong_request_gets_a_good_answer(
    api: RunningApiServer, session: aiohttp.ClientSession, seed: int
) -> None:
    maker = Maker(seed)
    waiting = [maker.request() for _ in range(ROUNDS)] + [TAKEN]
    faults: list[str] = []
    statuses: Counter[int] = Counter()

    async def worker() -> None:
        while waiting:
            wrong = waiting.pop()
            try:
                got = await answer(session, api.url, wrong)
                statuses[got[0]] += 1
                if found := fault(wrong, *got):
                    faults.append(found)
            except (TimeoutError, aiohttp.ClientError) as error:
                faults.append(f"{wrong.method} {wrong.path} {(wrong.body or b'')[:500]!r}: {error!r}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    assert not faults, "\n".join(faults)
    for status in (200, 201, 400, 404, 405, 409, 415, 422):
        assert statuses[status], f"the requests reach too little: {statuses}"
    await nothing_is_left(api, session)


async def nothing_is_left(api: RunningApiServer, session: aiohttp.ClientSession) -> None:
    """The server answers as before, and every number that is taken belongs to an object.

    An IPAddress that a request took away is put back by the repair, hence a little patience.
    """
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while differences := await numbers_astray(api, session):
        assert asyncio.get_running_loop().time() < deadline, differences
        await asyncio.sleep(0.2)


async def numbers_astray(api: RunningApiServer, session: aiohttp.ClientSession) -> str:
    """What allocators and objects tell differently; empty when they agree."""
    async with session.get(f"{api.url}{SERVICES.path()}") as response:
        specs = [service["spec"] for service in (await response.json())["items"]]
    async with session.get(f"{api.url}{IP_ADDRESSES.path()}") as response:
        owned = {item["metadata"]["name"] for item in (await response.json())["items"]}
    ports = {port.get("nodePort", 0) for spec in specs for port in spec.get("ports") or []}
    ports |= {spec.get("healthCheckNodePort", 0) for spec in specs}
    addresses = {address for spec in specs for address in spec.get("clusterIPs") or []} - {"None"}
    async with session.get(f"{api.url}/metrics") as response:
        text = await response.text()
    taken = sum(
        map(float, re.findall(r"(?m)^kube_apiserver_nodeport_allocator_allocated_ports (\S+)$", text))
    )
    if int(taken) != len(ports - {0}):
        return f"{taken} ports are taken, {sorted(ports - {0})} are used"
    return f"{sorted(addresses - owned)} are used and owned by nobody" if addresses - owned else ""

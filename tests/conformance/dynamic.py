"""A client that speaks plain HTTP to the API server, as a dynamic client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

Json = dict[str, Any]
PATIENCE_SECONDS = 60
MERGE = "application/merge-patch+json"


class Events:
    """A watch: ``await events.until("MODIFIED", test)`` answers with the first object that fits."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def until(self, kind: str, name: str = "") -> Json:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                event = json.loads(await self._response.content.readline())
                assert event["type"] != "ERROR", event
                if event["type"] == kind and name in ("", event["object"]["metadata"]["name"]):
                    found: Json = event["object"]
                    return found


class Api:
    """Each method fails the test unless the server answers with a success."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def _send(self, method: str, path: str, body: Json | None = None, media: str = "") -> Json:
        headers = {"Content-Type": media or "application/json"}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, self._url + path, data=data, headers=headers) as response:
            text = await response.text()
            assert response.status < 300, text
            found: Json = json.loads(text)
            return found

    async def get(self, path: str) -> Json:
        return await self._send("GET", path)

    async def create(self, path: str, obj: Json) -> Json:
        return await self._send("POST", path, obj)

    async def update(self, path: str, obj: Json) -> Json:
        return await self._send("PUT", path, obj)

    async def patch(self, path: str, patch: Json, media: str = MERGE) -> Json:
        return await self._send("PATCH", path, patch, media)

    async def delete(self, path: str) -> Json:
        return await self._send("DELETE", path)

    async def names(self, path: str) -> list[str]:
        return sorted(each["metadata"]["name"] for each in (await self.get(path))["items"])

    async def is_missing(self, path: str) -> bool:
        async with self._session.get(self._url + path) as response:
            return response.status == 404

    async def refusal(self, method: str, path: str, body: Json | None = None) -> Json:
        async with self._session.request(method, self._url + path, json=body) as response:
            assert response.status >= 400
            found: Json = await response.json()
            return found

    @asynccontextmanager
    async def watching(self, path: str) -> AsyncIterator[Events]:
        joint = "&" if "?" in path else "?"
        async with self._session.get(f"{self._url}{path}{joint}watch=true&timeoutSeconds=60") as response:
            assert response.status == 200
            yield Events(response)

    async def resources(self, group: str, version: str) -> dict[str, Json]:
        """What discovery says of a group's version, after the ways that lead there."""
        groups = {each["name"]: each for each in (await self.get("/apis"))["groups"]}
        assert {"groupVersion": f"{group}/{version}", "version": version} in groups[group]["versions"]
        assert (await self.get(f"/apis/{group}"))["name"] == group
        found = await self.get(f"/apis/{group}/{version}")
        return {each["name"]: each for each in found["resources"]}

"""What pods of the node need of the API besides themselves: ConfigMaps, Secrets, and tokens of their accounts.

Read when a container starts and again from time to time; what several pods refer to is read once for all of them. While
the API cannot be reached what was last read goes on to hold, as with a kubelet: containers can be restarted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from nodeport.api.status import NotFound
from nodeport.client.rest import RestClient, TransportError
from nodeport.kit.clock import Clock, parse_rfc3339
from nodeport.node.volumes.payload import TokenKey, text_values

Values = dict[str, str]
FRESH = timedelta(seconds=1)
"""How old a value may be that a container starts with: many start at once."""
MOST_KEPT = 1000
"""ConfigMaps and Secrets that are remembered for when the API is away."""
_RESOURCES = {"configmaps": CONFIG_MAPS, "secrets": SECRETS}
RENEW_AT = 0.8
"""Of a token's life."""
MOST_AGE = timedelta(hours=24)


@dataclass(slots=True)
class Settings:
    """For one node. What is missing is asked for anew each time. ``_last``: what was read last, the oldest first."""

    client: RestClient
    clock: Clock
    _known: dict[tuple[str, str, str], tuple[float, Values]] = field(default_factory=dict)
    _last: OrderedDict[tuple[str, str, str], Values] = field(default_factory=OrderedDict)
    _asking: dict[tuple[str, str, str], asyncio.Task[Values | None]] = field(default_factory=dict)

    async def get(self, plural: str, namespace: str, name: str) -> Values | None:
        """None: there is none. Raises ApiError, and TransportError for what was never read."""
        key = plural, namespace, name
        self._forget_old()
        if key in self._known:
            return self._known[key][1]
        if key not in self._asking:
            self._asking[key] = asyncio.ensure_future(self._fetch(key))
            self._asking[key].add_done_callback(lambda task: self._asked(key, task))
        return await asyncio.shield(self._asking[key])

    def _asked(self, key: tuple[str, str, str], task: asyncio.Task[Values | None]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # told to whoever still waits; nobody may

    async def _fetch(self, key: tuple[str, str, str]) -> Values | None:
        plural, namespace, name = key
        try:
            found = await self.client.get(_RESOURCES[plural], name, namespace)
        except NotFound:
            self._last.pop(key, None)
            return None
        except TransportError:
            if key not in self._last:
                raise
            return self._last[key]
        values = text_values(found, secret=plural == "secrets")
        self._known[key] = self.clock.monotonic(), values
        self._last[key] = values
        self._last.move_to_end(key)
        if len(self._last) > MOST_KEPT:
            self._last.popitem(last=False)
        return values

    def _forget_old(self) -> None:
        oldest = self.clock.monotonic() - FRESH.total_seconds()
        for key in [key for key, (asked, _) in self._known.items() if asked < oldest]:
            del self._known[key]


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    renew_at: datetime
    ends: datetime


@dataclass(slots=True)
class PodTokens:
    """The tokens of one pod's account, renewed long before they end."""

    client: RestClient
    clock: Clock
    _known: dict[TokenKey, Token] = field(default_factory=dict)

    async def get(self, pod: JsonObject, key: TokenKey) -> str:
        """Raises ApiError, and TransportError when there is none that is still good."""
        known = self._known.get(key)
        if known is None or self.clock.now() >= known.renew_at:
            try:
                known = self._known[key] = await self._request(pod, key)
            except TransportError:
                if known is None or self.clock.now() >= known.ends:
                    raise
        return known.text

    async def _request(self, pod: JsonObject, key: TokenKey) -> Token:
        metadata = pod["metadata"]
        spec: JsonObject = {
            "audiences": [key.audience] if key.audience else [], "expirationSeconds": key.seconds,
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"],
            },
        }  # fmt: skip
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        account = pod["spec"].get("serviceAccountName") or "default"
        asked = self.clock.now()
        answer = await self.client.create_subresource(
            SERVICE_ACCOUNTS, account, metadata["namespace"], "token", body
        )
        ends = parse_rfc3339(answer["status"]["expirationTimestamp"])
        return Token(answer["status"]["token"], asked + min((ends - asked) * RENEW_AT, MOST_AGE), ends)

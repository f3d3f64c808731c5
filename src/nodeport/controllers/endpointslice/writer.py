"""Carries out slice plans, and tells what others do to the slices meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.api.resources import ENDPOINT_SLICES
from nodeport.api.status import ApiError, Conflict, Forbidden, NotFound
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.endpointslice.changes import SlicePlan
from nodeport.controllers.freshness import OwnWrites, WriteGuard
from nodeport.kit.clock import Clock

_ENDING = "NamespaceTerminating"
_AT_A_TIME = 8


class SliceWriteError(Exception):
    """In the words of Kubernetes' controllers; ``reason`` is the server's answer."""

    def __init__(self, message: str, reason: ApiError) -> None:
        super().__init__(f"{message}: {reason}")
        self.reason = reason


def is_ending_namespace(error: ApiError) -> bool:
    return isinstance(error, Forbidden) and any(cause.reason == _ENDING for cause in error.causes)


class SliceWriter:
    """``owner`` is the kind that slices are made for; ``mend`` is called with a key when somebody else changed one
    of its slices.
    """

    def __init__(
        self,
        client: RestClient,
        slices: Informer,
        *,
        owner: str,
        clock: Clock,
        mend: Callable[[NamespacedName], None],
    ) -> None:
        self._client = client
        self._owner = owner
        self._guard: WriteGuard[NamespacedName] = WriteGuard(slices, clock)
        self._own: OwnWrites[NamespacedName] = OwnWrites()
        self._mend = mend

    def is_caught_up(self, key: NamespacedName) -> bool:
        """Whether the cache shows what was written for ``key``."""
        return self._guard.is_caught_up(key)

    def forget(self, key: NamespacedName) -> None:
        """The owner is gone."""
        self._guard.forget(key)

    def seen(self, change: Change, owner_of: Callable[[JsonObject], NamespacedName | None]) -> None:
        """A slice changed, from or to one of ours."""
        for key in {owner_of(found) for found in (change.old, change.new) if found is not None}:
            if key is not None and self._own.is_foreign(key, change):
                self._mend(key)

    async def write(self, key: NamespacedName, plan: SlicePlan) -> None:
        """Create, update, delete. In a namespace that is going away nothing more is written, and nothing is wrong.

        Raises ``SliceWriteError``, or ``Conflict`` and ``NotFound``: then the cache was behind after all.
        """
        if not plan:
            return
        self._own.begin(key)
        try:
            await self._carry_out(key, plan)
        except SliceWriteError as failure:
            if not is_ending_namespace(failure.reason):
                raise
        finally:
            if self._own.end(key):
                self._mend(key)

    async def _carry_out(self, key: NamespacedName, plan: SlicePlan) -> None:
        await _some_at_a_time([self._create(key, new) for new in plan.create])
        await _some_at_a_time([self._update(key, changed) for changed in plan.update])
        await _some_at_a_time([self._delete(key, old) for old in plan.delete])

    async def _create(self, key: NamespacedName, new: JsonObject) -> None:
        with self._failing_to("create EndpointSlice", key):
            self._note(key, await self._client.create(ENDPOINT_SLICES, new))

    async def _update(self, key: NamespacedName, changed: JsonObject) -> None:
        with self._failing_to(f"update {changed['metadata']['name']} EndpointSlice", key):
            self._note(key, await self._client.update(ENDPOINT_SLICES, changed))

    async def _delete(self, key: NamespacedName, old: JsonObject) -> None:
        meta = old["metadata"]
        with self._failing_to(f"delete {meta['name']} EndpointSlice", key):
            try:
                await self._client.delete(ENDPOINT_SLICES, meta["name"], meta["namespace"], uid=meta["uid"])
            except NotFound:
                return
            self._guard.deleted(key, old)
            self._own.deleted(old)

    @contextmanager
    def _failing_to(self, what: str, key: NamespacedName) -> Iterator[None]:
        try:
            yield
        except (Conflict, NotFound):
            raise
        except ApiError as reason:
            raise SliceWriteError(f"failed to {what} for {self._owner} {key}", reason) from reason

    def _note(self, key: NamespacedName, answer: JsonObject) -> None:
        self._guard.wrote(key, answer)
        self._own.wrote(answer)


async def _some_at_a_time(writes: Sequence[Coroutine[Any, Any, None]]) -> None:
    """A few share a commit of the server. After a failure the rest is left; what was begun is finished, so that
    nothing is written that nobody noted.
    """
    waiting = deque(writes)
    try:
        while waiting:
            begun = [waiting.popleft() for _ in range(min(_AT_A_TIME, len(waiting)))]
            for outcome in await asyncio.gather(*begun, return_exceptions=True):
                if outcome is not None:
                    raise outcome
    finally:
        for left in waiting:
            left.close()

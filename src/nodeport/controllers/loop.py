"""A reconcile loop: informers say which keys to look at, workers look at one key each, failures come again
later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from datetime import timedelta
from typing import Generic, TypeVar

from nodeport.api.status import AlreadyExists, ApiError, Conflict, NotFound, TooManyRequests
from nodeport.client.informer import Informer
from nodeport.client.rest import TransportError
from nodeport.client.workqueue import WorkQueue
from nodeport.kit.clock import Clock

K = TypeVar("K", bound=Hashable)

_log = logging.getLogger(__name__)

_RACES = (Conflict, NotFound, AlreadyExists)
"""Somebody was faster: the informers are about to tell, so nothing is wrong."""


class ReconcileLoop(Generic[K]):
    """Calls ``reconcile(key)`` for queued keys once every informer has synced.

    ``reconcile`` returns None, or after how long to look again. What it raises is logged once for the key
    until it succeeds again, counted, and retried with growing delays; the loop itself goes on.
    """

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[timedelta | None]],
        *,
        clock: Clock,
        informers: Iterable[Informer] = (),
        workers: int = 5,
        retry_maximum: timedelta = timedelta(seconds=30),
    ) -> None:
        self.name = name
        self.queue: WorkQueue[K] = WorkQueue(clock, initial=timedelta(milliseconds=10), maximum=retry_maximum)
        self.failures = 0
        self._reconcile = reconcile
        self._informers = tuple(informers)
        self._workers = workers

    async def run(self) -> None:
        """Until cancelled; keys in hand then are taken up again by the next run."""
        for informer in self._informers:
            await informer.wait_until_synced()
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                again = await self._reconcile(key)
            except asyncio.CancelledError:
                self.queue.add(key)
                raise
            except Exception as error:
                self._note(key, error)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                self.queue.done(key)
            await asyncio.sleep(0)  # a key that needed no write never waited: others share this loop

    def _note(self, key: K, error: Exception) -> None:
        if isinstance(error, _RACES):
            _log.debug("%s %s: %s", self.name, key, error)
        else:
            self.failures += 1
            if not self.queue.failures(key):
                bug = None if isinstance(error, (ApiError, TransportError)) else error
                _log.warning("%s %s: %s", self.name, key, error, exc_info=bug)
        if isinstance(error, TooManyRequests) and error.retry_after_seconds:
            self.queue.add_after(key, timedelta(seconds=error.retry_after_seconds))
            return
        self.queue.add_rate_limited(key)

"""A cache that follows one resource: list once, then watch, for ever.

Three nested loops, each owning one kind of failure: ``run`` starts over after anything (with back-off),
``_follow`` watches again from the last resource version while the server still knows it, ``_watch_once``
reads one stream.

Handlers are called synchronously, each change right after the cache took it, and never while another handler
call is on the stack: a handler that subscribes another one gets it served when the current change has been
told to all.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from typing import TypedDict

from nodeport.api.meta import JsonObject, NamespacedName, resource_version
from nodeport.api.resources import Resource
from nodeport.api.status import (
    ApiError,
    BadRequest,
    Expired,
    Forbidden,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)
from nodeport.client.cache import Change, IndexFunction, ObjectCache, revision
from nodeport.client.rest import PAGE_SIZE, RestClient, TransportError, WatchEvent
from nodeport.kit.backoff import Backoff
from nodeport.kit.clock import Clock, SystemClock

__all__ = ["Change", "Handler", "Informer"]

Handler = Callable[[Change], None]

_Objects = list[JsonObject]
_Batch = list[WatchEvent]

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_PASSING = (Unauthorized, Forbidden, TooManyRequests, ServiceUnavailable)
"""Refusals that say nothing about the resource version that we asked for."""

_CALM = timedelta(seconds=10)
_SHORT_WATCH = timedelta(seconds=1)
_log = logging.getLogger(__name__)


class _Selectors(TypedDict):
    label_selector: str
    field_selector: str


class _RelistNeeded(Exception):
    """The stream contradicts what we know; only a new list helps."""


class Informer:
    """``namespace``, ``label_selector`` and ``field_selector`` narrow what is followed; all of it when empty.

    A field selector that only ``spares_work`` is given up where a server does not know the field.

    ``keep``: what of an object is kept; the metadata that name it and its version must be.
    Objects in the cache are shared with everyone: never change one.
    """

    def __init__(
        self,
        client: RestClient,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        spares_work: bool = False,
        clock: Clock | None = None,
        watch_timeout: timedelta = timedelta(minutes=8),
        keep: Callable[[JsonObject], JsonObject] = lambda obj: obj,
    ) -> None:
        self._keep = keep
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._selectors: _Selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._dispensable = spares_work and bool(field_selector)
        self._clock = clock or SystemClock()
        self._watch_timeout = watch_timeout
        self._cache = ObjectCache()
        self._handlers: list[Handler] = []
        self._pending: deque[Change | Handler] = deque()
        self._telling = False
        self._synced = asyncio.Event()
        self._version = ""
        self._watch_list = True
        self._doubt = False
        self._relisted = -_CALM.total_seconds()
        self._backoff, self._relist_backoff = (
            Backoff(timedelta(milliseconds=100), timedelta(seconds=5), jitter=0.5) for _ in range(2)
        )

    # --- reading

    @property
    def synced(self) -> bool:
        """Whether the cache has held a complete list since the start."""
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """The newest resource version that the cache reflects."""
        return self._version

    async def wait_until_synced(self) -> None:
        await self._synced.wait()

    async def probe(self) -> None:
        """Ask for what is followed, once. Raises ApiError or TransportError, where ``run`` would try again."""
        await self._client.list(self.resource, self._namespace, limit=1, **self._selectors)

    def __len__(self) -> int:
        return len(self._cache)

    def get(self, key: NamespacedName) -> JsonObject | None:
        return self._cache.get(key)

    def list(self) -> _Objects:
        return self._cache.list()

    def add_index(self, name: str, values_of: IndexFunction) -> None:
        self._cache.add_index(name, values_of)

    def by_index(self, name: str, value: str) -> _Objects:
        return self._cache.by_index(name, value)

    # --- telling

    def subscribe(self, handler: Handler) -> None:
        """Call ``handler`` with every object there is, as new ones, and with every change from now on."""
        self._pending.append(handler)
        self._tell()

    @contextmanager
    def subscribed(self, handler: Handler) -> Iterator[None]:
        """``handler`` hears what it would after ``subscribe``, until the end of the block."""
        heard = True

        def while_here(change: Change) -> None:
            if heard:
                handler(change)

        self.subscribe(while_here)
        try:
            yield
        finally:
            heard = False
            if while_here in self._handlers:
                self._handlers = [each for each in self._handlers if each is not while_here]

    def _take(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._pending.append(change)
            self._tell()

    def _tell(self) -> None:
        if self._telling:
            return
        self._telling = True
        try:
            while self._pending:
                match self._pending.popleft():
                    case Change() as change:
                        for handler in self._handlers:
                            self._call(handler, change)
                    case newcomer:
                        for obj in self._cache.list():
                            self._call(newcomer, Change(None, obj))
                        self._handlers.append(newcomer)
        finally:
            self._telling = False

    def _call(self, handler: Handler, change: Change) -> None:
        try:
            handler(change)
        except Exception:  # one bad handler must not starve the others of this and all later changes
            key = NamespacedName.of(change.object)
            _log.exception("a handler of %s failed for %s", self.resource.plural, key)

    # --- following

    async def run(self) -> None:
        """Follow until cancelled; may be run again and resumes where it was."""
        while True:
            try:
                await self._follow()
            except (Expired, _RelistNeeded) as error:
                _log.info("%s: listing again: %s", self.resource.plural, error)
                self._version = ""
                await self._pause_between_lists()
            except (ApiError, TransportError) as error:
                where = f" of {self.resource.api_version}" if isinstance(error, NotFound) else ""
                _log.warning("%s%s: %s", self.resource.plural, where, error)
                await self._clock.sleep(self._delay_after(error).total_seconds())

    async def _pause_between_lists(self) -> None:
        """A server that contradicts itself every time must not be listed without end."""
        now = self._clock.monotonic()
        if now - self._relisted < _CALM.total_seconds():
            await self._clock.sleep(self._relist_backoff.next().total_seconds())
        else:
            self._relist_backoff.reset()
        self._relisted = now

    def _delay_after(self, error: ApiError | TransportError) -> timedelta:
        delay = self._backoff.next()
        if isinstance(error, TransportError):
            self._doubt = True
            return delay
        if not isinstance(error, _PASSING):
            # the server refuses our place in its history, as with 504 "Too large resource version"
            self._version = ""
        return max(delay, timedelta(seconds=error.retry_after_seconds))

    async def _follow(self) -> None:
        while True:
            if not self._version and not self._watch_list:
                await self._list()
            if self._version and self._doubt:
                await self._check_server_kept_its_history()
            started = self._clock.monotonic()
            if self._version:
                await self._watch_once()
            else:
                await self._stream_list()
            lasted = timedelta(seconds=self._clock.monotonic() - started)
            # nobody ends a watch early but a server that stops
            self._doubt = lasted < self._watch_timeout / 2
            if lasted < _SHORT_WATCH:
                await self._clock.sleep(self._backoff.next().total_seconds())

    async def _check_server_kept_its_history(self) -> None:
        """A server that lost its newest writes would leave a watch from our version silent until it catches
        up.
        """
        page = await self._client.list(self.resource, self._namespace, limit=1, **self._selectors)
        current = page["metadata"].get("resourceVersion")
        self._doubt = False
        if revision(current) < revision(self._version):
            raise _RelistNeeded(f"the server is at {current}, we at {self._version}")

    async def _list(self) -> None:
        """The fallback for servers without WatchList: pages at one revision, all at once when that expires."""
        try:
            listed = await self._client.list_all(self.resource, self._namespace, **self._selectors)
        except BadRequest as error:
            if not self._dispensable:
                raise
            _log.info("%s: following all, this server cannot select: %s", self.resource.plural, error)
            self._dispensable, self._selectors["field_selector"] = False, ""
            await self._list()
            return
        except Expired:
            listed = await self._client.list(self.resource, self._namespace, **self._selectors)
        objects = [self._slim(obj) for obj in listed.get("items") or ()]
        self._replace(objects, listed["metadata"].get("resourceVersion") or "")

    async def _stream_list(self) -> None:
        """The initial state as a stream of events up to a marked bookmark, then changes on the same stream."""
        arriving: dict[NamespacedName, JsonObject] | None = {}
        try:
            async with aclosing(self._open_watch("", send_initial_events=True)) as batches:
                async for batch in batches:
                    if arriving is None:
                        self._apply(batch)
                    elif self._collect_all(arriving, batch):
                        arriving = None
                    await _give_way(batch)
        except ApiError as error:
            if arriving is None or not _refuses_watch_list(error):
                raise
            _log.info("%s: no WatchList here, listing instead: %s", self.resource.plural, error)
            self._watch_list = False

    def _collect_all(self, arriving: dict[NamespacedName, JsonObject], batch: _Batch) -> bool:
        """Whether the initial state is complete; what follows it in the batch are changes already."""
        for at, event in enumerate(batch):
            if self._collect(arriving, event):
                self._replace([*arriving.values()], _version_of(event))
                self._apply(batch[at + 1 :])
                return True
        return False

    def _collect(self, arriving: dict[NamespacedName, JsonObject], event: WatchEvent) -> bool:
        """Take one event of the initial stream; whether it is the mark that ends it."""
        match event.type:
            case "BOOKMARK":
                notes = event.object["metadata"].get("annotations") or {}
                if notes.get(_INITIAL_EVENTS_END) != "true":
                    self._watch_list = False  # an old server that ignores what it was asked for
                    raise _RelistNeeded("the server does not mark the end of the initial events")
                return True
            case "DELETED":
                arriving.pop(NamespacedName.of(event.object), None)
            case "ADDED" | "MODIFIED":
                arriving[NamespacedName.of(event.object)] = self._slim(event.object)
            case unknown:
                raise _RelistNeeded(f"unknown event type {unknown!r}")
        return False

    async def _watch_once(self) -> None:
        async with aclosing(self._open_watch(self._version)) as batches:
            async for batch in batches:
                self._apply(batch)
                await _give_way(batch)

    def _open_watch(self, version: str, *, send_initial_events: bool = False) -> AsyncGenerator[_Batch, None]:
        # servers close watches by then; the spread keeps all informers from coming back in the same second
        timeout = self._watch_timeout * random.uniform(0.7, 1.0)
        return self._client.watch_batches(
            self.resource, self._namespace, resource_version=version, timeout=timeout,
            send_initial_events=send_initial_events, **self._selectors,
        )  # fmt: skip

    def _replace(self, objects: _Objects, version: str) -> None:
        self._take(self._cache.replace(objects))
        self._version = version
        self._doubt = False
        self._backoff.reset()
        self._synced.set()

    def _apply(self, batch: _Batch) -> None:
        for event in batch:
            version = _version_of(event)
            if event.type == "BOOKMARK":
                self._check_order(version, event.type)
            elif event.type == "DELETED":
                self._take_deletion(event.object, version)
            elif event.type in ("ADDED", "MODIFIED"):
                self._take_object(event.object, version)
            else:
                raise _RelistNeeded(f"unknown event type {event.type!r}")
            if revision(version) >= revision(self._version):
                self._version = version
        self._backoff.reset()

    def _take_object(self, obj: JsonObject, version: str) -> None:
        cached = self._cache.get(NamespacedName.of(obj))
        if cached is None or cached["metadata"].get("uid") != obj["metadata"].get("uid"):
            self._check_order(version, "object")
        self._take(self._cache.upsert(self._slim(obj)))

    def _take_deletion(self, obj: JsonObject, version: str) -> None:
        key = NamespacedName.of(obj)
        cached = self._cache.get(key)
        if cached is None:
            return
        if cached["metadata"].get("uid") != obj["metadata"].get("uid"):
            self._check_order(version, "deletion")
        if 0 < revision(version) < revision(cached["metadata"].get("resourceVersion")):
            return  # a repeated event about a former state of an object that was written since
        self._take(self._cache.remove(key))

    def _slim(self, obj: JsonObject) -> JsonObject:
        """Field ownership is the bulk of many objects and nothing that follows a cache reads it."""
        obj["metadata"].pop("managedFields", None)
        return self._keep(obj)

    def _check_order(self, version: str, what: str) -> None:
        """Revisions only grow: news from before what we know comes from a server that lost some of it."""
        if 0 < revision(version) < revision(self._version):
            raise _RelistNeeded(f"{what} at {version} after {self._version}")


def _version_of(event: WatchEvent) -> str:
    return resource_version(event.object)


def _refuses_watch_list(error: ApiError) -> bool:
    """Any 4xx but those that would meet a plain list as well, or that say to come back later."""
    return 400 <= error.code < 500 and not isinstance(error, (Expired, *_PASSING))


async def _give_way(batch: _Batch) -> None:
    """A long burst arrives without the socket ever running dry; the loop has others to serve."""
    if len(batch) > PAGE_SIZE // 10:
        await asyncio.sleep(0)

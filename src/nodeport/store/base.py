"""A revisioned, watchable log of key -> bytes: what every store promises.

Each commit, of one operation or several, gets the next revision; revisions grow by one for the whole store, are never
given twice, not even after a crash, and start at 1. What is read is committed and, for a durable store, on disk.

Values are Structs without garbage collection: made by the dozen in each write, kept by the ten thousand, and never part
of a cycle.

::

    StoreError
    ├── PreconditionFailed   an operation expected another mod revision; nothing of the commit happened
    ├── Undecided            a precondition fails against a commit that is not durable yet: it depends on that one
    ├── Compacted            the revision asked for is older than the log reaches
    ├── FutureRevision       the revision asked for has not happened yet
    ├── SlowWatcher          a watcher fell too far behind and was dropped; list again
    ├── Unavailable          the medium refused (disk full, connection lost); nothing of the commit happened
    └── Closed               the store is closed
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NewType, Protocol, Self

import msgspec

Revision = NewType("Revision", int)


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key's state: ``mod_revision`` is the commit that wrote ``value``, ``create_revision`` the one that made it."""

    key: str
    value: bytes
    create_revision: Revision
    mod_revision: Revision


class Event(msgspec.Struct, frozen=True, gc=False):
    """One key's change in the commit ``revision``. ``current`` is None for a deletion, ``previous`` for a creation."""

    revision: Revision
    key: str
    current: KeyValue | None
    previous: KeyValue | None


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write ``key``. ``expect``: the mod revision it must have, 0 when it must not exist, None for no condition."""

    key: str
    value: bytes
    expect: int | None = None


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove ``key``; removing what is not there is a precondition failure unless ``expect`` is None."""

    key: str
    expect: int | None = None


class Expect(msgspec.Struct, frozen=True, gc=False):
    """Write nothing, but let the commit fail unless ``key`` has the mod revision ``expect``; 0: does not exist."""

    key: str
    expect: int


Operation = Put | Delete | Expect


class Listing(msgspec.Struct, frozen=True):
    """``items`` in key order as of ``revision``; ``remaining`` counts what lies beyond the limit."""

    items: Sequence[KeyValue]
    revision: Revision
    remaining: int = 0


class StoreError(Exception):
    """Base of what a store raises."""


class PreconditionFailed(StoreError):
    def __init__(self, key: str, expected: int, current: KeyValue | None) -> None:
        found = f"has mod revision {current.mod_revision}" if current else "does not exist"
        super().__init__(f"{key} {found}, expected {expected or 'no such key'}")
        self.key = key
        self.expected = expected
        self.current = current


class Undecided(StoreError):
    """To answer a caller out of a write that may still be lost would be a lie: ask again once that is settled."""


class Compacted(StoreError):
    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} is compacted; the log reaches back to {oldest}")
        self.asked = asked
        self.oldest = oldest


class FutureRevision(StoreError):
    def __init__(self, asked: int, current: int) -> None:
        super().__init__(f"revision {asked} is in the future; the newest is {current}")
        self.asked = asked
        self.current = current


class SlowWatcher(StoreError):
    """A watcher's queue overflowed."""


class Unavailable(StoreError):
    """The medium refused; the cause is chained. ``why``: the same without the medium's place, for strangers."""

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why


class Closed(StoreError):
    """The store is closed."""


class Watch(Protocol):
    """One watcher's place in the log, from entering to leaving. Read it by iterating, or by ``notify`` and ``take``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Sequence[Event]: ...

    def take(self) -> Sequence[Event]:
        """What has arrived, empty when nothing has; call it until it is empty.

        Raises ``SlowWatcher``, or ``Closed`` once the store is and everything before has been taken.
        """
        ...

    def notify(self, ready: Callable[[], None]) -> None:
        """Have ``ready`` called whenever ``take`` has news: as a commit is published, so quickly and never raising."""
        ...


class Store(Protocol):
    """What the apiserver needs of a store. All methods may be called concurrently from one event loop."""

    @property
    def revision(self) -> Revision:
        """The newest committed revision; 0 while empty."""
        ...

    @property
    def compacted_revision(self) -> Revision:
        """Reads and watches at revisions below this one fail with ``Compacted``."""
        ...

    @property
    def trouble(self) -> str:
        """Why the newest write was refused by the medium; empty when it was not."""
        ...

    async def get(self, key: str, *, revision: Revision | None = None) -> KeyValue | None: ...

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: Revision | None = None
    ) -> Listing:
        """Keys that begin with ``prefix``, in key order, those after ``start_after``; ``limit`` 0 is all."""
        ...

    async def commit(self, operations: Sequence[Operation]) -> Revision:
        """Do all operations at one new revision, or none; returns once that is durable. No key may occur twice."""
        ...

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[Revision]:
        """As ``commit``, taking its place now; the future is done once that is durable, and giving it up stops nothing.

        Raises at once what is certain, and ``Undecided`` where ``commit`` would wait before it could say anything.
        """
        ...

    def watch(self, prefix: str, after: Revision) -> Watch:
        """Every change below ``prefix`` with a revision greater than ``after``, in order, in batches.

        Starting below ``compacted_revision`` raises ``Compacted`` on entering; falling behind raises ``SlowWatcher``
        from the iterator; closing the store ends the iterator.
        """
        ...

    async def compact(self, revision: Revision) -> None:
        """Forget history before ``revision``; current values stay. Idempotent."""
        ...

    async def close(self) -> None: ...

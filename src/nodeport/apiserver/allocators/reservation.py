"""Claims and releases that belong to one write."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from nodeport.store.base import Delete, Operation, Put


class Reservation:
    """What a write takes and gives back beside its object; a context that gives everything back unless committed.

    Claims hold from the moment they are made; releases take effect with ``commit``: better to leak for a moment than to
    give a number to two owners. ``operations`` go into the same commit as the object. Neither ``commit`` nor
    ``release`` can fail, and each does its work once.
    """

    __slots__ = ("_handed_over", "_on_commit", "_on_release", "operations")

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._on_commit: list[Callable[[], object]] = []
        self._on_release: list[Callable[[], object]] = []
        self._handed_over = False

    def claim(self, guard: str, value: bytes, undo: Callable[[], object]) -> None:
        """Note a number already taken in the fast view; ``guard`` must not exist in the store."""
        self.operations.append(Put(guard, value, expect=0))
        self._on_release.append(undo)

    def on_commit(self, do: Callable[[], object]) -> None:
        """Something to do once the write is done."""
        self._on_commit.append(do)

    def on_release(self, do: Callable[[], object]) -> None:
        """Something to do when the write does not happen."""
        self._on_release.append(do)

    def give_back(self, guard: str, do: Callable[[], object]) -> None:
        """Note a number to free when the write is done."""
        self.operations.append(Delete(guard))
        self._on_commit.append(do)

    def hand_over(self) -> None:
        """From now on whoever waits for the commit settles this, even if the writer is cancelled meanwhile."""
        self._handed_over = True

    def commit(self) -> None:
        actions, self._on_commit, self._on_release = self._on_commit, [], []
        for action in actions:
            action()

    def release(self) -> None:
        actions, self._on_commit, self._on_release = self._on_release, [], []
        for action in actions:
            action()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._handed_over:
            self.release()

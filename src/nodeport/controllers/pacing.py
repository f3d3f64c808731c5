"""How often a costly key is looked at: bursts of events must not multiply the cost of looking."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import timedelta
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_DUTY = 10
_LONGEST = timedelta(seconds=1)
_FREE = timedelta(milliseconds=1)


class Pacer(Generic[K]):
    """A key is looked at for at most about a tenth of the time; what is cheap to look at is never held back."""

    def __init__(self) -> None:
        self._pauses: dict[K, timedelta] = {}

    def note(self, key: K, took: timedelta) -> None:
        """``took`` is what the last look cost."""
        if took > _FREE:
            self._pauses[key] = min(took * _DUTY, _LONGEST)
        else:
            self._pauses.pop(key, None)

    def pause(self, key: K) -> timedelta:
        """How long to collect further events before looking again."""
        return self._pauses.get(key, timedelta())

    def forget(self, key: K) -> None:
        self._pauses.pop(key, None)

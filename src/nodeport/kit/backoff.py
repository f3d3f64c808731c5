"""How long to wait before trying again."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from datetime import timedelta


class Backoff:
    """Delays that grow by ``factor`` from ``initial`` to ``maximum``, until ``reset``.

    ``jitter`` lengthens each delay by up to that share of itself, so that many clients of one failed server do not come
    back in step; ``random`` gives numbers in [0, 1).
    """

    def __init__(
        self,
        initial: timedelta,
        maximum: timedelta,
        factor: float = 2.0,
        jitter: float = 0.0,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if initial <= timedelta(0) or maximum < initial or factor < 1 or jitter < 0:
            raise ValueError("a backoff needs 0 < initial <= maximum, factor >= 1 and jitter >= 0")
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._random = random
        self._following = initial

    def next(self) -> timedelta:
        """The delay before the next try."""
        delay = self._following
        self._following = min(delay * self._factor, self._maximum)
        return delay * (1 + self._jitter * self._random()) if self._jitter else delay

    def reset(self) -> None:
        """It worked: begin with ``initial`` again."""
        self._following = self._initial

"""One API server for each kind of cluster, started when a row first asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from unit.apiserver.semantics.harness import Served


@pytest.fixture(scope="module")
def cluster() -> Iterator[Callable[[str], Served]]:
    started: dict[str, Served] = {}

    def find(kind: str) -> Served:
        if kind not in started:
            started[kind] = Served(kind).start()
        return started[kind]

    yield find
    for served in started.values():
        served.stop()

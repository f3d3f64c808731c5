"""Numbers about requests, in Prometheus' text form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

Source = Callable[[], Iterable[str]]
"""Further lines, made when someone asks."""


class Metrics:
    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: Counter[tuple[str, str]] = Counter()
        self._sources: list[Source] = []

    def add_source(self, source: Source) -> None:
        self._sources.append(source)

    def count(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Watches count when they end."""
        self._requests[verb, resource, code] += 1
        if verb != "watch":
            self._seconds[verb, resource] += seconds  # type: ignore[assignment]

    def render(self) -> str:
        lines = ["# TYPE apiserver_request_total counter"]
        for (verb, resource, code), number in sorted(self._requests.items()):
            lines.append(
                f'apiserver_request_total{{verb="{verb}",resource="{resource}",code="{code}"}} {number}'
            )
        lines.append("# TYPE apiserver_request_seconds_total counter")
        for (verb, resource), seconds in sorted(self._seconds.items()):
            lines.append(
                f'apiserver_request_seconds_total{{verb="{verb}",resource="{resource}"}} {seconds:.6f}'
            )
        for source in self._sources:
            lines.extend(source())
        return "\n".join(lines) + "\n"

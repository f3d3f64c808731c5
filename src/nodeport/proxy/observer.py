"""Who wants to know what the proxy does: told of each step, and free to do nothing with it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from nodeport.api.meta import JsonObject
from nodeport.forwarding.table import Change, Family


class Observer(Protocol):
    """Called on the hot path: each method must be a matter of microseconds."""

    def service_changed(self) -> None:
        """A Service was written or deleted."""

    def slice_changed(self, item: JsonObject | None) -> None:
        """An EndpointSlice was written, or deleted (``None``)."""

    def queued(self, family: Family, now: datetime) -> None:
        """Something waits for the kernel."""

    def settled(self, family: Family, change: Change) -> None:
        """One Service port of the table has become another."""

    def committed(self, family: Family, seconds: float) -> None:
        """One commit of changes, without what built them."""

    def programmed(self, family: Family, seconds: float, now: datetime, *, full: bool) -> None:
        """The kernel has everything. ``full``: all of it was compared. ``seconds``: how long that took."""

    def failed(self, family: Family, *, full: bool) -> None:
        """The kernel refused. ``full``: all of it was to be compared."""

    def forgot(self, family: Family, seconds: float, entries: int) -> None:
        """Stale connections were looked for, and ``entries`` removed."""

    def health_answered(self, endpoint: str, status: int) -> None:
        """``endpoint``: healthz or livez."""

    def kube_proxy_found(self, kinds: int) -> None:
        """Somebody looked for rules of kube-proxy, and found so many kinds of them."""


class Unobserved:
    """Nobody wants to know."""

    def service_changed(self) -> None: ...

    def slice_changed(self, item: JsonObject | None) -> None: ...

    def queued(self, family: Family, now: datetime) -> None: ...

    def settled(self, family: Family, change: Change) -> None: ...

    def committed(self, family: Family, seconds: float) -> None: ...

    def programmed(self, family: Family, seconds: float, now: datetime, *, full: bool) -> None: ...

    def failed(self, family: Family, *, full: bool) -> None: ...

    def forgot(self, family: Family, seconds: float, entries: int) -> None: ...

    def health_answered(self, endpoint: str, status: int) -> None: ...

    def kube_proxy_found(self, kinds: int) -> None: ...

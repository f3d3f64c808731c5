"""Which tracked UDP connections must be forgotten.

UDP has no end of connection: a client that keeps sending from one port keeps its entry, and with it an endpoint that is
gone, or an untranslated path from before the Service existed. Such entries are found and deleted exactly; TCP clients
notice by themselves and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nodeport.forwarding.table import Change, Forwarding, Frontend, IPAddress, NodeFacts, NodePort, Protocol
from nodeport.netlink.conntrack import Conntrack, Entry

Served = frozenset[tuple[IPAddress, int]]


@dataclass(frozen=True, slots=True)
class _Rule:
    """For one frontend: endpoints that may stay; ``withdrawn``: the frontend itself is gone."""

    keep: Served
    known: Served
    withdrawn: bool


def concerns_udp(change: Change) -> bool:
    """Whether any tracked connection can be stale after this change."""
    if change.name.protocol is not Protocol.UDP:
        return False
    old, new = change.old, change.new
    return old is None or new is None or (old.serving, old.frontends) != (new.serving, new.frontends)


def stale_entries(entries: Iterable[Entry], changes: Iterable[Change], node: NodeFacts) -> Iterator[Entry]:
    """The entries among ``entries`` (all of them UDP) that ``changes`` leave without a right to exist."""
    by_address: dict[tuple[IPAddress, int], _Rule] = {}
    by_port: dict[int, _Rule] = {}
    for change in changes:
        for frontend, rule in _rules(change):
            if isinstance(frontend, NodePort):
                by_port[frontend.port] = rule
            else:
                by_address[frontend.address, frontend.port] = rule
    for entry in entries:
        asked = entry.original
        found = by_address.get((asked.destination, asked.destination_port))
        if found is not None:
            if _is_stale(entry, found, is_ours=True):
                yield entry
            continue
        found = by_port.get(asked.destination_port)
        if found is not None and _is_stale(entry, found, is_ours=asked.destination in node.addresses):
            yield entry


def _rules(change: Change) -> Iterator[tuple[Frontend, _Rule]]:
    nothing: Served = frozenset()
    old, new = change.old, change.new
    before = frozenset(old.serving) if old is not None else nothing
    serving = frozenset(new.serving) if new is not None else nothing
    now = _frontends(new)
    for frontend in now:
        yield frontend, _Rule(serving, before | serving, withdrawn=False)
    for frontend in _frontends(old):
        if frontend not in now:
            yield frontend, _Rule(nothing, before, withdrawn=True)


def _frontends(forwarding: Forwarding | None) -> tuple[Frontend, ...]:
    return forwarding.frontends if forwarding is not None else ()


def _is_stale(entry: Entry, rule: _Rule, *, is_ours: bool) -> bool:
    """``is_ours``: the address alone proves that the connection was meant for this frontend."""
    served_by = (entry.reply.source, entry.reply.source_port)
    if served_by in rule.keep:
        return False
    if rule.withdrawn:
        return served_by in rule.known
    return is_ours or served_by in rule.known


class ConntrackCleaner:
    """Deletes stale UDP entries in one network namespace; ``deleted`` counts them."""

    def __init__(self, netns: Path | None) -> None:
        self._conntrack = Conntrack(netns)
        self.deleted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._conntrack.close()

    def clean(self, changes: Iterable[Change], node: NodeFacts) -> int:
        """Raises NetlinkError or OSError; entries found before that are gone."""
        concerned = [change for change in changes if concerns_udp(change)]
        if not concerned:
            return 0
        entries = list(self._conntrack.list(Protocol.UDP.value))
        deleted = self._conntrack.delete(stale_entries(entries, concerned, node))
        self.deleted += deleted
        return deleted

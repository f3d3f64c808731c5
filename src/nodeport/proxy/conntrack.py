"""Which tracked UDP connections must be forgotten.

UDP has no end of connection: a client that keeps sending from one port keeps its entry, and with it an endpoint that is
gone, or an untranslated path from before the Service existed. Such entries are found and deleted exactly; TCP clients
notice by themselves and are left alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from nodeport.forwarding.table import Change, Forwarding, Frontend, IPAddress, NodeFacts, NodePort, Protocol
from nodeport.netlink.conntrack import Asked, Conntrack, Entry
from nodeport.netlink.route import RouteSocket

_MOST_LISTINGS: Final = 16
"""The kernel walks its whole table for each; beyond so many one listing of everything costs less."""
_Place = TypeVar("_Place", int, tuple[IPAddress, int])
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


class Stale:
    """What ``changes`` say about tracked connections, of which ``local_addresses`` are the node's own."""

    def __init__(self, changes: Iterable[Change], local_addresses: Container[IPAddress]) -> None:
        self._local = local_addresses
        self._by_address: dict[tuple[IPAddress, int], _Rule] = {}
        self._by_port: dict[int, _Rule] = {}
        for change in changes:
            for frontend, rule in _rules(change):
                if isinstance(frontend, NodePort):
                    _add(self._by_port, frontend.port, rule)
                else:
                    _add(self._by_address, (frontend.address, frontend.port), rule)

    def asked(self) -> list[Asked]:
        """What to list: the frontends concerned one by one, or all of UDP where that would be too many listings."""
        protocol = Protocol.UDP.value
        listings = [Asked(protocol, address, port) for address, port in self._by_address]
        listings += [Asked(protocol, port=port) for port in self._by_port]
        return listings if len(listings) <= _MOST_LISTINGS else [Asked(protocol)]

    def entries(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Those among ``entries`` (all of them UDP) that have no right to exist any more."""
        for entry in entries:
            asked = entry.original
            found = self._by_address.get((asked.destination, asked.destination_port))
            if found is not None:
                if _is_stale(entry, found, is_ours=True):
                    yield entry
                continue
            found = self._by_port.get(asked.destination_port)
            if found is not None and _is_stale(entry, found, is_ours=asked.destination in self._local):
                yield entry


def _add(rules: dict[_Place, _Rule], place: _Place, rule: _Rule) -> None:
    """A frontend that changed hands: what its new owner says counts, and what the old one knew."""
    there = rules.get(place)
    if there is None:
        rules[place] = rule
    else:
        kept = there if rule.withdrawn else rule
        rules[place] = _Rule(kept.keep, there.known | rule.known, kept.withdrawn)


def _rules(change: Change) -> Iterator[tuple[Frontend, _Rule]]:
    nothing: Served = frozenset()
    old, new = change.old, change.new
    before = _served(old)
    serving = _served(new)
    now = _frontends(new)
    for frontend in now:
        yield frontend, _Rule(serving, before | serving, withdrawn=False)
    for frontend in _frontends(old):
        if frontend not in now:
            yield frontend, _Rule(nothing, before, withdrawn=True)


def _served(forwarding: Forwarding | None) -> Served:
    return (
        frozenset(endpoint.place for endpoint in forwarding.serving)
        if forwarding is not None
        else frozenset()
    )


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
        self._routes = RouteSocket(netns)
        self.deleted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._routes.close()
        self._conntrack.close()

    def clean(self, changes: Iterable[Change], node: NodeFacts) -> int:
        """Forgets what ``changes`` left stale, in the node's family; returns how many entries that were.

        Raises NetlinkError or OSError; entries found before that are gone.
        """
        concerned = [change for change in changes if concerns_udp(change)]
        if not concerned or not self._conntrack.count():
            return 0
        stale = Stale(concerned, self._routes.local_addresses(node.family.value))
        deleted = 0
        for asked in stale.asked():
            entries = list(self._conntrack.list(node.family.value, asked))
            deleted += self._conntrack.delete(stale.entries(entries))
        self.deleted += deleted
        return deleted

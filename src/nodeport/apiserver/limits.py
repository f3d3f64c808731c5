"""How many requests are served at once, and how many of them for one client.

Who comes when all places are taken waits in a queue of his own; a place that becomes free goes to the queues in turn,
so that a client who asks a thousand times delays another one by a single place. Whoever waits in vain, or has too many
waiting, is told to come back later: 429. Streams (watch, logs, exec) take no place, but are counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nodeport.api.status import TooManyRequests
from nodeport.apiserver.auth import User

READING = frozenset({"get", "list", "watch"})
STREAMING_SUBRESOURCES = frozenset({"log", "exec", "attach", "portforward", "proxy"})
UNREAD = "Too many answers are waiting to be read, please read them first."
TRY_LATER = "Too many requests, please try again later."


@dataclass(frozen=True, slots=True)
class Limits:
    """``reading``, ``mutating``: requests served at once; one client gets at most half of the places.

    ``waiting``: of one client; ``patience`` in seconds. ``streams``: open ones of one client. ``connections`` and
    ``handshakes``: of all; one address gets at most half of them. ``unread_bytes``: of answers that one client was sent
    and has not read. ``body_bytes`` and ``header_bytes``: of one request.
    """

    reading: int = 400
    mutating: int = 200
    waiting: int = 200
    patience: float = 10.0
    streams: int = 2_000
    connections: int = 10_000
    handshakes: int = 1_000
    unread_bytes: int = 256 * 1024 * 1024
    body_bytes: int = 3 * 1024 * 1024
    header_bytes: int = 64 * 1024


class FairGate:
    """``enter`` and, if it returned, ``leave``."""

    def __init__(self, places: int, waiting: int, patience: float) -> None:
        self._places = places
        self._share = max(1, (places + 1) // 2)
        self._waiting = waiting
        self._patience = patience
        self._held: Counter[str] = Counter()
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.in_flight = 0
        self.refused = 0

    async def enter(self, client: str) -> None:
        """Take a place; 429 when none becomes free in time."""
        if self.in_flight < self._places and self._held[client] < self._share and client not in self._queues:
            self._take(client)
            return
        queue = self._queues.setdefault(client, deque())
        if len(queue) >= self._waiting:
            raise self._refusal()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            async with asyncio.timeout(self._patience):
                await place
        except TimeoutError:
            self._give_up(client, place)
            raise self._refusal() from None
        except asyncio.CancelledError:
            self._give_up(client, place)
            raise

    def leave(self, client: str) -> None:
        self.in_flight -= 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        if self._queues:
            self._admit()

    def _take(self, client: str) -> None:
        self.in_flight += 1
        self._held[client] += 1

    def _admit(self) -> None:
        """Give free places to the queues in turn, past those who have their share."""
        for client in list(self._queues):
            if self.in_flight >= self._places:
                return
            if self._held[client] >= self._share:
                continue
            queue = self._queues[client]
            place = queue.popleft()
            self._queues.move_to_end(client)
            if not queue:
                del self._queues[client]
            self._take(client)
            place.set_result(None)

    def _give_up(self, client: str, place: asyncio.Future[None]) -> None:
        """A place that was given in the same moment goes back."""
        if place.done() and not place.cancelled():
            self.leave(client)
            return
        queue = self._queues.get(client)
        if queue is not None:
            queue.remove(place)
            if not queue:
                del self._queues[client]

    def _refusal(self) -> TooManyRequests:
        self.refused += 1
        return TooManyRequests(TRY_LATER, retry_after_seconds=1)


class UnreadBytes:
    """What is held in memory for clients who do not read. ``most``: of one client."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    @contextmanager
    def holding(self, client: str, size: int) -> Iterator[None]:
        """For as long as the client has not read ``size`` bytes; 429 when it leaves too much unread already.

        A single answer is never too much.
        """
        if self._held[client] and self._held[client] + size > self._most:
            raise TooManyRequests(UNREAD, retry_after_seconds=1)
        self._held[client] += size
        try:
            yield
        finally:
            self._held[client] -= size
            if not self._held[client]:
                del self._held[client]

    def metrics(self) -> list[str]:
        return [
            "# TYPE nodeport_apiserver_unread_bytes gauge",
            f"nodeport_apiserver_unread_bytes {self._held.total()}",
        ]


class RequestLimits:
    """Which limit a request falls under."""

    def __init__(self, limits: Limits) -> None:
        self._reading = FairGate(limits.reading, limits.waiting, limits.patience)
        self._mutating = FairGate(limits.mutating, limits.waiting, limits.patience)
        self._most_streams = limits.streams
        self.unread = UnreadBytes(limits.unread_bytes)
        self._streams: Counter[str] = Counter()

    def gate(self, user: User, verb: str) -> FairGate | None:
        """Where to ask for a place; None for administrators, who must get in when nobody else does."""
        if user.is_master:
            return None
        return self._reading if verb in READING else self._mutating

    def open_stream(self, user: User) -> None:
        """Count a stream; 429 when there are too many. ``close_stream`` if it returned."""
        if self._streams[user.name] >= self._most_streams:
            raise TooManyRequests(TRY_LATER, retry_after_seconds=1)
        self._streams[user.name] += 1

    def close_stream(self, user: User) -> None:
        self._streams[user.name] -= 1
        if not self._streams[user.name]:
            del self._streams[user.name]

    def metrics(self) -> list[str]:
        gates = (("readOnly", self._reading), ("mutating", self._mutating))
        return [
            *self.unread.metrics(),
            "# TYPE apiserver_current_inflight_requests gauge",
            *(
                f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {gate.in_flight}'
                for kind, gate in gates
            ),
            "# TYPE apiserver_rejected_requests_total counter",
            *(
                f'apiserver_rejected_requests_total{{request_kind="{kind}"}} {gate.refused}'
                for kind, gate in gates
            ),
        ]


def is_stream(verb: str, subresource: str) -> bool:
    """Whether a request may last as long as its client likes."""
    return verb == "watch" or subresource in STREAMING_SUBRESOURCES

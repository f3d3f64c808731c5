"""One proxy at a time programs a network namespace: an empty table of nf_tables, owned by its process, says which.

Two that want different things would mend each other's rules for ever. The kernel deletes the table when its owner ends,
by ``kill -9`` too, and lets nobody else delete or make it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.netlink.nftables.objects import Table
from nodeport.netlink.nftables.owned import OwnersUnknown, TableOwner
from nodeport.proxy.proxier import ProxierError

CLAIM: Final = Table("nodeport-proxy")
_POLL: Final = 0.1
_log = get_logger(__name__)


class AlreadyProxied(ProxierError):
    """Another proxy programs this network namespace, and does not end."""


@contextlib.asynccontextmanager
async def claimed(
    netns: Path | None, description: str, clock: Clock, patience: timedelta
) -> AsyncIterator[None]:
    """Holds ``netns`` (None: the current one) for this process. Others are told its pid and ``description``.

    Waits for a predecessor that is ending. Raises AlreadyProxied, NetlinkError, OSError.
    """
    with TableOwner(netns) as owner:
        try:
            await _take(owner, f"{_process()}, {description}", clock, patience)
        except OwnersUnknown as error:
            _log.info("cannot see to it that no other proxy programs this node as well: %s", error)
        yield


async def _take(owner: TableOwner, ours: str, clock: Clock, patience: timedelta) -> None:
    deadline = clock.monotonic() + patience.total_seconds()
    waiting_for = ""
    while not owner.take(CLAIM, ours):
        holder = owner.comment(CLAIM)
        if holder is None:  # gone just now
            continue
        if clock.monotonic() >= deadline:
            raise AlreadyProxied(
                f"another proxy programs this network namespace: {_seen_from_here(holder)}; end it first "
                f"(waited {patience.total_seconds():.0f} s for that)"
            )
        if holder != waiting_for:
            waiting_for = holder
            _log.warning(
                "another proxy programs this network namespace: %s; waiting %.0f s at most for it to end",
                _seen_from_here(holder), deadline - clock.monotonic(),
            )  # fmt: skip
        await clock.sleep(_POLL)
    if waiting_for:
        _log.info("the other proxy has ended (%s); going on", _seen_from_here(waiting_for))


def _process() -> str:
    return f"pid {os.getpid()} in {_pid_namespace()}"


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _seen_from_here(holder: str) -> str:
    """Pids are worth something within their namespace only; which one that is need not be said about our own."""
    return holder.replace(f" in {_pid_namespace()}", "", 1)

"""One proxy at a time programs a network namespace: a table of nf_tables, owned by its process, says which.

Two that want different things would mend each other's rules for ever. The kernel deletes the table when its owner ends,
by ``kill -9`` too, and lets nobody else delete or make it meanwhile. So a chain stands there, too, that keeps the
kernel translating established connections when somebody flushes all other rules.
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
from nodeport.netlink import codec
from nodeport.netlink.codec import NetlinkError
from nodeport.netlink.nftables import objects
from nodeport.netlink.nftables.expressions import Code
from nodeport.netlink.nftables.objects import BaseHook, Chain, Hook, MessageType, Rule, Table
from nodeport.netlink.nftables.owned import OwnersUnknown, TableOwner
from nodeport.proxy.nftables import dialect as say
from nodeport.proxy.proxier import ProxierError

NAME: Final = "nodeport-proxy"
CLAIM: Final = Table(NAME)
_CLAIM_OF_IPV6: Final = Table(NAME, objects.FAMILY_IPV6)
_KEEPER: Final = Chain("keep-translating", (), BaseHook("nat", Hook.POSTROUTING, 300))
_ASKS_CONNTRACK: Final = Rule((*say.translated(), say.verdict(Code.RETURN)), "keeps connections tracked")
"""The kernel translates as long as a family has a chain of type nat, and tracks as long as a rule asks for that."""
_APPEND: Final = codec.NLM_F_CREATE | codec.NLM_F_APPEND
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


def holder(netns: Path | None) -> str | None:
    """Who programs ``netns`` now, in words; None: nobody does. Raises NetlinkError, OSError."""
    with TableOwner(netns) as owner:
        found = owner.comment(CLAIM)
    return None if found is None else _seen_from_here(found)


async def _take(owner: TableOwner, ours: str, clock: Clock, patience: timedelta) -> None:
    deadline = clock.monotonic() + patience.total_seconds()
    waiting_for = ""
    while not take(owner, ours):
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


def take(owner: TableOwner, description: str) -> bool:
    """Whether the namespace is ours now; else ``owner.comment(CLAIM)`` says whose. Raises what ``owner.take`` does."""
    if not owner.take(CLAIM, description):
        return False
    try:
        _keep_translating(owner, CLAIM)
        if owner.take(_CLAIM_OF_IPV6, description):
            _keep_translating(owner, _CLAIM_OF_IPV6)
    except (NetlinkError, OwnersUnknown) as error:  # a kernel without IPv6, say
        _log.info("connections may be cut when somebody flushes all rules: %s", error)
    return True


def _keep_translating(owner: TableOwner, table: Table) -> None:
    owner.commit(
        [
            (MessageType.NEWCHAIN, codec.NLM_F_CREATE, objects.chain_payload(table, _KEEPER)),
            (MessageType.NEWRULE, _APPEND, objects.rule_payload(table, _KEEPER.name, _ASKS_CONNTRACK)),
        ]
    )


def _process() -> str:
    return f"pid {os.getpid()} in {_pid_namespace()}"


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _seen_from_here(holder: str) -> str:
    """Pids are worth something within their namespace only; which one that is need not be said about our own."""
    return holder.replace(f" in {_pid_namespace()}", "", 1)

"""What a proxy mode must be able to do: one family of one node's Services in the kernel.

    ProxierError
    └── UnsupportedMode    this kernel, or this installation, cannot do it

A mode may raise NetlinkError and OSError as well, where it is the kernel that refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import Change, Forwarding, ForwardingTable, NodeFacts, ServicePortName
from nodeport.netlink.codec import NetlinkError


class ProxierError(Exception):
    """A mode could not read or program the kernel."""


class UnsupportedMode(ProxierError):
    """The mode cannot be had here; the text says what is missing."""


FAILURES: Final = (ProxierError, NetlinkError, OSError)
"""What a proxier may raise; anything else is a bug."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Where the kernel is not what the table wants; ``packet``: one that would notice, when one was found.

    ``story``: who sends it to whom, what the table says about it, and what the kernel does with it.
    """

    where: str
    wanted: str
    found: str
    packet: Packet | None = None
    story: str = ""

    def __str__(self) -> str:
        noticed = self.story or "no packet was found that fares differently"
        return f"{self.where}: wanted {self.wanted}, found {self.found}; {noticed}"


class SlotMemory(Protocol):
    """Where endpoints sat in the kernel when it was read."""

    def settle(self, name: ServicePortName, forwarding: Forwarding) -> Forwarding:
        """``forwarding`` with every endpoint in the slot where the kernel already has it."""


class NoSlots:
    """The memory of a kernel that has nothing of ours, and of modes in which places do not matter."""

    def settle(self, name: ServicePortName, forwarding: Forwarding) -> Forwarding:
        return forwarding


@runtime_checkable
class CountsElements(Protocol):
    """A proxier that knows, without asking the kernel, how much it has there."""

    def sizes(self) -> Mapping[str, int]:
        """By set, chain or table: what the mode calls its parts."""


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """Of one table of iptables: rules that are there, and rules that were written last."""

    total: int
    last: int


@runtime_checkable
class CountsRules(Protocol):
    """A proxier whose parts are rules, and that knows how many it has without asking the kernel."""

    def rule_counts(self) -> Mapping[str, RuleCounts]:
        """By table. May be asked from any thread."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one Service port: what clients sent to it, and what it answered."""

    packets_to: int = 0
    bytes_to: int = 0
    packets_from: int = 0
    bytes_from: int = 0


@runtime_checkable
class CountsTraffic(Protocol):
    """A proxier that counts packets and bytes."""

    def traffic(self) -> Mapping[ServicePortName, Traffic]:
        """Asks the kernel: a listing. Raises ``FAILURES``."""


class Proxier(Protocol):
    """``resync`` first; then ``apply`` for every change. All methods are synchronous and raise ``FAILURES``."""

    def slots(self) -> SlotMemory:
        """Where the kernel's endpoints sit now: a restarted proxy leaves them there."""

    def resync(self, table: ForwardingTable, node: NodeFacts) -> int:
        """Reads the kernel and sends what differs from ``table``; returns how much that was (0: all was well)."""

    def apply(self, changes: Sequence[Change], node: NodeFacts) -> int:
        """Sends what ``changes`` change, all or nothing; returns how much that was. When it raises, resync."""

    def is_undisturbed(self) -> bool:
        """Whether nobody but us can have changed anything since the last look; cheap enough for twice a second."""

    def is_intact(self) -> bool:
        """Whether what is ours is as we left it; may cost a listing."""

    def remove(self) -> None:
        """Takes away everything of this mode and family, whoever made it."""

    def verify(self, table: ForwardingTable, node: NodeFacts) -> list[Discrepancy]:
        """Compares all of the kernel with ``table`` and changes nothing; empty: they say the same."""

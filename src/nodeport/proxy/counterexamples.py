"""A difference between what a kernel should hold and what it holds, told with a packet that notices it. Pure.

Every mode's ``verify`` tells its differences here; what a difference is, and which packets to try, is the mode's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from nodeport.forwarding.decide import Packet
from nodeport.proxy.proxier import Discrepancy
from nodeport.proxy.questions import Fate, Questions, answers


@dataclass(frozen=True, slots=True)
class Difference:
    """``packets``: those that may notice it, the likeliest first."""

    where: str
    wanted: str
    found: str
    packets: Iterable[Packet]


@dataclass(frozen=True, slots=True)
class Counterexamples:
    """``wanted``: all that may become of a packet; ``there``: what does, or what keeps that from being told.

    ``most``: so many packets are tried for one difference; ``None``: all of them.
    """

    questions: Questions
    wanted: Callable[[Packet], frozenset[Fate]]
    there: Callable[[Packet], frozenset[Fate] | str]
    most: int | None = None
    _expected: dict[Packet, frozenset[Fate]] = field(default_factory=dict)

    def tell(self, difference: Difference) -> Discrepancy:
        for packet in islice(difference.packets, self.most):
            expected = self._expected.get(packet)
            if expected is None:
                expected = self._expected[packet] = self.wanted(packet)
            found = self.there(packet)
            if expected != found:
                told = found if isinstance(found, str) else answers(found)
                asked = self.questions.words(packet)
                story = f"{asked}: {answers(expected)} by the table, {told} in the kernel"
                return Discrepancy(difference.where, difference.wanted, difference.found, packet, story)
        return Discrepancy(difference.where, difference.wanted, difference.found)

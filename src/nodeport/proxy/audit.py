"""Comparing all of the kernel with all of the table: by whom, how often, and without being in the way.

The cheap looks of ``Proxier.is_undisturbed`` and ``is_intact`` cannot see one element exchanged for another. An audit
sees everything, and costs as much as reading and rendering everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.table import Family, ForwardingTable, NodeFacts
from nodeport.proxy.modes import open_proxier
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.proxier import Discrepancy

_SHARE: Final = 0.05
"""How much of the time audits may take, however often others disturb us."""


def audit(
    table: ForwardingTable, node: NodeFacts, netns: Path | None, options: ProxyOptions
) -> list[Discrepancy]:
    """In what the kernel of ``netns`` differs from ``table``, in the node's family. For any thread: its connection to
    the kernel is its own. Raises ``proxier.FAILURES``.
    """
    with open_proxier(options.mode, node.family, netns, options) as proxier:
        return proxier.verify(table, node)


def verify_node(
    services: Iterable[tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]],
    nodes: Mapping[Family, NodeFacts],
    netns: Path | None,
    options: ProxyOptions,
) -> dict[Family, list[Discrepancy]]:
    """Holds the kernel of ``netns`` against API objects: ``services`` are Services with their EndpointSlices.

    For somebody who is not the proxy, so that endpoints are taken to sit where the kernel has them. Raises
    ``proxier.FAILURES``.
    """
    given = [(service, list(slices)) for service, slices in services]
    found: dict[Family, list[Discrepancy]] = {}
    for family, node in nodes.items():
        with open_proxier(options.mode, family, netns, options) as proxier:
            memory, table = proxier.slots(), ForwardingTable()
            for service, slices in given:
                built = build_service(service, slices, node, options.forwarding)
                settled = {name: memory.settle(name, forwarding) for name, forwarding in built.items()}
                table.replace(NamespacedName.of(service), settled)
            found[family] = proxier.verify(table, node)
    return found


@dataclass(slots=True)
class AuditSchedule:
    """When the next audit is due: every ``interval``, and soon after a disturbance. Times are monotonic seconds.

    One disturbance is looked into at once. Under one after the other, audits wait so long that they never take more
    than their share of the time.
    """

    interval: timedelta
    started: float
    _suspicious: bool = False
    _rest_until: float = field(default=0.0)

    def disturbed(self) -> None:
        """Somebody committed something; what is ours may have been changed."""
        self._suspicious = True

    def is_due(self, now: float) -> bool:
        if self._suspicious:
            return now >= self._rest_until
        return now - self.started >= self.interval.total_seconds()

    def begin(self, now: float) -> None:
        self.started = now
        self._suspicious = False

    def end(self, now: float) -> None:
        self._rest_until = now + (now - self.started) / _SHARE

"""From one proxy mode to another under live traffic, and taking what other modes left.

The new mode is programmed first, the old one is taken away after: while both are there, the kernel translates a
connection once, by whichever it asks first, and both say the same. Established connections live in conntrack and need
neither; those that IPVS carries live there, and go on until they end.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nodeport.forwarding.table import Family
from nodeport.kit.logs import get_logger
from nodeport.proxy.modes import drain_mode
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.proxier import FAILURES

_log = get_logger(__name__)


def remove_others(
    mode: Mode, families: Collection[Family], netns: Path | None, options: ProxyOptions
) -> bool:
    """Takes away what any other mode, or ``mode`` in any other family, has in the kernel; ``None``: this namespace.

    For after the first programming. False while connections go on that need something of another mode: call again. A
    mode that cannot be had here has left nothing; one that fails to go is logged, since the node's traffic is well
    without.
    """
    done = True
    for other in Mode:
        for family in Family:
            if other is mode and family in families:
                continue
            try:
                done &= drain_mode(other, family, netns, options)
            except FAILURES as error:
                _log.warning("cannot take away what mode %s has in %s: %s", other, family, error)
    return done

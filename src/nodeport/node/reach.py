"""How a node reaches one run of a container: from the network, and by commands inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

from nodeport.node.webget import Dialer

Execute = Callable[[Sequence[str], timedelta], Awaitable[tuple[int, str]]]
"""(exit code, output) of a command inside. Raises TimeoutError, and OSError when it could not be run."""


@dataclass(frozen=True, slots=True)
class Reach:
    """``address``: the pod's."""

    dialer: Dialer
    address: IPv4Address | IPv6Address
    execute: Execute

"""The options of ``nodeport agent`` that say how its pods reach those of other machines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from nodeport.node.podnetwork.plan import DEFAULT_PORT, DEFAULT_VNI, MOST_VNI, Mode, Way


def pod_network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them; the command is given ``way``."""

    @click.option(
        "--pod-network", type=click.Choice([mode.value for mode in Mode]), default=Mode.ROUTES.value,
        show_default=True,
        help="How pods reach those of other machines: plain routes, for machines on one subnet (flannel: host-gw), or"
        " a VXLAN, also through routers. The same on all machines.",
    )  # fmt: skip
    @click.option(
        "--vxlan-vni", type=click.IntRange(1, MOST_VNI), default=DEFAULT_VNI, show_default=True,
        help="The VXLAN's network identifier.",
    )  # fmt: skip
    @click.option(
        "--vxlan-port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True,
        help="The VXLAN's UDP port. Keep it between the nodes: VXLAN knows no authentication.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_way(pod_network: str, vxlan_vni: int, vxlan_port: int, **others: Any) -> Any:
        return command(way=Way(Mode(pod_network), vxlan_vni, vxlan_port), **others)

    return with_way

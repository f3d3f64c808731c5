"""What a pod needs of its node: amounts of resources, and ports. Pure.

Rule source: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/ and
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import parse_quantity

ANYWHERE = "0.0.0.0"

Resources = dict[str, int]
"""Amounts by resource name, in thousandths: of a core, a byte, a pod."""

HostPort = tuple[str, str, int]
"""(address, protocol, port) on the node; the address is ``ANYWHERE`` for all."""


@lru_cache(maxsize=4096)
def amount(text: str) -> int:
    """Rounded up, as Kubernetes rounds what is finer than a thousandth."""
    return math.ceil(parse_quantity(text) * 1000)


def requests_of(pod: JsonObject, assumed: Mapping[str, int] | None = None) -> Resources:
    """What the pod needs at its busiest moment, ``overhead`` included.

    Sidecars (init containers with ``restartPolicy: Always``) run beside the containers and beside every init
    container that starts after them. ``assumed``: what a container that requests none of a resource counts for.
    """
    spec = pod["spec"]
    running: Resources = defaultdict(int)  # sidecars started so far
    busiest: Resources = defaultdict(int)  # the most that any moment of initialisation takes
    for container in spec.get("initContainers") or ():
        asked = _requested(container, assumed)
        moment = _added(running, asked)
        if container.get("restartPolicy") == "Always":
            running = moment
        for name, needed in moment.items():
            busiest[name] = max(busiest[name], needed)
    for container in spec.get("containers") or ():
        running = _added(running, _requested(container, assumed))
    names = {*running, *busiest}
    total = {name: max(running.get(name, 0), busiest.get(name, 0)) for name in names}
    whole = (spec.get("resources") or {}).get("requests") or {}  # a pod's own say replaces its containers'
    total |= {name: amount(str(text)) for name, text in whole.items()}
    return dict(
        _added(total, {name: amount(str(text)) for name, text in (spec.get("overhead") or {}).items()})
    )


def _requested(container: JsonObject, assumed: Mapping[str, int] | None) -> Resources:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {**(assumed or {}), **{name: amount(str(text)) for name, text in requests.items()}}


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> Resources:
    total: Resources = defaultdict(int, one)
    for name, more in other.items():
        total[name] += more
    return total


def host_ports_of(pod: JsonObject) -> tuple[HostPort, ...]:
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return tuple(
        (port.get("hostIP") or ANYWHERE, port.get("protocol") or "TCP", port["hostPort"])
        for container in [*(spec.get("containers") or ()), *sidecars]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def clash(one: HostPort, other: HostPort) -> bool:
    """Whether no two pods of a node can have both."""
    return one[1:] == other[1:] and (one[0] == other[0] or ANYWHERE in (one[0], other[0]))

"""Which node a pod goes to: pure, given the picture of the cluster."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.controllers.scheduler.filters import why_not
from nodeport.controllers.scheduler.nodes import ClusterState, NodeState, Wanted, owner_of


@dataclass(frozen=True, slots=True)
class Choice:
    """``node`` is empty when none fits; ``message`` then says why, as kube-scheduler words it."""

    node: str
    message: str = ""


def choose(pod: JsonObject, cluster: ClusterState) -> Choice:
    """Of the nodes that fit, the one with the fewest pods of the same owner, then with the fewest pods."""
    reasons: Counter[str] = Counter()
    fitting: list[NodeState] = []
    wanted = Wanted.of(pod)
    for state in cluster.nodes.values():
        reason = why_not(wanted, state, cluster)
        if reason:
            reasons[reason] += 1
        else:
            fitting.append(state)
    if not fitting:
        return Choice("", _explain(len(cluster.nodes), reasons))
    owner = owner_of(pod)
    seed = pod["metadata"].get("uid") or ""
    best = min(fitting, key=lambda state: (state.owners[owner], len(state.pods), _shuffle(seed, state)))
    return Choice(best.name)


def _shuffle(seed: str, state: NodeState) -> int:
    """Breaks ties differently for each pod but always the same way for one."""
    return zlib.crc32(f"{seed}/{state.name}".encode())


def _explain(count: int, reasons: Counter[str]) -> str:
    if not count:
        return "no nodes available to schedule pods"
    told = sorted(f"{number} {reason}" for reason, number in reasons.items())
    return f"0/{count} nodes are available: {', '.join(told)}."

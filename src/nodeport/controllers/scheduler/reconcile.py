"""Which node a pod goes to: pure, given the picture of the cluster."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.selectors import LabelSelector
from nodeport.controllers.scheduler.filters import Filters
from nodeport.controllers.scheduler.nodes import ClusterState, NodeState
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.controllers.scheduler.preemption import explain
from nodeport.controllers.scheduler.scores import score


@dataclass(frozen=True, slots=True)
class Choice:
    """``node`` is empty when none fits; ``message`` then says why, as kube-scheduler words it, and ``hopeful`` are the
    nodes that might fit without some of their pods.
    """

    node: str
    message: str = ""
    hopeful: tuple[str, ...] = ()


def choose(pod: JsonObject, cluster: ClusterState, services: LabelSelector | None = None) -> Choice:
    """Of the nodes that fit the one with the best score, then with the fewest pods.

    ``services``: what the Services that select the pod select together; None for none.
    """
    reasons: Counter[str] = Counter()
    fitting: list[NodeState] = []
    hopeful: list[str] = []
    wanted = PodInfo.of(pod)
    filters = Filters.of(wanted, cluster)
    for state in cluster.nodes.values():
        misfit = filters.why_not(state)
        if not misfit.reasons:
            fitting.append(state)
            continue
        reasons.update(misfit.reasons)
        if not misfit.is_final:
            hopeful.append(state.name)
    if not fitting:
        return Choice("", explain(len(cluster.nodes), reasons), tuple(hopeful))
    seed = pod["metadata"].get("uid") or ""
    scores = score(wanted, fitting, cluster, services) if len(fitting) > 1 else [0]
    _, _, _, best = min(
        (-points, len(state.pods), _shuffle(seed, state), state.name)
        for points, state in zip(scores, fitting, strict=True)
    )
    return Choice(best)


def _shuffle(seed: str, state: NodeState) -> int:
    """Breaks ties differently for each pod but always the same way for one."""
    return zlib.crc32(f"{seed}/{state.name}".encode())

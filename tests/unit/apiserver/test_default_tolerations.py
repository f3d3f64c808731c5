"""How long pods that say nothing stay on a node that failed."""

from __future__ import annotations

import random

from nodeport.api.meta import JsonObject
from nodeport.apiserver.strategies.pods import PodStrategy, Tolerated


def seconds(strategy: PodStrategy, *tolerations: JsonObject) -> dict[str, int | None]:
    pod: JsonObject = {"metadata": {"name": "web"}, "spec": {"tolerations": [*tolerations]}}
    strategy.begin_create_defaults(pod)
    return {each.get("key", ""): each.get("tolerationSeconds") for each in pod["spec"]["tolerations"]}


def test_they_stay_as_long_as_the_server_was_told() -> None:
    rng = random.Random(1)
    usual = {"node.kubernetes.io/not-ready": 300, "node.kubernetes.io/unreachable": 300}
    assert seconds(PodStrategy(rng)) == usual
    told = PodStrategy(rng, Tolerated(not_ready=0, unreachable=9))
    assert seconds(told) == {"node.kubernetes.io/not-ready": 0, "node.kubernetes.io/unreachable": 9}


def test_a_pod_that_says_something_is_believed() -> None:
    told = PodStrategy(random.Random(1), Tolerated(1, 1))
    assert seconds(told, {"operator": "Exists"}) == {"": None}

"""Room that is kept for a pod until those that were driven away for it have gone."""

from __future__ import annotations

from nodeport.api.meta import NamespacedName
from nodeport.controllers.scheduler.nominees import Nominees
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.controllers.scheduler.reconcile import choose
from unit.controllers.scheduling import asking, cluster, node, pod

STRONG = PodInfo.of(pod("strong", priority=10, containers=asking(cpu="2")["spec"]["containers"]))
KEY = NamespacedName("ns", "strong")


def test_kept_room_is_taken_for_the_less_and_the_equally_important_but_not_for_the_more_important() -> None:
    state = cluster(node("a"))
    nominees = Nominees(state)
    nominees.set(KEY, STRONG, "a")
    fits = {}
    for priority in (9, 10, 11):
        with nominees.counted(NamespacedName("ns", "other"), priority):
            fits[priority] = bool(choose(asking("other", cpu="1"), state).node)
    assert fits == {9: False, 10: False, 11: True}
    assert state.placement(KEY) is None
    assert not state.nodes["a"].pods


def test_kept_room_is_there_for_whom_it_is_kept() -> None:
    state = cluster(node("a"))
    nominees = Nominees(state)
    nominees.set(KEY, STRONG, "a")
    with nominees.counted(KEY, 10):
        assert choose(STRONG.pod, state).node == "a"
    nominees.drop(KEY)
    with nominees.counted(NamespacedName("ns", "other"), 0):
        assert choose(asking("other", cpu="1"), state).node == "a"


def test_a_pod_waits_for_its_victims_and_for_all_weaker_ones_that_leave() -> None:
    victim, leaving, staying = pod("victim"), pod("leaving"), pod("staying")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    state = cluster(node("a"), placed={"a": [victim, leaving, staying]})
    nominees = Nominees(state)
    assert not nominees.is_waiting(KEY)
    nominees.set(KEY, STRONG, "a", [PodInfo.of(victim)])
    for name in ("victim", "leaving"):
        assert nominees.is_waiting(KEY)
        state.remove(NamespacedName("ns", name))
    assert not nominees.is_waiting(KEY)
    again = pod("victim")
    again["metadata"]["uid"] = "another"
    state.place(NamespacedName("ns", "victim"), again, "a")
    assert not nominees.is_waiting(KEY)

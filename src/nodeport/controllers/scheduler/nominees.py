"""Pods for which others were driven away: their room is kept until they take it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nodeport.api.meta import NamespacedName
from nodeport.client.cache import uid
from nodeport.controllers.scheduler.nodes import ClusterState
from nodeport.controllers.scheduler.podinfo import PodInfo


@dataclass(frozen=True, slots=True)
class _Nominee:
    info: PodInfo
    node: str
    victims: frozenset[str]


class Nominees:
    """``cluster`` is the picture in which they are counted."""

    def __init__(self, cluster: ClusterState) -> None:
        self._cluster = cluster
        self._all: dict[NamespacedName, _Nominee] = {}

    def node(self, key: NamespacedName) -> str:
        """Where room is kept for the pod; empty for nowhere."""
        nominee = self._all.get(key)
        return "" if nominee is None else nominee.node

    def set(self, key: NamespacedName, info: PodInfo, node: str, victims: Iterable[PodInfo] = ()) -> None:
        self._all[key] = _Nominee(info, node, frozenset(uid(victim.pod) for victim in victims))

    def drop(self, key: NamespacedName) -> None:
        self._all.pop(key, None)

    @contextmanager
    def counted(self, key: NamespacedName, priority: int) -> Iterator[None]:
        """While a pod is looked at, those that are as important as it take room as if they were there."""
        added = [
            (other, nominee)
            for other, nominee in self._all.items()
            if other != key and nominee.info.priority >= priority and self._cluster.placement(other) is None
        ]
        for other, nominee in added:
            self._cluster.put(other, nominee.info, nominee.node)
        try:
            yield
        finally:
            for other, _ in added:
                self._cluster.remove(other)

    def is_waiting(self, key: NamespacedName) -> bool:
        """Whether somebody is still about to go for this pod."""
        nominee = self._all.get(key)
        state = self._cluster.nodes.get(nominee.node) if nominee is not None else None
        if nominee is None or state is None:
            return False
        return any(
            uid(info.pod) in nominee.victims or (info.leaving and info.priority < nominee.info.priority)
            for info in state.pods.values()
        )

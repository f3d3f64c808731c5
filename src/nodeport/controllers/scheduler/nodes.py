"""The scheduler's picture of the nodes: what runs where, including what was only just decided."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from nodeport.api.meta import JsonObject, NamespacedName, controller_of
from nodeport.api.quantity import parse_quantity
from nodeport.controllers.selection import is_finished

Resources = dict[str, int]
"""Amounts by resource name, in thousandths: of a core, a byte, a pod."""

HostPort = tuple[str, str, int]


@lru_cache(maxsize=4096)
def _amount(text: str) -> int:
    """Rounded up, as Kubernetes rounds what is finer than a thousandth."""
    return math.ceil(parse_quantity(text) * 1000)


def requests_of(pod: JsonObject) -> Resources:
    """What the pod's containers ask for together, or its greediest init container if that is more."""
    total: Resources = defaultdict(int)
    spec = pod["spec"]
    for container in spec.get("containers") or ():
        for name, text in _requested(container).items():
            total[name] += _amount(str(text))
    for container in spec.get("initContainers") or ():
        for name, text in _requested(container).items():
            total[name] = max(total[name], _amount(str(text)))
    return dict(total)


def _requested(container: JsonObject) -> JsonObject:
    return (container.get("resources") or {}).get("requests") or {}


def host_ports_of(pod: JsonObject) -> list[HostPort]:
    """(address, protocol, port) on the node; the address is 0.0.0.0 for all."""
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod to be placed, with what every node is asked for, worked out once."""

    pod: JsonObject
    requests: Resources
    host_ports: list[HostPort]
    anti_affinity: list[JsonObject]
    affinity: list[JsonObject]

    @classmethod
    def of(cls, pod: JsonObject) -> Wanted:
        return cls(
            pod,
            requests_of(pod),
            host_ports_of(pod),
            required_terms(pod, "podAntiAffinity"),
            required_terms(pod, "podAffinity"),
        )


def required_terms(pod: JsonObject, kind: str) -> list[JsonObject]:
    """The terms of ``podAffinity`` or ``podAntiAffinity`` that must hold."""
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    return affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []


def owner_of(pod: JsonObject) -> str:
    reference = controller_of(pod)
    return str(reference["uid"]) if reference is not None else ""


@dataclass(slots=True)
class NodeState:
    """One node and what is placed on it."""

    node: JsonObject
    pods: dict[NamespacedName, JsonObject] = field(default_factory=dict)
    owners: Counter[str] = field(default_factory=Counter)
    used: Resources = field(default_factory=lambda: defaultdict(int))
    ports: Counter[HostPort] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    def add(self, key: NamespacedName, pod: JsonObject) -> None:
        self.pods[key] = pod
        self._count(pod, 1)

    def remove(self, key: NamespacedName) -> None:
        pod = self.pods.pop(key, None)
        if pod is not None:
            self._count(pod, -1)

    def allocatable(self, name: str) -> int | None:
        status = self.node.get("status") or {}
        text = (status.get("allocatable") or status.get("capacity") or {}).get(name)
        return None if text is None else _amount(str(text))

    def _count(self, pod: JsonObject, by: int) -> None:
        owner = owner_of(pod)
        if owner:
            self.owners[owner] += by
            if not self.owners[owner]:
                del self.owners[owner]
        for name, amount in requests_of(pod).items():
            self.used[name] += amount * by
        for port in host_ports_of(pod):
            self.ports[port] += by


class ClusterState:
    """All nodes by name; follows what informers tell, and assumes what was decided until they tell it."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self._placed: dict[NamespacedName, str] = {}
        self._waiting: dict[str, dict[NamespacedName, JsonObject]] = defaultdict(dict)
        self._guarding: dict[NamespacedName, JsonObject] = {}

    def set_node(self, node: JsonObject) -> None:
        name = node["metadata"]["name"]
        state = self.nodes.get(name)
        if state is not None:
            state.node = node
            return
        state = self.nodes[name] = NodeState(node)
        for key, pod in self._waiting.pop(name, {}).items():
            state.add(key, pod)

    def drop_node(self, name: str) -> None:
        state = self.nodes.pop(name, None)
        if state is not None:
            self._waiting[name] = state.pods

    def place(self, key: NamespacedName, pod: JsonObject, node: str) -> None:
        """The pod takes room on ``node``; placing it again replaces what was known of it."""
        self.remove(key)
        if is_finished(pod):
            return
        self._placed[key] = node
        if (pod["spec"].get("affinity") or {}).get("podAntiAffinity"):
            self._guarding[key] = pod
        state = self.nodes.get(node)
        if state is not None:
            state.add(key, pod)
        else:
            self._waiting[node][key] = pod  # its node may be about to appear

    def remove(self, key: NamespacedName) -> None:
        self._guarding.pop(key, None)
        node = self._placed.pop(key, None)
        if node is None:
            return
        state = self.nodes.get(node)
        if state is not None:
            state.remove(key)
        else:
            self._waiting[node].pop(key, None)

    def placement(self, key: NamespacedName) -> str | None:
        return self._placed.get(key)

    def guarding_pods(self) -> Iterable[tuple[NodeState, JsonObject]]:
        """Those that keep others away from where they are."""
        for key, pod in self._guarding.items():
            state = self.nodes.get(self._placed[key])
            if state is not None:
                yield state, pod

    def all_pods(self) -> Iterable[tuple[NodeState, JsonObject]]:
        return ((state, pod) for state in self.nodes.values() for pod in state.pods.values())

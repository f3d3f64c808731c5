"""The scheduler's picture of the cluster: what runs where, including what was only just decided."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nodeport.api.meta import JsonObject, NamespacedName, labels
from nodeport.api.podneeds import HostPort, Resources, amount
from nodeport.controllers import conditions
from nodeport.controllers.scheduler.podinfo import PodInfo
from nodeport.controllers.selection import is_finished

HOSTNAME_LABEL = "kubernetes.io/hostname"
ZONE_LABEL = "topology.kubernetes.io/zone"

_NOT_READY: JsonObject = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class NodeState:
    """One node and what is placed on it."""

    def __init__(self, node: JsonObject) -> None:
        self.pods: dict[NamespacedName, PodInfo] = {}
        self.used: Resources = defaultdict(int)
        self.assumed: Resources = defaultdict(int)
        self.ports: Counter[HostPort] = Counter()
        self.set_node(node)

    def set_node(self, node: JsonObject) -> None:
        self.node = node
        self.name: str = node["metadata"]["name"]
        self.labels: Mapping[str, str] = labels(node)
        self.taints: list[JsonObject] = _taints(node)
        self.is_cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        status = node.get("status") or {}
        offered = status.get("allocatable") or status.get("capacity") or {}
        self.allocatable: Resources = {name: amount(str(text)) for name, text in offered.items()}

    def add(self, key: NamespacedName, pod: PodInfo) -> None:
        self.pods[key] = pod
        self._count(pod, 1)

    def remove(self, key: NamespacedName) -> None:
        pod = self.pods.pop(key, None)
        if pod is not None:
            self._count(pod, -1)

    def _count(self, pod: PodInfo, by: int) -> None:
        for name, needed in pod.requests.items():
            self.used[name] += needed * by
        for name in ("cpu", "memory"):
            self.assumed[name] += pod.assumed.get(name, 0) * by
        for port in pod.host_ports:
            self.ports[port] += by
            if not self.ports[port]:
                del self.ports[port]


def _taints(node: JsonObject) -> list[JsonObject]:
    """A node that is not ready is tainted soon; until it is, it counts as tainted."""
    taints: list[JsonObject] = (node.get("spec") or {}).get("taints") or []
    ready = conditions.find((node.get("status") or {}).get("conditions"), "Ready") or {}
    known = any(
        taint["key"] in (_NOT_READY["key"], "node.kubernetes.io/unreachable")
        and taint.get("effect") == "NoSchedule"
        for taint in taints
    )
    return taints if ready.get("status") == "True" or known else [*taints, _NOT_READY]


@dataclass(slots=True)
class Group:
    """Pods that every rule about other pods takes for the same, and how many of them each node has."""

    sample: PodInfo
    nodes: Counter[str] = field(default_factory=Counter)


class ClusterState:
    """All nodes by name; follows what informers tell, and assumes what was decided until they tell it."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self._placed: dict[NamespacedName, tuple[str, PodInfo]] = {}
        self._waiting: dict[str, dict[NamespacedName, PodInfo]] = defaultdict(dict)
        self._groups: dict[Hashable, Group] = {}

    def set_node(self, node: JsonObject) -> None:
        name = node["metadata"]["name"]
        state = self.nodes.get(name)
        if state is not None:
            state.set_node(node)
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
        if not is_finished(pod):
            self.put(key, PodInfo.of(pod), node)

    def put(self, key: NamespacedName, info: PodInfo, node: str) -> None:
        """A pod that is nowhere takes room on ``node``."""
        self._placed[key] = (node, info)
        self._groups.setdefault(info.group, Group(info)).nodes[node] += 1
        state = self.nodes.get(node)
        if state is not None:
            state.add(key, info)
        else:
            self._waiting[node][key] = info  # its node may be about to appear

    def remove(self, key: NamespacedName) -> None:
        node, info = self._placed.pop(key, ("", None))
        if info is None:
            return
        self._leave_group(info, node)
        state = self.nodes.get(node)
        if state is not None:
            state.remove(key)
        else:
            self._waiting[node].pop(key, None)
            if not self._waiting[node]:
                del self._waiting[node]

    def _leave_group(self, info: PodInfo, node: str) -> None:
        group = self._groups[info.group]
        group.nodes[node] -= 1
        if not group.nodes[node]:
            del group.nodes[node]
        if not group.nodes:
            del self._groups[info.group]

    def placement(self, key: NamespacedName) -> str | None:
        found = self._placed.get(key)
        return None if found is None else found[0]

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        return self.namespaces.get(name) or {}

    def groups(self) -> Iterable[Group]:
        return self._groups.values()

    def located(self, group: Group) -> Iterator[tuple[NodeState, int]]:
        """On which known nodes a group's pods are, and how many."""
        for name, count in group.nodes.items():
            state = self.nodes.get(name)
            if state is not None:
                yield state, count

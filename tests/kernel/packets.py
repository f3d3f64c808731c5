"""The packet suite as data: who sends, to which frontend, which policy, which endpoints exist, what must happen.

``test_packet_suite`` runs every row through the oracle, through what a mode
rendered, and as real packets; ``tools/make_semantics.py`` makes the documentation of it.

The table below is read column by column as a person would write it. In a cell: ``L`` the endpoint on the node that
the packet enters answers, ``R`` the one on the other node; a star means that the endpoint sees the node's address
instead of the sender's; ``reject`` is refused at once, ``drop`` is never answered.

Rules: kube-proxy's endpoint choice and traffic policies, with one difference that is ours on purpose: towards local
endpoints the sender's address is kept, because the reply passes this node anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Sender(Enum):
    POD = "pod"
    """A pod on the node that is asked, not itself an endpoint."""
    ENDPOINT = "endpoint"
    """The local endpoint itself: what comes back to it is a hairpin."""
    NODE = "node"
    OUTSIDE = "outside"
    REMOTE_POD = "remote-pod"
    """A pod of the other node, asking this one: an outsider here."""


class FrontendKind(Enum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    EXTERNAL_IP = "ExternalIP"
    LOAD_BALANCER_IP = "LoadBalancerIP"
    """An address of the load balancer that is delivered to the node as it is (ipMode VIP)."""


class Policy(Enum):
    CLUSTER = "Cluster"
    LOCAL = "Local"


class Situation(Enum):
    """Which endpoints the Service has."""

    NONE = "none"
    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"
    UNREADY = "unready"
    """One on each node, neither ready nor serving."""
    ENDING = "ending"
    """One on each node, both terminating but still serving."""
    HANDOVER = "handover"
    """The local one is terminating and serving, the remote one is ready."""


def index(policy: Policy, situation: Situation) -> int:
    """The number of the one Service with this policy and these endpoints."""
    return 1 + list(Policy).index(policy) * len(Situation) + list(Situation).index(situation)


@dataclass(frozen=True)
class Row:
    sender: Sender
    frontend: FrontendKind
    policy: Policy
    situation: Situation
    expected: str
    """``reject``, ``drop``, or the endpoints that may answer, such as ``L R*``."""

    @property
    def number(self) -> int:
        """Of the Service, among all of the suite."""
        return index(self.policy, self.situation)

    def __str__(self) -> str:
        names = (self.sender, self.frontend, self.policy, self.situation)
        return "-".join(name.value for name in names)


_TABLE = """
sender      frontend        policy   none    local  remote  both     unready  ending   handover
pod         ClusterIP       Cluster  reject  L      R       L R      reject   L R      R
pod         ClusterIP       Local    reject  L      drop    L        reject   L        L
pod         NodePort        Cluster  reject  L      R*      L R*     reject   L R*     R*
pod         NodePort        Local    reject  L      R       L R      reject   L R      R
pod         ExternalIP      Cluster  reject  L      R*      L R*     reject   L R*     R*
pod         ExternalIP      Local    reject  L      R       L R      reject   L R      R
pod         LoadBalancerIP  Cluster  reject  L      R*      L R*     reject   L R*     R*
pod         LoadBalancerIP  Local    reject  L      R       L R      reject   L R      R

endpoint    ClusterIP       Cluster  reject  L*     R       L* R     reject   L* R     R
endpoint    ClusterIP       Local    reject  L*     drop    L*       reject   L*       L*
endpoint    NodePort        Cluster  reject  L*     R*      L* R*    reject   L* R*    R*
endpoint    NodePort        Local    reject  L*     R       L* R     reject   L* R     R
endpoint    ExternalIP      Cluster  reject  L*     R*      L* R*    reject   L* R*    R*
endpoint    ExternalIP      Local    reject  L*     R       L* R     reject   L* R     R
endpoint    LoadBalancerIP  Cluster  reject  L*     R*      L* R*    reject   L* R*    R*
endpoint    LoadBalancerIP  Local    reject  L*     R       L* R     reject   L* R     R

node        ClusterIP       Cluster  reject  L      R*      L R*     reject   L R*     R*
node        ClusterIP       Local    reject  L      drop    L        reject   L        L
node        NodePort        Cluster  reject  L      R*      L R*     reject   L R*     R*
node        NodePort        Local    reject  L      R*      L R*     reject   L R*     R*
node        ExternalIP      Cluster  reject  L      R*      L R*     reject   L R*     R*
node        ExternalIP      Local    reject  L      R*      L R*     reject   L R*     R*
node        LoadBalancerIP  Cluster  reject  L      R*      L R*     reject   L R*     R*
node        LoadBalancerIP  Local    reject  L      R*      L R*     reject   L R*     R*

outside     ClusterIP       Cluster  reject  L      R*      L R*     reject   L R*     R*
outside     ClusterIP       Local    reject  L      drop    L        reject   L        L
outside     NodePort        Cluster  reject  L      R*      L R*     reject   L R*     R*
outside     NodePort        Local    reject  L      drop    L        reject   L        L
outside     ExternalIP      Cluster  reject  L      R*      L R*     reject   L R*     R*
outside     ExternalIP      Local    reject  L      drop    L        reject   L        L
outside     LoadBalancerIP  Cluster  reject  L      R*      L R*     reject   L R*     R*
outside     LoadBalancerIP  Local    reject  L      drop    L        reject   L        L

remote-pod  ClusterIP       Cluster  reject  L      R*      L R*     reject   L R*     R*
remote-pod  ClusterIP       Local    reject  L      drop    L        reject   L        L
remote-pod  NodePort        Cluster  reject  L      R*      L R*     reject   L R*     R*
remote-pod  NodePort        Local    reject  L      drop    L        reject   L        L
remote-pod  ExternalIP      Cluster  reject  L      R*      L R*     reject   L R*     R*
remote-pod  ExternalIP      Local    reject  L      drop    L        reject   L        L
remote-pod  LoadBalancerIP  Cluster  reject  L      R*      L R*     reject   L R*     R*
remote-pod  LoadBalancerIP  Local    reject  L      drop    L        reject   L        L
"""


def _read(table: str) -> list[Row]:
    """Cells are separated by two spaces or more."""
    lines = [line for line in table.splitlines() if line.strip()]
    situations = [Situation(name) for name in lines[0].split()[3:]]
    rows = []
    for line in lines[1:]:
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        sender, frontend, policy = Sender(cells[0]), FrontendKind(cells[1]), Policy(cells[2])
        for situation, expected in zip(situations, cells[3:], strict=True):
            rows.append(Row(sender, frontend, policy, situation, expected))
    return rows


ROWS = _read(_TABLE)

"""More rows for the packet suite: what one field of a Service, or of its slices, does to every sender and frontend.

Each aspect is one Service with a ready endpoint on either node. The cells are those of ``packets``; ``L|R*`` is one of
the two, and always the same; ``pass`` is nobody's business, and left to the rest of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kernel.packets import FrontendKind, Sender


class Aspect(Enum):
    INTERNAL_LOCAL = "internalTrafficPolicy Local alone"
    EXTERNAL_LOCAL = "externalTrafficPolicy Local alone"
    RANGES_CLIENT = "loadBalancerSourceRanges with the client"
    RANGES_NODE = "loadBalancerSourceRanges with the node"
    RANGES_NODEPORT = "nodeport/source-ranges with the client"
    AFFINITY = "sessionAffinity ClientIP"
    ZONE_HERE = "hints for zones: the local one for ours"
    ZONE_ELSEWHERE = "hints for zones: the remote one for ours"
    ZONE_PARTLY = "hints for zones on the local one only"
    NODE_HERE = "hints for nodes: the local one for us"
    LOCAL_AND_ZONE = "both policies Local, hints: the remote one for ours"
    IP_MODE_PROXY = "ipMode Proxy"


@dataclass(frozen=True)
class AspectRow:
    aspect: Aspect
    sender: Sender
    frontend: FrontendKind
    expected: str

    @property
    def number(self) -> int:
        """Of the Service, among all of the suite."""
        return 100 + list(Aspect).index(self.aspect)

    def __str__(self) -> str:
        return f"{self.aspect.name.lower()}-{self.sender.value}-{self.frontend.value}"


_TABLE = """
aspect           sender      ClusterIP  NodePort  ExternalIP  LoadBalancerIP
INTERNAL_LOCAL   pod         L          L R*      L R*        L R*
INTERNAL_LOCAL   endpoint    L*         L* R*     L* R*       L* R*
INTERNAL_LOCAL   node        L          L R*      L R*        L R*
INTERNAL_LOCAL   outside     L          L R*      L R*        L R*
INTERNAL_LOCAL   remote-pod  L          L R*      L R*        L R*

EXTERNAL_LOCAL   pod         L R        L R       L R         L R
EXTERNAL_LOCAL   endpoint    L* R       L* R      L* R        L* R
EXTERNAL_LOCAL   node        L R*       L R*      L R*        L R*
EXTERNAL_LOCAL   outside     L R*       L         L           L
EXTERNAL_LOCAL   remote-pod  L R*       L         L           L

RANGES_CLIENT    pod         L R        L R*      L R*        drop
RANGES_CLIENT    endpoint    L* R       L* R*     L* R*       drop
RANGES_CLIENT    node        L R*       L R*      L R*        drop
RANGES_CLIENT    outside     L R*       L R*      L R*        L R*
RANGES_CLIENT    remote-pod  L R*       L R*      L R*        drop

RANGES_NODE      pod         L R        L R*      L R*        drop
RANGES_NODE      endpoint    L* R       L* R*     L* R*       drop
RANGES_NODE      node        L R*       L R*      L R*        L R*
RANGES_NODE      outside     L R*       L R*      L R*        drop
RANGES_NODE      remote-pod  L R*       L R*      L R*        drop

RANGES_NODEPORT  pod         L R        drop      L R*        L R*
RANGES_NODEPORT  endpoint    L* R       drop      L* R*       L* R*
RANGES_NODEPORT  node        L R*       L R*      L R*        L R*
RANGES_NODEPORT  outside     L R*       L R*      L R*        L R*
RANGES_NODEPORT  remote-pod  L R*       drop      L R*        L R*

AFFINITY         pod         L|R        L|R*      L|R*        L|R*
AFFINITY         endpoint    L*|R       L*|R*     L*|R*       L*|R*
AFFINITY         node        L|R*       L|R*      L|R*        L|R*
AFFINITY         outside     L|R*       L|R*      L|R*        L|R*
AFFINITY         remote-pod  L|R*       L|R*      L|R*        L|R*

ZONE_HERE        pod         L          L         L           L
ZONE_HERE        endpoint    L*         L*        L*          L*
ZONE_HERE        node        L          L         L           L
ZONE_HERE        outside     L          L         L           L
ZONE_HERE        remote-pod  L          L         L           L

ZONE_ELSEWHERE   pod         R          R*        R*          R*
ZONE_ELSEWHERE   endpoint    R          R*        R*          R*
ZONE_ELSEWHERE   node        R*         R*        R*          R*
ZONE_ELSEWHERE   outside     R*         R*        R*          R*
ZONE_ELSEWHERE   remote-pod  R*         R*        R*          R*

ZONE_PARTLY      pod         L R        L R*      L R*        L R*
ZONE_PARTLY      endpoint    L* R       L* R*     L* R*       L* R*
ZONE_PARTLY      node        L R*       L R*      L R*        L R*
ZONE_PARTLY      outside     L R*       L R*      L R*        L R*
ZONE_PARTLY      remote-pod  L R*       L R*      L R*        L R*

NODE_HERE        pod         L          L         L           L
NODE_HERE        endpoint    L*         L*        L*          L*
NODE_HERE        node        L          L         L           L
NODE_HERE        outside     L          L         L           L
NODE_HERE        remote-pod  L          L         L           L

LOCAL_AND_ZONE   pod         L          R         R           R
LOCAL_AND_ZONE   endpoint    L*         R         R           R
LOCAL_AND_ZONE   node        L          R*        R*          R*
LOCAL_AND_ZONE   outside     L          L         L           L
LOCAL_AND_ZONE   remote-pod  L          L         L           L

IP_MODE_PROXY    pod         L R        L R*      L R*        pass
IP_MODE_PROXY    endpoint    L* R       L* R*     L* R*       pass
IP_MODE_PROXY    node        L R*       L R*      L R*        pass
IP_MODE_PROXY    outside     L R*       L R*      L R*        pass
IP_MODE_PROXY    remote-pod  L R*       L R*      L R*        pass
"""


def _read(table: str) -> list[AspectRow]:
    """Cells are separated by two spaces or more."""
    lines = [line for line in table.splitlines() if line.strip()]
    frontends = [FrontendKind(name) for name in lines[0].split()[2:]]
    rows = []
    for line in lines[1:]:
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        aspect, sender = Aspect[cells[0]], Sender(cells[1])
        for frontend, expected in zip(frontends, cells[2:], strict=True):
            rows.append(AspectRow(aspect, sender, frontend, expected))
    return rows


ASPECT_ROWS = _read(_TABLE)

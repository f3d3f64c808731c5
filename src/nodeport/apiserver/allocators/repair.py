"""At start: the guard keys, the Services and the fast views must tell one story.

Guard keys and Services are written together, so a difference means that someone else wrote to the store, or that an
older version did. Services are the truth: a number that none of them names is freed, one that is named is taken.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from nodeport.api.meta import JsonObject
from nodeport.api.resources import SERVICES
from nodeport.api.services import (
    EXTERNAL_NAME,
    LOAD_BALANCER,
    NODE_PORT,
    is_headless,
    needs_health_check_node_port,
    node_ports,
    spec_of,
    type_of,
)
from nodeport.apiserver.allocators import clusterip, nodeport
from nodeport.apiserver.allocators.clusterip import ClusterIPAllocator
from nodeport.apiserver.allocators.nodeport import NodePortAllocator
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.kit.logs import get_logger
from nodeport.store.base import Delete, Operation, Put, Store

_log = get_logger("nodeport.apiserver.repair")
BATCH = 500


def guards_of(service: JsonObject) -> set[str]:
    """The guard keys that a stored Service must own."""
    spec = spec_of(service)
    found: set[str] = set()
    if type_of(service) != EXTERNAL_NAME and not is_headless(service):
        found.update(clusterip.guard(IPv4Address(text)) for text in spec.get("clusterIPs") or [])
    if type_of(service) in (NODE_PORT, LOAD_BALANCER):
        found.update(nodeport.guard(port) for port in node_ports(service))
    if needs_health_check_node_port(service) and spec.get("healthCheckNodePort"):
        found.add(nodeport.guard(spec["healthCheckNodePort"]))
    return found


async def restore(store: Store, addresses: ClusterIPAllocator, ports: NodePortAllocator) -> int:
    """Load the fast views from the store and mend the guard keys; how many had to be mended."""
    wanted: dict[str, str] = {}
    for kv in (await store.list(prefix_of(SERVICES))).items:
        service = decode(kv.value)
        owner = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        for guard in guards_of(service):
            if wanted.setdefault(guard, owner) != owner:
                _log.warning(
                    "%s is claimed by %s and by %s; please recreate one of them", guard, wanted[guard], owner
                )
    found = {
        kv.key for prefix in (clusterip.GUARDS, nodeport.GUARDS) for kv in (await store.list(prefix)).items
    }
    mending: list[Operation] = [Delete(key) for key in sorted(found - wanted.keys())]
    mending.extend(Put(key, wanted[key].encode()) for key in sorted(wanted.keys() - found))
    for at in range(0, len(mending), BATCH):
        await store.commit(mending[at : at + BATCH])
    addresses.load(key.removeprefix(clusterip.GUARDS) for key in wanted if key.startswith(clusterip.GUARDS))
    ports.load(int(key.removeprefix(nodeport.GUARDS)) for key in wanted if key.startswith(nodeport.GUARDS))
    return len(mending)

"""Forwardings spelled as elements of the flat maps. Pure.

What belongs to one Service port alone is ``own``; what several may need at once (a local endpoint, a ClusterIP with
several ports, the chain for so many endpoints) is counted by whoever applies it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from nodeport.forwarding.table import (
    ClusterIP,
    Endpoint,
    Forwarding,
    ForwardingOptions,
    Frontend,
    Masquerade,
    NodeFacts,
    NodePort,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)
from nodeport.netlink.nftables.expressions import Code, VerdictData
from nodeport.proxy.nftables import layout
from nodeport.proxy.nftables.layout import Lookup
from nodeport.proxy.nftables.ruleset import Elements, Ruleset

SharedElement = tuple[str, bytes]
"""Set name and key of an element that more than one Service port may ask for."""
SizeClass = tuple[Lookup, int]

_SLOTS: Final = [struct.pack("=I", slot) for slot in range(64)]


@dataclass(slots=True)
class Rendered:
    """What one Service port needs in the kernel."""

    own: Elements = field(default_factory=dict)
    shared: set[SharedElement] = field(default_factory=set)
    sizes: set[SizeClass] = field(default_factory=set)


def render_forwarding(name: ServicePortName, forwarding: Forwarding, node: NodeFacts) -> Rendered:
    """The elements of one Service port on ``node``."""
    rendered = Rendered()
    protocol = bytes((name.protocol.value, 0, 0, 0))
    spelled: dict[int, list[bytes]] = {}
    for frontend in forwarding.frontends:
        routes = forwarding.routes(frontend)
        key = _frontend_key(frontend, protocol)
        by_address = not isinstance(frontend, NodePort)
        _add_route(rendered, layout.IPS if by_address else layout.NODEPORTS, key, routes.node, spelled)
        if (routes.outside.verdict, routes.outside.endpoints) != (routes.node.verdict, routes.node.endpoints):
            outside = layout.OUTSIDE_IPS if by_address else layout.OUTSIDE_NODEPORTS
            _add_route(rendered, outside, key, routes.outside, spelled)
        if isinstance(frontend, ClusterIP):
            rendered.shared.add((layout.CLUSTER_IPS, frontend.address.packed))
        else:
            _add_masquerade(rendered, name, frontend, routes, key)
    for endpoint in _local_endpoints(forwarding):
        address = endpoint.address.packed
        rendered.shared.add((layout.LOCAL_ENDPOINTS, address))
        if endpoint.address not in node.addresses:
            rendered.shared.add((layout.HAIRPINS, address + address))
    return rendered


def render(
    table: Iterable[tuple[ServicePortName, Forwarding]], node: NodeFacts, options: ForwardingOptions
) -> tuple[Ruleset, Counter[SharedElement], Counter[SizeClass]]:
    """The whole ruleset for a table, and how many Service ports need each shared part of it."""
    ruleset = layout.constant_ruleset(node, options)
    elements = ruleset.elements
    shared: Counter[SharedElement] = Counter()
    sizes: Counter[SizeClass] = Counter()
    for name, forwarding in table:
        rendered = render_forwarding(name, forwarding, node)
        for item, own in rendered.own.items():
            known = elements.get(item)
            if known is None:
                elements[item] = own
            else:
                known.update(own)
        shared.update(rendered.shared)
        sizes.update(rendered.sizes)
    for item, key in shared:
        elements.setdefault(item, {})[key] = b""
    for lookup, size in sizes:
        chain = layout.size_chain(lookup, size)
        ruleset.chains[chain.name] = chain
        elements[lookup.verdicts][layout.class_key(size)] = VerdictData(Code.GOTO, chain.name)
    external = layout.masquerade_ips_chain(in_use=uses_external_ips(elements))
    ruleset.chains[external.name] = external
    return ruleset, shared, sizes


def uses_external_ips(elements: Elements) -> bool:
    return bool(elements.get(layout.MASQUERADE_IPS) or elements.get(layout.MASQUERADE_NODE_IPS))


def frontend_key(name: ServicePortName, frontend: Frontend) -> bytes:
    """The key of a frontend in the maps of its kind."""
    return _frontend_key(frontend, bytes((name.protocol.value, 0, 0, 0)))


def slot_key(key: bytes, slot: int) -> bytes:
    return key + (_SLOTS[slot] if slot < len(_SLOTS) else struct.pack("=I", slot))


def slot_of(data: bytes) -> tuple[int, int]:
    """The endpoint in a slot, as ``forwarding.diff`` wants it: address and port."""
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:6], "big")


def _frontend_key(frontend: Frontend, protocol: bytes) -> bytes:
    port = frontend.port.to_bytes(2, "big") + b"\0\0"
    if isinstance(frontend, NodePort):
        return protocol + port
    return frontend.address.packed + protocol + port


def _add_route(
    rendered: Rendered, lookup: Lookup, key: bytes, route: Route, spelled: dict[int, list[bytes]]
) -> None:
    classes = rendered.own.setdefault(lookup.classes, {})
    if route.verdict is not Verdict.FORWARD:
        size = layout.REJECT_CLASS if route.verdict is Verdict.REJECT else layout.DROP_CLASS
        classes[key] = layout.class_key(size)
        return
    data = spelled.get(id(route.endpoints))
    if data is None:
        data = spelled[id(route.endpoints)] = [
            endpoint.address.packed + endpoint.port.to_bytes(2, "big") + b"\0\0"
            for endpoint in route.endpoints[: layout.MAXIMUM_ENDPOINTS]
        ]
    size = len(data)
    classes[key] = layout.class_key(size)
    rendered.sizes.add((lookup, size))
    slots = rendered.own.setdefault(lookup.endpoints, {})
    for slot, endpoint in enumerate(data):
        slots[slot_key(key, slot)] = endpoint


def _add_masquerade(
    rendered: Rendered, name: ServicePortName, frontend: Frontend, routes: Routes, key: bytes
) -> None:
    """External frontends say per connection whether the sender's address goes: always, or only the node's own."""
    if routes.outside.masquerade is not Masquerade.NEVER:
        node_only = False
    elif routes.node.masquerade is not Masquerade.NEVER:
        node_only = True
    else:
        return
    if isinstance(frontend, NodePort):
        item = layout.masquerade_set(name.protocol, node_only=node_only)
        rendered.own[item] = {frontend.port.to_bytes(2, "big"): b""}
    else:
        item = layout.MASQUERADE_NODE_IPS if node_only else layout.MASQUERADE_IPS
        rendered.own.setdefault(item, {})[key] = b""


def _local_endpoints(forwarding: Forwarding) -> Iterator[Endpoint]:
    """The local endpoints of all routes, some of them several times."""
    internal, external = forwarding.internal, forwarding.external
    seen: list[tuple[Endpoint, ...]] = []
    for route in (internal.node, external.node, external.outside):
        if route.endpoints not in seen:
            seen.append(route.endpoints)
            yield from (endpoint for endpoint in route.endpoints if endpoint.is_local)

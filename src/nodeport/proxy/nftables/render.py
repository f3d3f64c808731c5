"""Forwardings spelled as elements of the flat maps. Pure.

What belongs to one Service port alone is ``own``; what several may need at once (a local endpoint, a ClusterIP with
several ports, the chain for so many endpoints) is counted by whoever applies it.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from nodeport.forwarding.diff import Slot
from nodeport.forwarding.sources import allowed_sources
from nodeport.forwarding.table import (
    ClusterIP,
    Endpoint,
    Forwarding,
    ForwardingOptions,
    Frontend,
    IPNetwork,
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
from nodeport.proxy.nftables.chains import constant_chains, optional_chains, size_chain
from nodeport.proxy.nftables.dialect import Dialect, dialect
from nodeport.proxy.nftables.layout import Lookup, Role
from nodeport.proxy.nftables.ruleset import Elements, Ruleset

SharedElement = tuple[str, bytes]
"""Set name and key of an element that more than one Service port may ask for."""
SizeClass = tuple[Lookup, int, int]
"""Where, how many endpoints, and the timeout of session affinity in seconds (0: none)."""

_ALONE: Final = Role.ALONE
_NEVER: Final = Masquerade.NEVER
_FORWARD: Final = Verdict.FORWARD
"""As names of this module: to get at an enum's member costs more than to compare it."""
_PORT: Final = struct.Struct(">Hxx").pack
_SLOTS: Final = [struct.pack("=I", slot) for slot in range(64)]


@dataclass(slots=True)
class Rendered:
    """What one Service port needs in the kernel."""

    own: Elements = field(default_factory=dict)
    shared: set[SharedElement] = field(default_factory=set)
    sizes: set[SizeClass] = field(default_factory=set)


def render_forwarding(
    name: ServicePortName,
    forwarding: Forwarding,
    node: NodeFacts,
    role: Role = Role.ALONE,
    into: Elements | None = None,
) -> Rendered:
    """The elements of one Service port on ``node``; its own are added to those ``into`` which they go."""
    rendered = Rendered({} if into is None else into)
    protocol = bytes((name.protocol, 0, 0, 0))
    spelled: dict[int, list[bytes]] = {}
    sticky = forwarding.affinity is not None
    for frontend in forwarding.frontends:
        is_cluster_ip = type(frontend) is ClusterIP
        routes = forwarding.internal if is_cluster_ip else forwarding.external
        key = _frontend_key(frontend, protocol)
        by_address = type(frontend) is not NodePort
        inside = layout.IPS if by_address else layout.NODEPORTS
        spread = role is _ALONE or sticky or routes.node.verdict is not _FORWARD
        if spread:
            _add_route(rendered, inside, key, routes.node, spelled)
        else:
            rendered.own.setdefault(inside.classes, {})[key] = layout.class_key(layout.ELSEWHERE_CLASS)
        if not _are_alike(routes.outside, routes.node):
            outside = layout.OUTSIDE_IPS if by_address else layout.OUTSIDE_NODEPORTS
            _add_route(rendered, outside, key, routes.outside, spelled)
            if sticky:
                _add_affinity(rendered, outside, key, name, forwarding, routes.outside)
        if sticky and spread:
            _add_affinity(rendered, inside, key, name, forwarding, routes.node)
        if forwarding.source_ranges is not None or forwarding.nodeport_source_ranges is not None:
            _add_sources(rendered, key, allowed_sources(forwarding, frontend, node), by_address=by_address)
        if is_cluster_ip:
            rendered.shared.add((layout.CLUSTER_IPS, key[:-8]))
        else:
            _add_masquerade(rendered, name, frontend, routes, key)
        if role is not _ALONE:
            _hold(rendered, frontend, node)
    for endpoint in _local_endpoints(forwarding):
        address = endpoint.packed
        rendered.shared.add((layout.LOCAL_ENDPOINTS, address))
        if all(address != own.packed for own in node.addresses):
            rendered.shared.add((layout.HAIRPINS, address + address))
    return rendered


def _are_alike(one: Route, other: Route) -> bool:
    """Masquerading apart."""
    return one is other or (one.verdict, one.endpoints) == (other.verdict, other.endpoints)


def _hold(rendered: Rendered, frontend: Frontend, node: NodeFacts) -> None:
    """Beside IPVS an address outside the service networks is delivered to the node for the sake of Services alone, and
    must not reach anybody else there.
    """
    if isinstance(frontend, NodePort) or frontend.address in node.addresses:
        return
    if not any(frontend.address in network for network in node.service_networks):
        rendered.shared.add((layout.HELD_ADDRESSES, frontend.address.packed))


def render(
    table: Iterable[tuple[ServicePortName, Forwarding]],
    node: NodeFacts,
    options: ForwardingOptions,
    role: Role = Role.ALONE,
) -> tuple[Ruleset, Counter[SharedElement], Counter[SizeClass]]:
    """The whole ruleset for a table, and how many Service ports need each shared part of it."""
    ruleset = Ruleset(
        constant_chains(node, options, role), layout.sets(node, role), layout.constant_elements(node, role)
    )
    elements = ruleset.elements
    shared: Counter[SharedElement] = Counter()
    sizes: Counter[SizeClass] = Counter()
    for name, forwarding in table:
        rendered = render_forwarding(name, forwarding, node, role, elements)
        for element in rendered.shared:
            shared[element] = shared.get(element, 0) + 1
        for size_class in rendered.sizes:
            sizes[size_class] = sizes.get(size_class, 0) + 1
    for item, key in shared:
        elements.setdefault(item, {})[key] = b""
    ruleset = with_sizes(ruleset, sizes, dialect(node.family))
    for optional in optional_chains(node):
        if any(elements.get(item) for item in optional.sets):
            ruleset.chains[optional.name] = optional.chain(in_use=True)
    return ruleset, shared, sizes


def with_sizes(ruleset: Ruleset, sizes: Iterable[SizeClass], words: Dialect) -> Ruleset:
    """``ruleset`` with the chains for so many endpoints, and the verdicts that lead there."""
    chains, verdicts = (
        dict(ruleset.chains),
        {lookup.verdicts: dict(ruleset.elements_of(lookup.verdicts)) for lookup in layout.LOOKUPS},
    )
    for lookup, size, timeout in sizes:
        chain = size_chain(words, lookup, size, timeout)
        chains[chain.name] = chain
        verdicts[lookup.verdicts][layout.class_key(size, timeout)] = VerdictData(Code.GOTO, chain.name)
    return Ruleset(chains, ruleset.sets, {**ruleset.elements, **verdicts}, ruleset.dormant)


def spare_sizes(there: Ruleset, needed: Container[SizeClass], words: Dialect) -> list[SizeClass]:
    """Those not ``needed`` for which ``there`` has the right chain, what leads to it, and what it leads to."""
    found = [
        (lookup, *numbers)
        for lookup in layout.LOOKUPS
        for key, data in there.elements_of(lookup.verdicts).items()
        if (numbers := layout.numbers_of(key)) is not None
        and (lookup, *numbers) not in needed
        and isinstance(data, VerdictData)
        and data == VerdictData(Code.GOTO, lookup.chain_name(*numbers))
        and there.chains.get(data.chain or "") == size_chain(words, lookup, *numbers)
    ]
    return [item for item in found if (plain := without_affinity(item)) in needed or plain in found]


def without_affinity(item: SizeClass) -> SizeClass:
    """Whose chain that of ``item`` falls back on; of a class without session affinity: itself."""
    lookup, size, _ = item
    return lookup, size, 0


def frontend_key(name: ServicePortName, frontend: Frontend) -> bytes:
    """The key of a frontend in the maps of its kind."""
    return _frontend_key(frontend, bytes((name.protocol.value, 0, 0, 0)))


def slot_key(key: bytes, slot: int) -> bytes:
    return key + (_SLOTS[slot] if slot < len(_SLOTS) else struct.pack("=I", slot))


def slot_of(data: bytes) -> Slot:
    """The endpoint in a slot, as ``forwarding.diff`` wants it."""
    return data[:-4], int.from_bytes(data[-4:-2], "big")


def _frontend_key(frontend: Frontend, protocol: bytes) -> bytes:
    port = _PORT(frontend.port)
    return protocol + port if type(frontend) is NodePort else frontend.address.packed + protocol + port


def _add_route(
    rendered: Rendered, lookup: Lookup, key: bytes, route: Route, spelled: dict[int, list[bytes]]
) -> None:
    classes = rendered.own.setdefault(lookup.classes, {})
    if route.verdict is not _FORWARD:
        size = layout.REJECT_CLASS if route.verdict is Verdict.REJECT else layout.DROP_CLASS
        classes[key] = layout.class_key(size)
        return
    data = spelled.get(id(route.endpoints))
    if data is None:
        data = spelled[id(route.endpoints)] = [
            _endpoint_data(endpoint) for endpoint in route.endpoints[: layout.MAXIMUM_ENDPOINTS]
        ]
    size = len(data)
    classes[key] = layout.class_key(size)
    rendered.sizes.add((lookup, size, 0))
    slots = rendered.own.setdefault(lookup.endpoints, {})
    if size <= len(_SLOTS):
        slots.update(zip([key + slot for slot in _SLOTS[:size]], data, strict=True))
    else:
        slots.update((slot_key(key, slot), endpoint) for slot, endpoint in enumerate(data))


def _add_affinity(
    rendered: Rendered,
    lookup: Lookup,
    key: bytes,
    name: ServicePortName,
    forwarding: Forwarding,
    route: Route,
) -> None:
    """What a frontend needs so that clients come back to their endpoints, on top of what spreads them."""
    if route.verdict is not _FORWARD or forwarding.affinity is None:
        return
    endpoints = route.endpoints[: layout.SEATS]
    timeout = int(forwarding.affinity.total_seconds())
    rendered.own[lookup.classes][key] = layout.class_key(len(endpoints), timeout)
    rendered.sizes.add((lookup, len(endpoints), timeout))
    rendered.sizes.add((lookup, len(endpoints), 0))
    choices = rendered.own.setdefault(lookup.choices, {})
    seats = rendered.own.setdefault(lookup.seats, {})
    for slot, (endpoint, ticket) in enumerate(zip(endpoints, tickets(name, endpoints), strict=True)):
        choices[slot_key(key, slot)] = ticket
        seats[key + ticket] = _endpoint_data(endpoint)


def tickets(name: ServicePortName, endpoints: Sequence[Endpoint]) -> list[bytes]:
    """What stands for each endpoint in the affinity map: told by the Service port's name and the endpoint's address
    and port alone, so that it stays when others come and go, and after a restart.

    Should two Service ports have one identity, a client of both is merely given a new endpoint when it changes between
    them. Endpoints of one Service port never share a ticket: the later address takes the next seat.
    """
    identity = zlib.crc32(f"{name} {name.protocol.name}".encode()) & layout.IDENTITY_MASK
    seats: dict[int, Endpoint] = {}
    for endpoint in sorted(endpoints, key=lambda item: (item.packed, item.port)):
        seat = zlib.crc32(endpoint.packed + endpoint.port.to_bytes(2, "big")) % layout.SEATS
        while seat in seats:
            seat = (seat + 1) % layout.SEATS
        seats[seat] = endpoint
    found = {
        endpoint: layout.number(seat << layout.IDENTITY_BITS | identity) for seat, endpoint in seats.items()
    }
    return [found[endpoint] for endpoint in endpoints]


def _add_sources(
    rendered: Rendered, key: bytes, allowed: Sequence[IPNetwork] | None, *, by_address: bool
) -> None:
    """Who may use a frontend; ``None``: everybody."""
    if allowed is None:
        return
    restricted = layout.RESTRICTED_IPS if by_address else layout.RESTRICTED_NODEPORTS
    sources = layout.ALLOWED_SOURCES if by_address else layout.ALLOWED_NODEPORT_SOURCES
    rendered.own.setdefault(restricted, {})[key] = b""
    rendered.own.setdefault(sources, {}).update(
        (key + network.network_address.packed + key + network.broadcast_address.packed, b"")
        for network in allowed
    )


def _endpoint_data(endpoint: Endpoint) -> bytes:
    return endpoint.packed + _PORT(endpoint.port)


def _add_masquerade(
    rendered: Rendered, name: ServicePortName, frontend: Frontend, routes: Routes, key: bytes
) -> None:
    """External frontends say per connection whether the sender's address goes: always, or only the node's own."""
    if routes.outside.masquerade is not _NEVER:
        node_only = False
    elif routes.node.masquerade is not _NEVER:
        node_only = True
    else:
        return
    if type(frontend) is NodePort:
        item = layout.masquerade_set(name.protocol, node_only=node_only)
        rendered.own.setdefault(item, {})[frontend.port.to_bytes(2, "big")] = b""
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
            yield from [endpoint for endpoint in route.endpoints if endpoint.is_local]

"""From one Service and its EndpointSlices to its forwardings on this node.

Only the Service that changed is built anew; everything else in the table stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from nodeport.api import meta
from nodeport.api.ip import sloppy_network
from nodeport.api.meta import NamespacedName, labels
from nodeport.forwarding.endpoints import (
    PROTOCOLS,
    EndpointChoice,
    candidates_by_port,
    choose,
    is_port,
    parse_address,
)
from nodeport.forwarding.sources import load_balancer_ranges, nodeport_ranges
from nodeport.forwarding.table import (
    ClusterIP,
    Endpoint,
    ExternalIP,
    Family,
    Forwarding,
    ForwardingOptions,
    Frontend,
    IPAddress,
    IPNetwork,
    LoadBalancerIP,
    Masquerade,
    NodeFacts,
    NodePort,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)

SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
"""A Service with this label belongs to another proxy."""
HEADLESS = "service.kubernetes.io/headless"
"""A Service or slice with this label is not for proxies."""
LOOPBACK: Mapping[Family, IPNetwork] = {
    Family.IPV4: IPv4Network("127.0.0.0/8"),
    Family.IPV6: IPv6Network("::1/128"),
}
_EVERYTHING: Mapping[Family, IPNetwork] = {
    Family.IPV4: IPv4Network("0.0.0.0/0"),
    Family.IPV6: IPv6Network("::/0"),
}
_FORWARD: Final = Verdict.FORWARD
_NEVER: Final = Masquerade.NEVER
"""As names of this module: to get at an enum's member costs more than what is done with it."""
_DEFAULT_AFFINITY = timedelta(hours=3)


def is_proxied(service: Mapping[str, Any]) -> bool:
    """Whether this proxy has anything to do with the Service."""
    spec = service.get("spec") or {}
    names = labels(service)
    if SERVICE_PROXY_NAME in names or HEADLESS in names:
        return False
    return spec.get("type") != "ExternalName" and spec.get("clusterIP") not in (None, "", "None")


def build_service(
    service: Mapping[str, Any],
    slices: Iterable[Mapping[str, Any]],
    node: NodeFacts,
    options: ForwardingOptions,
) -> dict[ServicePortName, Forwarding]:
    """The forwardings of all ports of one Service in the node's family; empty when this proxy leaves it alone, or
    when it has no ClusterIP of that family.

    ``service`` and ``slices`` are API objects as JSON; the slices are all those labelled with the Service's name.
    """
    if not is_proxied(service):
        return {}
    spec = service["spec"]
    cluster_ip = cluster_ip_of(spec, node.family)
    if cluster_ip is None:
        return {}
    identity = NamespacedName.of(service)
    candidates = candidates_by_port([item for item in slices if HEADLESS not in labels(item)], node)
    choices: dict[tuple[str, Protocol], EndpointChoice] = {}
    forwardings: dict[ServicePortName, Forwarding] = {}
    ranges = load_balancer_ranges(spec, node.family)
    nodeport_sources = nodeport_ranges(meta.annotations(service), node.family)
    for port in spec.get("ports") or ():
        protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
        if protocol is None or not is_port(port["port"]):
            continue
        key = (port.get("name") or "", protocol)
        choice = choices.get(key)
        if choice is None:
            choice = choices[key] = choose(candidates.get(key, {}), node)
        others = _external_frontends(service, port, cluster_ip, node.family)
        forwardings[ServicePortName(identity, *key)] = Forwarding(
            (ClusterIP(cluster_ip, port["port"]), *others),
            _internal_routes(choice, node, options, local=spec.get("internalTrafficPolicy") == "Local"),
            _external_routes(choice, node, options, local=spec.get("externalTrafficPolicy") == "Local"),
            choice.serving,
            _affinity(spec),
            ranges,
            nodeport_sources,
        )
    return forwardings


def _internal_routes(
    choice: EndpointChoice, node: NodeFacts, options: ForwardingOptions, *, local: bool
) -> Routes:
    """ClusterIP traffic: the internal policy picks the endpoints; only foreigners to the pod network are masqueraded.

    A reply to a pod of this node is routed here in any case; a reply to anybody else may take another way home.
    """
    masquerade = options.masquerade if node.tells_pods or options.masquerade_all else _NEVER
    own = Masquerade.ALWAYS if options.masquerade_all else _NEVER
    others = _route(choice, masquerade, local=local)
    return Routes(pod=_route(choice, own, local=local), node=others, outside=others)


def _external_routes(
    choice: EndpointChoice, node: NodeFacts, options: ForwardingOptions, *, local: bool
) -> Routes:
    """NodePort, external IP and load-balancer IP.

    Policy Local binds only those who come from outside: pods and the node itself reach all endpoints, since they
    have no client address to lose.
    """
    everywhere = _route(choice, options.masquerade, local=False)
    if not local:
        return Routes(everywhere, everywhere, everywhere)
    short_circuit = _route(choice, _NEVER, local=False)
    return Routes(pod=short_circuit, node=everywhere, outside=_route(choice, _NEVER, local=True))


def _route(choice: EndpointChoice, masquerade: Masquerade, *, local: bool) -> Route:
    """Nothing anywhere: refuse at once. Something, but not where the policy allows: drop, so that clients retry."""
    if not choice.cluster and not choice.local:
        return Route(Verdict.REJECT)
    endpoints: tuple[Endpoint, ...] = choice.local if local else choice.cluster
    if not endpoints:
        return Route(Verdict.DROP)
    return Route(_FORWARD, endpoints, masquerade)


def _external_frontends(
    service: Mapping[str, Any], port: Mapping[str, Any], cluster_ip: IPAddress, family: Family
) -> Iterable[Frontend]:
    """The frontends of one Service port in one family, beside its ClusterIP."""
    spec = service["spec"]
    if spec.get("type") == "ClusterIP" and not spec.get("externalIPs"):
        return
    number = port["port"]
    if is_port(port.get("nodePort")) and spec.get("type") in ("NodePort", "LoadBalancer"):
        yield NodePort(port["nodePort"])
    seen = {cluster_ip}
    for raw in spec.get("externalIPs") or ():
        address = parse_address(raw, family)
        if address is not None and address not in seen:
            seen.add(address)
            yield ExternalIP(address, number)
    if spec.get("type") != "LoadBalancer":
        return
    for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        address = parse_address(ingress.get("ip") or "", family)
        if address is not None and address not in seen and ingress.get("ipMode") != "Proxy":
            seen.add(address)
            yield LoadBalancerIP(address, number)


def cluster_ip_of(spec: Mapping[str, Any], family: Family) -> IPAddress | None:
    """The ClusterIP in a Service's ``spec`` of one family; without one the Service is nothing to that family."""
    for raw in spec.get("clusterIPs") or (spec.get("clusterIP"),):
        address = parse_address(raw or "", family)
        if address is not None:
            return address
    return None


def _affinity(spec: Mapping[str, Any]) -> timedelta | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return timedelta(seconds=seconds) if seconds else _DEFAULT_AFFINITY


def node_facts(
    name: str,
    node: Mapping[str, Any] | None,
    *,
    family: Family = Family.IPV4,
    nodeport_addresses: tuple[str, ...] = ("primary",),
    service_networks: tuple[IPNetwork, ...],
    pod_networks: tuple[IPNetwork, ...] = (),
    pod_interfaces: tuple[str, ...] = (),
    localhost_nodeports: bool = False,
) -> NodeFacts:
    """Facts in one family out of a Node object (``None``: not there yet). Networks of the other family are left out.

    ``pod_networks`` or ``pod_interfaces``, when given, overrule its podCIDRs. ``nodeport_addresses``: ``("primary",)``
    for the node's first InternalIP, CIDRs for the local addresses within them, nothing for all local addresses.
    Loopback never takes part in those: the kernel would call such packets martians.
    """
    addresses = tuple(_addresses_of(node or {}, family))
    if not pod_networks and not pod_interfaces:
        pod_networks = tuple(_pod_networks_of(node or {}))
    return NodeFacts(
        name,
        addresses,
        _of_family(pod_networks, family),
        nodeport_networks(nodeport_addresses, addresses, family),
        _of_family(service_networks, family),
        labels(node or {}).get("topology.kubernetes.io/zone", ""),
        family,
        pod_interfaces,
        localhost_nodeports,
    )


def nodeport_networks(
    wanted: tuple[str, ...], addresses: tuple[IPAddress, ...], family: Family = Family.IPV4
) -> tuple[IPNetwork, ...]:
    """The networks that ``--nodeport-addresses`` stands for, without loopback. CIDRs may have host bits; raises
    ValueError for what is none.

    CIDRs of the other family only mean all addresses of this one, as kube-proxy has it.
    """
    if wanted == ("primary",):
        return tuple(ip_network(address) for address in addresses[:1])
    networks = _of_family(tuple(map(_network, wanted)), family) or (_EVERYTHING[family],)
    allowed: list[IPNetwork] = []
    for network in networks:
        allowed.extend(_without(network, LOOPBACK[family]))
    return tuple(sorted(allowed))


def _without(network: IPNetwork, hole: IPNetwork) -> Iterable[IPNetwork]:
    if hole.subnet_of(network):  # type: ignore[arg-type]
        return network.address_exclude(hole)  # type: ignore[arg-type]
    return () if network.subnet_of(hole) else (network,)  # type: ignore[arg-type]


def _of_family(networks: tuple[IPNetwork, ...], family: Family) -> tuple[IPNetwork, ...]:
    return tuple(network for network in networks if network.version == family)


def _pod_networks_of(node: Mapping[str, Any]) -> Iterable[IPNetwork]:
    spec = node.get("spec") or {}
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return (network for cidr in cidrs if (network := sloppy_network(cidr)) is not None)


def _network(cidr: str) -> IPNetwork:
    found = sloppy_network(cidr)
    if found is None:
        raise ValueError(f"{cidr!r} is no CIDR")
    return found


def _addresses_of(node: Mapping[str, Any], family: Family) -> Iterable[IPAddress]:
    """The node's addresses, internal ones first."""
    listed = (node.get("status") or {}).get("addresses") or ()
    for kind in ("InternalIP", "ExternalIP"):
        for item in listed:
            raw = (item.get("address") or "") if item.get("type") == kind else ""
            address = parse_address(raw, family)
            if address is not None:
                yield address

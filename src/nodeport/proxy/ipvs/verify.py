"""What IPVS has against what the forwarding table wants, and a packet that would notice the difference. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from nodeport.forwarding.decide import Packet
from nodeport.forwarding.table import IPAddress, Protocol
from nodeport.netlink.ipvs.messages import DestinationKey, ServiceFlag, ServiceKey, VirtualService
from nodeport.proxy.counterexamples import Counterexamples, Difference
from nodeport.proxy.ipvs.plan import Present
from nodeport.proxy.ipvs.render import Spelled, Wanted
from nodeport.proxy.nftables.evaluate import fates
from nodeport.proxy.nftables.ruleset import Ruleset
from nodeport.proxy.nftables.verify import Spread
from nodeport.proxy.proxier import Discrepancy
from nodeport.proxy.questions import LOOPBACK, Questions


def spread(wanted: Wanted, there: Mapping[ServiceKey, Present]) -> Spread:
    """Among which endpoints IPVS should spread a packet, and among which it does."""

    def as_wanted(packet: Packet) -> list[tuple[IPAddress, int]]:
        spelled = wanted.get(_key(packet))
        return _places(spelled.destinations) if spelled is not None else []

    def as_found(packet: Packet) -> list[tuple[IPAddress, int]]:
        present = there.get(_key(packet))
        return _places(present.serving) if present is not None else []

    return Spread(as_wanted, as_found)


def _key(packet: Packet) -> ServiceKey:
    return ServiceKey(packet.protocol.value, packet.destination.packed, packet.port)


def _places(destinations: Iterable[DestinationKey]) -> list[tuple[IPAddress, int]]:
    return [(ip_address(item.address), item.port) for item in sorted(destinations)]


def differences(
    wanted: Wanted,
    there: Mapping[ServiceKey, Present],
    beside: Ruleset,
    questions: Questions,
    known: Spread,
) -> Iterator[Discrepancy]:
    """Every virtual service of ours that is not as it should be; ``beside``: the table beside, as it is wanted."""
    node = questions.node
    local = frozenset({*node.addresses, LOOPBACK[int(node.family)]})
    counterexamples = Counterexamples(
        questions,
        lambda packet: fates(beside, packet, local, known.wanted),
        lambda packet: fates(beside, packet, local, known.there),
    )
    for key in sorted(wanted.keys() | there.keys()):
        told = _difference(wanted.get(key), there.get(key))
        if told is not None:
            packets = questions.to(ip_address(key.address), Protocol(key.protocol), key.port)
            yield counterexamples.tell(Difference(f"virtual service {key}", *told, packets))


def _difference(spelled: Spelled | None, there: Present | None) -> tuple[str, str] | None:
    """Wanted and found; destinations that are leaving belong there as long as they have connections."""
    serving: Sequence[DestinationKey] = sorted(there.serving) if there is not None else []
    if spelled is None:
        return ("absent", _words(serving)) if serving else None
    if there is None:
        return _words(sorted(spelled.destinations)), "absent"
    if there.service != spelled.service:
        return _service_words(spelled.service), _service_words(there.service)
    if set(serving) == spelled.destinations and set(there.weights.values()) <= {0, 1}:
        return None
    weights = ", ".join(f"{item} weight {weight}" for item, weight in sorted(there.weights.items()))
    return _words(sorted(spelled.destinations)), weights or "no destination"


def _service_words(service: VirtualService) -> str:
    """As ipvsadm is told it."""
    told = f"-s {service.scheduler}"
    if service.flags & ServiceFlag.PERSISTENT:
        told += f" -p {service.timeout}"
    if service.mask_length is not None:
        told += f" -M {service.mask_length}"
    flags = {ServiceFlag.ONE_PACKET: "-o", ServiceFlag.SCHEDULER_1: "-b flag-1", ServiceFlag.SCHEDULER_2: "-b flag-2",
             ServiceFlag.SCHEDULER_3: "-b flag-3"}  # fmt: skip
    return " ".join([told, *(word for flag, word in flags.items() if service.flags & flag)])


def _words(destinations: Iterable[DestinationKey]) -> str:
    return ", ".join(map(str, destinations))

"""The IPVS mode against the real kernel: changes, restarts, other people, and what is left in the end. No packets."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from kernel import scenario
from kernel.modes import lacks_ipvs
from kernel.packets import Policy, Situation
from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.build import build_service
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Change, Family, ForwardingOptions, ForwardingTable
from nodeport.netlink.ipvs.kernel import Ipvs, delete_service, new_service, set_destination
from nodeport.netlink.ipvs.messages import Destination, DestinationKey, ServiceKey, Timeouts, VirtualService
from nodeport.netlink.namespace import open_in
from nodeport.netlink.socket import KernelRefused
from nodeport.proxy.modes import open_proxier
from nodeport.proxy.options import IpvsOptions, Mode, ProxyOptions
from nodeport.proxy.proxier import Proxier, UnsupportedMode

pytestmark = pytest.mark.skipif(bool(lacks_ipvs()), reason=lacks_ipvs())

OPTIONS = ForwardingOptions()
NODE = scenario.facts()
NODE_ADDRESS = str(NODE.addresses[0])
SERVICE = scenario.service(Policy.CLUSTER, Situation.BOTH)
CLUSTER_IP = ip_address(SERVICE["spec"]["clusterIP"]).packed
THEIRS = ServiceKey(6, bytes((203, 0, 113, 7)), 443)
VS = Path("/proc/sys/net/ipv4/vs")


@pytest.fixture
def netns(netns: Path) -> Path:
    """It has the node's addresses."""
    ip(
        netns.name, "link add eth0 type dummy", f"addr add {NODE_ADDRESS}/24 dev eth0", "link set eth0 up",
        "addr add fd00:172::11/64 dev eth0 nodad",
    )  # fmt: skip
    return netns


def ip(name: str, *lines: str) -> None:
    command = ["ip", "-n", name, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), check=True, capture_output=True, text=True)


def nft(netns: Path, *arguments: str) -> str:
    command = ["ip", "netns", "exec", netns.name, "nft", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def setting(netns: Path, name: str, value: str | None = None) -> str:
    """Reads a setting of ``net.ipv4.vs``, after writing it if there is a value."""

    def visit() -> str:
        if value is not None:
            (VS / name).write_text(value)
        return (VS / name).read_text().strip()

    return open_in(netns, visit)


@pytest.fixture
def open_mode(netns: Path) -> Iterator[Callable[..., Proxier]]:
    with ExitStack() as stack:

        def open_one(options: ProxyOptions | None = None, family: Family = Family.IPV4) -> Proxier:
            return stack.enter_context(open_proxier(Mode.IPVS, family, netns, options or ProxyOptions()))

        yield open_one


@pytest.fixture
def ipvs(netns: Path) -> Iterator[Ipvs]:
    with Ipvs(netns) as opened:
        yield opened


def change(table: ForwardingTable, item: JsonObject, pods: dict[str, dict[str, bool]] | None) -> list[Change]:
    """Puts ``item`` with these endpoints into the table; ``None`` takes it out."""
    identity = NamespacedName.of(item)
    if pods is None:
        return table.replace(identity, {})
    built = build_service(item, scenario.slices(item, pods), NODE, OPTIONS)
    before = table.wanted(identity)
    return table.replace(
        identity, {name: settle_forwarding(before.get(name), new) for name, new in built.items()}
    )


def everything(netns: Path, ipvs: Ipvs) -> tuple[str, ...]:
    """All that the kernel says about what the mode makes, handles included, counters not."""
    services = sorted(str(listed.service) for listed in ipvs.services())
    destinations = sorted(
        f"{listed.service.key} {item.destination}"
        for listed in list(ipvs.services())
        for item in ipvs.destinations(listed.service.key)
    )
    links = ["ip", "-n", netns.name, "-br", "link"]
    routes = ["ip", "-n", netns.name, "route", "show", "table", "all"]
    shown = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for command in (links, routes, [*routes[:3], "-6", *routes[3:]])
    ]
    settings = [f"{path.name}={setting(netns, path.name)}" for path in sorted(VS.iterdir()) if path.is_file()]
    return (
        *services,
        *destinations,
        *shown,
        nft(netns, "-a", "list", "ruleset"),
        *settings,
        str(ipvs.timeouts()),
    )


def test_random_changes_leave_the_kernel_as_a_fresh_start_would_make_it(
    open_mode: Callable[..., Proxier],
) -> None:
    rng = random.Random(7)
    table = ForwardingTable()
    proxier, judge = open_mode(), open_mode()
    proxier.resync(table, NODE)
    for round_number in range(60):
        burst: dict[object, Change] = {}
        for _ in range(rng.randint(1, 3)):
            item = scenario.service(rng.choice(list(Policy)), rng.choice(list(Situation)))
            pods = rng.choice([*scenario.ENDPOINTS.values(), None])
            for made in change(table, item, pods):
                before = burst.get(made.name)
                burst[made.name] = Change(made.name, before.old if before else made.old, made.new)
        changes = [made for made in burst.values() if made.old != made.new]
        if changes:
            proxier.apply(changes, NODE)
        if round_number % 10 == 0:
            assert proxier.is_undisturbed()
            assert proxier.is_intact()
            assert judge.verify(table, NODE) == []
    assert proxier.is_undisturbed()
    assert proxier.verify(table, NODE) == []
    assert judge.resync(table, NODE) == 0


def test_a_restart_changes_nothing_in_the_kernel(
    netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    table = scenario.table(NODE)
    assert open_mode().resync(table, NODE) > 0
    before = everything(netns, ipvs)
    assert open_mode().resync(table, NODE) == 0
    assert everything(netns, ipvs) == before


def _without_flag(ipvs: Ipvs, netns: Path) -> None:
    listed = ipvs.service(_web())
    assert listed is not None
    ipvs.apply([delete_service(_web()), new_service(VirtualService(_web(), "wrr"))])


def _web() -> ServiceKey:
    return ServiceKey(6, CLUSTER_IP, 80)


def _other_weight(ipvs: Ipvs, netns: Path) -> None:
    (first, *_) = ipvs.destinations(_web())
    ipvs.apply([set_destination(_web(), Destination(first.destination.key, 7))])


DAMAGE: dict[str, Callable[[Ipvs, Path], object]] = {
    "flush": lambda ipvs, netns: ipvs.flush(),
    "one virtual service": lambda ipvs, netns: ipvs.apply([delete_service(_web())]),
    "another in its place": _without_flag,
    "another weight": _other_weight,
    "link down": lambda ipvs, netns: ip(netns.name, "link set np-ipvs4 down"),
    "link gone": lambda ipvs, netns: ip(netns.name, "link del np-ipvs4"),
    "route gone": lambda ipvs, netns: ip(netns.name, "route del local 10.96.0.0/16 dev np-ipvs4 table local"),
    "nft flushed": lambda ipvs, netns: nft(netns, "flush", "ruleset"),
    "arp table gone": lambda ipvs, netns: nft(netns, "delete", "table", "arp", "nodeport-ipvs"),
    "arp answered": lambda ipvs, netns: nft(netns, "flush", "set", "arp", "nodeport-ipvs", "held-addresses"),
    "setting": lambda ipvs, netns: setting(netns, "conntrack", "0"),
    "address gone": lambda ipvs, netns: ip(netns.name, f"addr del {NODE_ADDRESS}/24 dev eth0"),
}
SEEN_AT_ONCE = DAMAGE.keys() - {
    "route gone",
    "setting",
    "one virtual service",
    "another in its place",
    "another weight",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_by_others_is_noticed_told_and_mended(
    damage: str, netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    table = scenario.table(NODE)
    proxier = open_mode()
    proxier.resync(table, NODE)
    assert proxier.is_undisturbed()
    DAMAGE[damage](ipvs, netns)
    if damage in SEEN_AT_ONCE:
        assert not proxier.is_undisturbed()
    if damage != "another weight":  # of destinations, verify tells
        assert not proxier.is_intact()
    assert proxier.verify(table, NODE) != [] or damage == "address gone"
    assert proxier.resync(table, NODE) > 0
    assert proxier.verify(table, NODE) == []
    assert proxier.is_undisturbed()
    assert proxier.is_intact()


def test_every_virtual_service_has_its_turn_to_be_looked_at(
    ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    proxier = open_mode()
    proxier.resync(scenario.table(NODE), NODE)
    keys = [listed.service.key for listed in ipvs.services()]
    ipvs.apply([delete_service(keys[-1])])
    looks = -(-len(keys) // 16) + 1
    assert not all(proxier.is_undisturbed() for _ in range(looks))


def test_virtual_services_of_others_are_left_alone(
    netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    ipvs.apply([new_service(VirtualService(THEIRS, "wlc"))])
    proxier, table = open_mode(), scenario.table(NODE)
    proxier.resync(table, NODE)
    proxier.apply(change(table, SERVICE, None), NODE)
    assert proxier.is_intact()
    assert proxier.verify(table, NODE) == []
    proxier.remove()
    assert [listed.service for listed in ipvs.services()] == [VirtualService(THEIRS, "wlc")]


def test_one_that_another_proxy_left_at_a_cluster_ip_becomes_ours(
    ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    ipvs.apply([new_service(VirtualService(_web(), "wlc"))])
    proxier, table = open_mode(), scenario.table(NODE)
    proxier.resync(table, NODE)
    assert proxier.verify(table, NODE) == []
    proxier.remove()
    assert list(ipvs.services()) == []


def test_removal_leaves_no_trace_and_the_settings_as_they_were(
    netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    setting(netns, "expire_nodest_conn", "1")
    ipvs.set_timeouts(Timeouts(tcp=1234))
    nft(netns, "add", "table", "inet", "theirs")
    before = everything(netns, ipvs)
    options = ProxyOptions(ipvs=IpvsOptions(timeouts=Timeouts(900, 60, 90)))
    open_mode(options).resync(scenario.table(NODE), NODE)
    assert setting(netns, "conntrack") == "1"
    assert ipvs.timeouts() == Timeouts(900, 60, 90)
    again = open_mode(options)
    assert again.resync(scenario.table(NODE), NODE) == 0
    again.remove()
    assert everything(netns, ipvs) == before
    again.remove()


def test_one_family_goes_and_the_other_stays(
    netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    before = everything(netns, ipvs)
    node = scenario.NodeFacts(
        "n1",
        (ip_address("fd00:172::11"),),
        service_networks=(ip_network("fd00:96::/112"),),
        nodeport_networks=(ip_network("fd00:172::11"),),
        family=Family.IPV6,
    )
    four, six = open_mode(), open_mode(family=Family.IPV6)
    table, none = scenario.table(NODE), ForwardingTable()
    four.resync(table, NODE)
    six.resync(none, node)
    assert four.is_intact()
    assert six.is_intact()
    four.remove()
    assert six.is_intact()
    assert setting(netns, "conntrack") == "1"
    six.remove()
    assert everything(netns, ipvs) == before


def test_a_change_that_the_kernel_refuses_leaves_nothing_behind(
    netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    table = ForwardingTable()
    proxier = open_mode()
    proxier.resync(table, NODE)
    nft(netns, "delete", "table", "ip", "nodeport-ipvs")
    with pytest.raises(KernelRefused):
        proxier.apply(change(table, SERVICE, scenario.ENDPOINTS[Situation.BOTH]), NODE)
    assert list(ipvs.services()) == []
    proxier.resync(table, NODE)
    assert proxier.verify(table, NODE) == []


def test_all_requests_are_tried_and_the_first_refusals_told(ipvs: Ipvs) -> None:
    again = [new_service(VirtualService(THEIRS))] * 40
    mine = new_service(VirtualService(_web()))
    with pytest.raises(KernelRefused, match="EEXIST") as refused:
        ipvs.apply([*again, mine])
    assert len(refused.value.refusals) == 10
    assert {listed.service.key for listed in ipvs.services()} == {THEIRS, _web()}
    ipvs.apply([delete_service(_web()), delete_service(_web())])
    assert [listed.service.key for listed in ipvs.services()] == [THEIRS]


def test_an_exact_address_goes_before_a_node_port(ipvs: Ipvs, open_mode: Callable[..., Proxier]) -> None:
    """Another Service has the node's address as an external IP, at the very port that is this one's NodePort."""
    table = ForwardingTable()
    proxier = open_mode()
    proxier.resync(table, NODE)
    ported = scenario.without_external(SERVICE)
    node_port = ported["spec"]["ports"][0]["nodePort"]
    exact = scenario.service(Policy.CLUSTER, Situation.REMOTE)
    exact["spec"]["externalIPs"] = [NODE_ADDRESS]
    exact["spec"]["ports"] = [{"name": "tcp", "port": node_port, "protocol": "TCP"}]
    key = ServiceKey(6, ip_address(NODE_ADDRESS).packed, node_port)

    def destinations() -> set[DestinationKey]:
        return {item.destination.key for item in ipvs.destinations(key) if item.destination.weight}

    proxier.apply(change(table, ported, scenario.ENDPOINTS[Situation.LOCAL]), NODE)
    local = destinations()
    proxier.apply(change(table, exact, scenario.ENDPOINTS[Situation.REMOTE]), NODE)
    remote = destinations()
    assert len(local) == len(remote) == 1
    assert local.isdisjoint(remote)
    assert proxier.verify(table, NODE) == []
    proxier.apply(change(table, exact, None), NODE)
    assert destinations() == local
    assert proxier.verify(table, NODE) == []


def test_the_scheduler_is_the_wanted_one(ipvs: Ipvs, open_mode: Callable[..., Proxier]) -> None:
    for scheduler in ("lc", "mh"):
        proxier = open_mode(ProxyOptions(ipvs=IpvsOptions(scheduler=scheduler)))
        proxier.resync(scenario.table(NODE), NODE)
        assert {listed.service.scheduler for listed in ipvs.services()} == {scheduler}


def test_a_service_that_becomes_sticky_leaves_ipvs_and_comes_back(
    ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    item = scenario.service(Policy.CLUSTER, Situation.BOTH)
    item["spec"]["sessionAffinity"] = "ClientIP"
    table = ForwardingTable()
    proxier = open_mode()
    proxier.resync(table, NODE)
    for wanted, there in ((SERVICE, True), (item, False), (SERVICE, True)):
        proxier.apply(change(table, wanted, scenario.ENDPOINTS[Situation.BOTH]), NODE)
        assert proxier.is_undisturbed()  # and on that occasion deletes what has no connections left
        assert (ipvs.service(_web()) is not None) is there
        assert proxier.verify(table, NODE) == []


def test_a_scheduler_that_nobody_has_is_named(open_mode: Callable[..., Proxier]) -> None:
    with pytest.raises(ValueError, match="IPVS scheduler 'fastest' is not one of rr, wrr"):
        IpvsOptions(scheduler="fastest")
    options = IpvsOptions()
    object.__setattr__(options, "scheduler", "fastest")  # as a kernel sees it that lacks one of ours
    with pytest.raises(UnsupportedMode, match="no IPVS scheduler 'fastest'"):
        open_mode(ProxyOptions(ipvs=options)).resync(scenario.table(NODE), NODE)


def test_node_ports_answer_on_every_address_that_is_asked_for_and_on_new_ones(
    netns: Path, ipvs: Ipvs, open_mode: Callable[..., Proxier]
) -> None:
    node = scenario.facts("172.31.0.0/16")
    table = scenario.table(node)
    proxier = open_mode()
    proxier.resync(table, node)

    def addresses() -> set[bytes]:
        return {listed.service.key.address for listed in ipvs.services() if listed.service.key.port > 30000}

    own = ip_address(NODE_ADDRESS).packed
    assert addresses() == {own}
    ip(netns.name, "addr add 172.31.9.9/32 dev eth0", "addr add 172.29.0.1/32 dev eth0")
    assert not proxier.is_undisturbed()
    proxier.resync(table, node)
    assert addresses() == {own, bytes((172, 31, 9, 9))}
    ip(netns.name, "addr del 172.31.9.9/32 dev eth0")
    proxier.resync(table, node)
    assert proxier.is_undisturbed()  # and on that occasion deletes what has no connections left
    assert addresses() == {own}

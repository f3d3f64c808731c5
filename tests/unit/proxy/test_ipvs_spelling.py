"""What IPVS must have for a forwarding, and the steps that lead there: never a service without its destinations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.table import (
    ClusterIP,
    Endpoint,
    ExternalIP,
    Forwarding,
    LoadBalancerIP,
    NodePort,
    Protocol,
    Route,
    Routes,
    ServicePortName,
    Verdict,
)
from nodeport.netlink.ipvs.messages import (
    Command,
    Destination,
    DestinationKey,
    ServiceKey,
    VirtualService,
    decode_destination,
    decode_service,
)
from nodeport.proxy.ipvs.plan import Present, Step, bury, narrow, widen
from nodeport.proxy.ipvs.render import SIGNATURE, Rendered, Spelled, Spelling, Wanted, render_forwarding

WEB = ServicePortName(NamespacedName("shop", "web"), "http", Protocol.TCP)
NODE_ADDRESSES = [IPv4Address("172.31.7.11").packed, IPv4Address("192.168.0.1").packed]
SPELLING = Spelling(NODE_ADDRESSES, networks=[IPv4Network("10.96.0.0/16")])
LOCAL = Endpoint.of(IPv4Address("10.244.1.2"), 8080, is_local=True)
REMOTE = Endpoint.of(IPv4Address("10.244.2.2"), 8080, is_local=False)
REFUSED = Route(Verdict.REJECT)


def routes(inside: Route, outside: Route | None = None) -> Routes:
    return Routes(inside, inside, outside or inside)


def forward(*endpoints: Endpoint) -> Route:
    return Route(Verdict.FORWARD, endpoints)


def destination(endpoint: Endpoint) -> DestinationKey:
    return DestinationKey(endpoint.address.packed, endpoint.port)


FRONTENDS = (
    ClusterIP(IPv4Address("10.96.0.10"), 80),
    NodePort(30080),
    ExternalIP(IPv4Address("192.0.2.10"), 80),
    LoadBalancerIP(IPv4Address("198.51.100.10"), 80),
)


def test_every_frontend_is_a_virtual_service_and_a_node_port_one_on_each_address() -> None:
    rendered = render_forwarding(
        WEB, Forwarding(FRONTENDS, routes(forward(LOCAL)), routes(forward(LOCAL, REMOTE))), SPELLING
    )
    exact = {
        ServiceKey(6, item.address.packed, 80): 1 if isinstance(item, ClusterIP) else 2
        for item in FRONTENDS
        if not isinstance(item, NodePort)
    }
    assert {key: len(spelled.destinations) for key, spelled in rendered.exact.items()} == exact
    assert rendered.by_port.keys() == {ServiceKey(6, address, 30080) for address in NODE_ADDRESSES}
    assert rendered.addresses == {IPv4Address("192.0.2.10").packed, IPv4Address("198.51.100.10").packed}
    for key, spelled in {**rendered.exact, **rendered.by_port}.items():
        assert spelled.service == VirtualService(key, "rr", SIGNATURE)


def test_a_cluster_ip_of_no_known_network_is_delivered_by_itself() -> None:
    forwarding = Forwarding(FRONTENDS, routes(forward(LOCAL)), routes(forward(LOCAL)))
    rendered = render_forwarding(WEB, forwarding, Spelling(NODE_ADDRESSES))
    assert IPv4Address("10.96.0.10").packed in rendered.addresses


def test_who_is_refused_or_dropped_finds_no_virtual_service_but_its_address_is_held() -> None:
    for verdict in (Verdict.REJECT, Verdict.DROP):
        nothing = routes(Route(verdict))
        rendered = render_forwarding(WEB, Forwarding(FRONTENDS, nothing, nothing), SPELLING)
        assert rendered.exact == rendered.by_port == {}
        assert len(rendered.addresses) == 2


def test_what_policy_local_says_to_outsiders_is_not_the_business_of_ipvs() -> None:
    external = routes(forward(LOCAL, REMOTE), forward(LOCAL))
    rendered = render_forwarding(WEB, Forwarding((NodePort(30080),), routes(REFUSED), external), SPELLING)
    assert {spelled.destinations for spelled in rendered.by_port.values()} == {
        frozenset((destination(LOCAL), destination(REMOTE)))
    }


def test_session_affinity_is_the_business_of_the_table_beside() -> None:
    """Persistence of IPVS would be each frontend's own; a client's endpoint is the Service port's."""
    reached = routes(forward(LOCAL))
    rendered = render_forwarding(
        WEB, Forwarding(FRONTENDS, reached, reached, (), timedelta(hours=3)), SPELLING
    )
    assert rendered.exact == rendered.by_port == {}
    assert len(rendered.addresses) == 2


def test_an_address_is_held_as_long_as_one_port_wants_it() -> None:
    wanted = Wanted()
    http, https = Rendered(addresses={b"held"}), Rendered(addresses={b"held"})
    wanted.put(http)
    wanted.put(https)
    wanted.withdraw(http)
    assert set(wanted.addresses) == {b"held"}
    wanted.withdraw(https)
    assert set(wanted.addresses) == set()


def test_a_frontend_is_not_gone_while_the_table_beside_decides_about_it() -> None:
    key = ServiceKey(6, NODE_ADDRESSES[0], 30080)
    spread = Rendered(by_port={key: Spelled(VirtualService(key), frozenset((destination(LOCAL),)))})
    reached = routes(forward(LOCAL))
    forwarding = Forwarding((NodePort(30080),), reached, reached, (), timedelta(hours=3))
    sticky = render_forwarding(WEB, forwarding, Spelling(NODE_ADDRESSES))
    assert sticky.keys == {ServiceKey(6, address, 30080) for address in NODE_ADDRESSES}
    wanted = Wanted()
    assert wanted.is_gone(key)
    wanted.put(spread)
    assert not wanted.is_gone(key)
    wanted.withdraw(spread)
    wanted.put(sticky)
    assert wanted.get(key) is None
    assert not wanted.is_gone(key)
    wanted.withdraw(sticky)
    assert wanted.is_gone(key)


def test_an_exact_address_hides_a_node_port_and_uncovers_it_again() -> None:
    key = ServiceKey(6, NODE_ADDRESSES[0], 30080)
    by_port = Spelled(VirtualService(key), frozenset((destination(LOCAL),)))
    exact = Spelled(VirtualService(key), frozenset((destination(REMOTE),)))
    wanted = Wanted()
    wanted.put(Rendered(by_port={key: by_port}))
    wanted.put(Rendered(exact={key: exact}))
    assert wanted.get(key) == exact
    wanted.withdraw(Rendered(exact={key: exact}))
    assert wanted.get(key) == by_port
    assert wanted.keys() == {key}


KEYS = {protocol: ServiceKey(protocol, IPv4Address("10.96.0.10").packed, 80) for protocol in (6, 17)}


class Model:
    """A kernel that knows one virtual service, and complains as the real one does."""

    def __init__(self, key: ServiceKey) -> None:
        self.key = key
        self.service: VirtualService | None = None
        self.weights: dict[DestinationKey, int] = {}

    def run(self, step: Step) -> None:
        for payload, _ in step.requests:
            self._run(payload)

    def _run(self, payload: bytes) -> None:
        match Command(payload[0]):
            case Command.NEW_SERVICE:
                assert self.service is None
                self.service = _service(payload)
            case Command.SET_SERVICE:
                assert self.service is not None
                self.service = _service(payload)
            case Command.DEL_SERVICE:
                assert self.service is not None
                self.service, self.weights = None, {}
            case command:
                self._run_destination(command, decode_destination(payload, self.key).destination)

    def _run_destination(self, command: Command, item: Destination) -> None:
        assert self.service is not None
        assert (item.key in self.weights) is (command is not Command.NEW_DEST)
        if command is Command.DEL_DEST:
            del self.weights[item.key]
        else:
            self.weights[item.key] = item.weight

    def is_as(self, present: Present | None) -> bool:
        if present is None:
            return self.service is None
        return self.service == present.service and self.weights == present.weights


def _service(payload: bytes) -> VirtualService:
    listed = decode_service(payload)
    assert listed is not None
    return listed.service


pods = st.sets(st.integers(1, 5), min_size=1)
wishes = st.lists(st.none() | pods, max_size=8)


def wish(key: ServiceKey, numbers: Iterable[int]) -> Spelled:
    return Spelled(
        VirtualService(key, flags=SIGNATURE),
        frozenset(DestinationKey(bytes((10, 244, 0, number)), 8080) for number in numbers),
    )


@given(st.sampled_from(sorted(KEYS)), wishes, st.data())
def test_any_sequence_of_wishes_ends_with_the_last_one_and_never_passes_through_nothing(
    protocol: int, sequence: list[set[int] | None], data: st.DataObject
) -> None:
    key = KEYS[protocol]
    model = Model(key)
    present: Present | None = None
    for numbers in sequence:
        wanted = wish(key, numbers) if numbers else None
        before = {item for item, weight in present.weights.items() if weight} if present else set()
        step = Step()
        if wanted is not None:
            present = widen(present, wanted, step)
        model.run(step)
        assert model.is_as(present)
        assert before <= {item for item, weight in model.weights.items() if weight}
        step = Step()
        if present is not None:
            present = narrow(present, wanted, step)
        model.run(step)
        assert model.is_as(present)
        serving = {item for item, weight in model.weights.items() if weight}
        assert serving == (wanted.destinations if wanted else set())
        if present is not None and present.leaving:
            ended = data.draw(st.lists(st.sampled_from(present.leaving), unique=True))
            step = Step()
            present = bury(present, ended, wanted=wanted is not None, step=step)
            model.run(step)
            assert model.is_as(present)
    if protocol == Protocol.UDP and present is not None:
        assert present.leaving == []


@given(st.sampled_from(sorted(KEYS)), pods, pods)
def test_widening_can_be_undone(protocol: int, first: set[int], second: set[int]) -> None:
    key = KEYS[protocol]
    model = Model(key)
    step = Step()
    present = widen(None, wish(key, first), step)
    model.run(step)
    step = Step()
    widen(present, replace(wish(key, second), service=VirtualService(key, "wlc")), step)
    model.run(step)
    model.run(Step(step.undo()))
    assert model.is_as(present)


def test_nothing_to_do_is_no_request() -> None:
    key = KEYS[6]
    step = Step()
    present = widen(None, wish(key, {1, 2}), step)
    again = Step()
    assert widen(present, wish(key, {1, 2}), again) == present
    assert narrow(present, wish(key, {1, 2}), again) == present
    assert again.requests == []
